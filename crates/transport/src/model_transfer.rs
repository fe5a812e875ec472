use bytes::Bytes;

use crate::content_hash::{ContentHash, content_hash};
use crate::control::{Control, MAX_CHUNK_BYTES};

/// Largest size of a face model that a peer accepts, in bytes.
pub const MAX_MODEL_BYTES: usize = 4 * 1024 * 1024;
/// Largest number of bytes in flight, so that the model does not delay other messages.
const WINDOW: usize = 4 * MAX_CHUNK_BYTES;
/// Number of bytes after which the receiver sends the next request.
const REQUEST_INTERVAL: usize = 2 * MAX_CHUNK_BYTES;

/// Why a face model cannot be transferred. The call goes on without a picture.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The size is 0 or larger than [`MAX_MODEL_BYTES`].
    #[error("a face model of {0} bytes is empty or larger than 4 MiB")]
    Size(u32),
    /// A chunk does not continue the bytes received so far, or exceeds the offered size.
    #[error("a chunk of the face model is at byte {found}, expected {expected}")]
    UnexpectedOffset {
        /// Offset of the chunk.
        found: u32,
        /// Offset of the next missing byte.
        expected: u32,
    },
    /// The received model does not have the offered hash.
    #[error("the received face model is not the one that was offered")]
    WrongHash,
}

/// Sender of a face model: offers it, then sends the chunks that the peer requests.
#[derive(Debug)]
pub struct ModelSender {
    bytes: Bytes,
    hash: ContentHash,
    /// The offset of the last request; `None` before the first.
    requested_from: Option<usize>,
    /// The offset of the next chunk.
    sent: usize,
}

impl ModelSender {
    /// Returns a sender of the model `bytes`.
    ///
    /// # Errors
    /// If it is empty or larger than [`MAX_MODEL_BYTES`]: no peer would accept it.
    pub fn new(bytes: Bytes) -> Result<Self, TransferError> {
        if bytes.is_empty() || bytes.len() > MAX_MODEL_BYTES {
            return Err(TransferError::Size(u32::try_from(bytes.len()).unwrap_or(u32::MAX)));
        }
        Ok(Self { hash: content_hash(&bytes), bytes, requested_from: None, sent: 0 })
    }

    /// Returns the offer, which is the first message to send.
    pub fn offer(&self) -> Control {
        Control::ModelOffer { n_bytes: self.bytes.len() as u32, hash: self.hash }
    }

    /// Handles the peer's [`Control::ModelRequest`] for the bytes from `from` on. A request for
    /// another model, or beyond the end of this one, is ignored.
    pub fn handle_request(&mut self, hash: ContentHash, from: u32) {
        let from = from as usize;
        if hash != self.hash || from > self.bytes.len() {
            return;
        }
        if self.requested_from.is_none_or(|previous| from < previous) {
            self.sent = from;
        }
        self.requested_from = Some(from);
    }

    /// Returns the next chunk, unless too many bytes are in flight or nothing is left.
    pub fn poll_chunk(&mut self) -> Option<Control> {
        let end = (self.requested_from? + WINDOW).min(self.bytes.len());
        let chunk_end = (self.sent + MAX_CHUNK_BYTES).min(end);
        if self.sent >= chunk_end {
            return None;
        }
        let bytes = self.bytes[self.sent..chunk_end].to_vec();
        let chunk = Control::ModelChunk { offset: self.sent as u32, bytes };
        self.sent = chunk_end;
        Some(chunk)
    }

    /// Returns the fraction of the model that the peer has confirmed, 0..=1.
    pub fn progress(&self) -> f32 {
        self.requested_from.unwrap_or(0) as f32 / self.bytes.len() as f32
    }
}

/// Receiver of a face model. After a lost connection the transfer resumes where it stopped.
#[derive(Debug)]
pub struct ModelReceiver {
    hash: ContentHash,
    n_bytes: usize,
    bytes: Vec<u8>,
    /// The offset of the last request.
    requested_from: usize,
}

impl ModelReceiver {
    /// Returns a receiver of an offered model, and the request to send.
    ///
    /// `earlier` is the receiver of an earlier connection; it continues if the model is the same.
    ///
    /// # Errors
    /// If the size is 0 or larger than [`MAX_MODEL_BYTES`].
    pub fn new(
        n_bytes: u32,
        hash: ContentHash,
        earlier: Option<Self>,
    ) -> Result<(Self, Control), TransferError> {
        if n_bytes == 0 || n_bytes as usize > MAX_MODEL_BYTES {
            return Err(TransferError::Size(n_bytes));
        }
        let n_bytes = n_bytes as usize;
        let receiver = match earlier {
            Some(earlier) if earlier.hash == hash && earlier.n_bytes == n_bytes => earlier,
            _ => Self { hash, n_bytes, bytes: Vec::new(), requested_from: 0 },
        };
        let request = receiver.request();
        Ok((receiver, request))
    }

    /// Adds a chunk; returns the request to send when one is due.
    ///
    /// # Errors
    /// If the chunk does not continue the bytes so far; it is then ignored. If it completes the
    /// model with a wrong hash; all bytes are then discarded.
    pub fn handle_chunk(
        &mut self,
        offset: u32,
        bytes: &[u8],
    ) -> Result<Option<Control>, TransferError> {
        let expected = self.bytes.len();
        if offset as usize != expected || bytes.len() > self.n_bytes - expected {
            return Err(TransferError::UnexpectedOffset {
                found: offset,
                expected: expected as u32,
            });
        }
        self.bytes.extend_from_slice(bytes);
        if self.is_complete() && content_hash(&self.bytes) != self.hash {
            self.bytes.clear();
            self.requested_from = 0;
            return Err(TransferError::WrongHash);
        }
        if self.is_complete() || self.bytes.len() - self.requested_from >= REQUEST_INTERVAL {
            self.requested_from = self.bytes.len();
            return Ok(Some(self.request()));
        }
        Ok(None)
    }

    /// Returns the model once it is complete and has the offered hash.
    pub fn model(&self) -> Option<&[u8]> {
        self.is_complete().then_some(&self.bytes[..])
    }

    /// Returns the bytes received so far. Their hash is checked when the model is complete.
    pub fn received(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the hash of the offered model.
    pub fn hash(&self) -> ContentHash {
        self.hash
    }

    /// Returns the fraction received, 0..=1.
    pub fn progress(&self) -> f32 {
        self.bytes.len() as f32 / self.n_bytes as f32
    }

    fn is_complete(&self) -> bool {
        self.bytes.len() == self.n_bytes
    }

    fn request(&self) -> Control {
        Control::ModelRequest { hash: self.hash, from: self.bytes.len() as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(n: usize) -> Bytes {
        (0..n).map(|i| (i * i % 251) as u8).collect()
    }

    fn request(sender: &mut ModelSender, message: Option<&Control>) {
        if let Some(Control::ModelRequest { hash, from }) = message {
            sender.handle_request(*hash, *from);
        }
    }

    /// Transfers until `stop` bytes have arrived or nothing is left; returns the most bytes that
    /// were in flight.
    fn run(sender: &mut ModelSender, receiver: &mut ModelReceiver, stop: usize) -> usize {
        let mut most_in_flight = 0;
        loop {
            let chunks: Vec<_> = std::iter::from_fn(|| sender.poll_chunk()).collect();
            if chunks.is_empty() || receiver.bytes.len() >= stop {
                return most_in_flight;
            }
            most_in_flight = most_in_flight.max(chunks.len() * MAX_CHUNK_BYTES);
            for chunk in chunks {
                let Control::ModelChunk { offset, bytes } = chunk else { panic!() };
                let reply = receiver.handle_chunk(offset, &bytes).unwrap();
                request(sender, reply.as_ref());
            }
        }
    }

    fn start(sender: &mut ModelSender, earlier: Option<ModelReceiver>) -> ModelReceiver {
        let Control::ModelOffer { n_bytes, hash } = sender.offer() else { panic!() };
        let (receiver, reply) = ModelReceiver::new(n_bytes, hash, earlier).unwrap();
        request(sender, Some(&reply));
        receiver
    }

    #[test]
    fn a_model_is_transferred_with_few_bytes_in_flight() {
        for n in [1, MAX_CHUNK_BYTES, 250_001] {
            let mut sender = ModelSender::new(model(n)).unwrap();
            assert_eq!(sender.poll_chunk(), None, "nothing is requested yet");
            let mut receiver = start(&mut sender, None);
            assert!(run(&mut sender, &mut receiver, usize::MAX) <= WINDOW);
            assert_eq!(receiver.model(), Some(&model(n)[..]));
            assert_eq!((sender.progress(), receiver.progress()), (1.0, 1.0));
        }
    }

    #[test]
    fn a_transfer_resumes_after_a_lost_connection() {
        let mut sender = ModelSender::new(model(100_000)).unwrap();
        let mut receiver = start(&mut sender, None);
        run(&mut sender, &mut receiver, 40_000);
        let had = receiver.bytes.len();
        let mut sender = ModelSender::new(model(100_000)).unwrap();
        let mut receiver = start(&mut sender, Some(receiver));
        let Some(Control::ModelChunk { offset, bytes }) = sender.poll_chunk() else { panic!() };
        assert_eq!(offset as usize, had);
        receiver.handle_chunk(offset, &bytes).unwrap();
        run(&mut sender, &mut receiver, usize::MAX);
        assert_eq!(receiver.model(), Some(&model(100_000)[..]));
    }

    #[test]
    fn a_model_with_a_wrong_hash_is_discarded() {
        let (mut receiver, _) = ModelReceiver::new(3, content_hash(b"abc"), None).unwrap();
        assert_eq!(receiver.handle_chunk(0, b"abd"), Err(TransferError::WrongHash));
        assert_eq!((receiver.model(), receiver.progress()), (None, 0.0));
    }

    #[test]
    fn unexpected_chunks_and_invalid_sizes_are_refused() {
        let hash = content_hash(b"abc");
        let (mut receiver, _) = ModelReceiver::new(3, hash, None).unwrap();
        for (offset, bytes) in [(1, &b"a"[..]), (0, b"abcd"), (u32::MAX, b"a")] {
            let refused = receiver.handle_chunk(offset, bytes);
            assert_eq!(
                refused,
                Err(TransferError::UnexpectedOffset { found: offset, expected: 0 })
            );
        }
        for n in [0, MAX_MODEL_BYTES as u32 + 1, u32::MAX] {
            assert_eq!(ModelReceiver::new(n, hash, None).unwrap_err(), TransferError::Size(n));
        }
        assert!(ModelSender::new(Bytes::new()).is_err());
    }

    #[test]
    fn invalid_requests_are_ignored() {
        let mut sender = ModelSender::new(model(10)).unwrap();
        sender.handle_request(content_hash(b"another"), 0);
        sender.handle_request(content_hash(&model(10)), 11);
        assert_eq!(sender.poll_chunk(), None);
    }
}
