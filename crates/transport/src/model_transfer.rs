use bytes::Bytes;

use crate::content_hash::{ContentHash, content_hash};
use crate::control::{Control, MAX_CHUNK_BYTES};

/// Largest size of a face model that a peer accepts, in bytes.
pub const MAX_MODEL_BYTES: usize = 4 * 1024 * 1024;
/// Largest number of bytes in flight, so that the model does not delay other messages.
const WINDOW: usize = 4 * MAX_CHUNK_BYTES;
/// How many times a model is sent on one link at most. A peer that has lost what it had may ask for
/// it a second time.
const MAX_REPETITION: usize = 2;
/// Number of bytes after which the receiver sends the next request.
const REQUEST_INTERVAL: usize = 2 * MAX_CHUNK_BYTES;

/// Why a face model, or a chunk of it, was refused. The call goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The size is 0 or larger than [`MAX_MODEL_BYTES`].
    #[error("a face model of {0} bytes is empty or larger than 4 MiB")]
    Size(u32),
    /// A chunk does not continue the bytes received so far: it is a repetition, or one before it is
    /// missing. It was dropped; the transfer goes on.
    #[error("a chunk of the face model is at byte {found}, expected {expected}")]
    UnexpectedOffset {
        /// Offset of the chunk.
        found: u32,
        /// Offset of the next missing byte.
        expected: u32,
    },
    /// A chunk ends beyond the offered size.
    #[error("the face model is longer than the {0} bytes that were offered")]
    TooLong(u32),
    /// The received model does not have the offered hash.
    #[error("the received face model is not the one that was offered")]
    WrongHash,
}

/// Sender of a face model: offers it, then sends the chunks that the peer requests.
///
/// On one link a peer gets at most twice the model's bytes, whatever it requests, and nothing more
/// once it has confirmed that the model is complete.
#[derive(Debug)]
pub struct ModelSender {
    bytes: Bytes,
    hash: ContentHash,
    is_offered: bool,
    is_confirmed: bool,
    /// The offset of the last request; `None` before the first.
    requested_from: Option<usize>,
    /// The offset of the next chunk.
    next: usize,
    /// Bytes of all chunks so far.
    n_sent: usize,
}

impl ModelSender {
    /// Returns a sender of the model `bytes`. It hashes them, so keep it for later links.
    ///
    /// # Errors
    /// If it is empty or larger than [`MAX_MODEL_BYTES`]: no peer would accept it.
    pub fn new(bytes: Bytes) -> Result<Self, TransferError> {
        if bytes.is_empty() || bytes.len() > MAX_MODEL_BYTES {
            return Err(TransferError::Size(u32::try_from(bytes.len()).unwrap_or(u32::MAX)));
        }
        Ok(Self::with_hash(content_hash(&bytes), bytes))
    }

    fn with_hash(hash: ContentHash, bytes: Bytes) -> Self {
        Self {
            bytes,
            hash,
            is_offered: false,
            is_confirmed: false,
            requested_from: None,
            next: 0,
            n_sent: 0,
        }
    }

    /// Starts over for a new link: the model is to be offered again.
    pub fn restart(&mut self) {
        *self = Self::with_hash(self.hash, self.bytes.clone());
    }

    /// Returns the offer, which is the first message to send. Requests before it are ignored.
    pub fn offer(&mut self) -> Control {
        self.is_offered = true;
        Control::ModelOffer { n_bytes: self.bytes.len() as u32, hash: self.hash }
    }

    /// Returns whether the model was offered on this link.
    pub fn is_offered(&self) -> bool {
        self.is_offered
    }

    /// Handles the peer's [`Control::ModelRequest`] for the bytes from `from` on. A request for
    /// another model, beyond the end of this one, or after its confirmation is ignored.
    pub fn handle_request(&mut self, hash: ContentHash, from: u32) {
        let from = from as usize;
        let is_open = self.is_offered && !self.is_confirmed;
        if !is_open || hash != self.hash || from > self.bytes.len() {
            return;
        }
        self.is_confirmed = from == self.bytes.len();
        if self.requested_from.is_none_or(|previous| from < previous) {
            self.next = from;
        }
        self.requested_from = Some(from);
    }

    /// Returns the next chunk, unless too many bytes are in flight or nothing is left.
    pub fn poll_chunk(&mut self) -> Option<Control> {
        let end = (self.requested_from? + WINDOW).min(self.bytes.len());
        let chunk_end = (self.next + MAX_CHUNK_BYTES).min(end);
        if self.is_confirmed || self.next >= chunk_end {
            return None;
        }
        let bytes = self.bytes[self.next..chunk_end].to_vec();
        let n_sent = self.n_sent + bytes.len();
        if n_sent > MAX_REPETITION * self.bytes.len() {
            return None;
        }
        let chunk = Control::ModelChunk { offset: self.next as u32, bytes };
        (self.next, self.n_sent) = (chunk_end, n_sent);
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
    /// If the chunk does not continue the bytes so far or is too long; it is then dropped. If it
    /// completes the model with a wrong hash; all bytes are then discarded.
    pub fn handle_chunk(
        &mut self,
        offset: u32,
        bytes: &[u8],
    ) -> Result<Option<Control>, TransferError> {
        let expected = self.bytes.len();
        if offset as usize != expected {
            let expected = expected as u32;
            return Err(TransferError::UnexpectedOffset { found: offset, expected });
        }
        if bytes.len() > self.n_bytes - expected {
            return Err(TransferError::TooLong(self.n_bytes as u32));
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
        sender.restart();
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
        for found in [1, u32::MAX] {
            let refused = receiver.handle_chunk(found, b"a");
            assert_eq!(refused, Err(TransferError::UnexpectedOffset { found, expected: 0 }));
        }
        assert_eq!(receiver.handle_chunk(0, b"abcd"), Err(TransferError::TooLong(3)));
        assert!(receiver.handle_chunk(0, b"abc").is_ok(), "what was refused left no trace");
        for n in [0, MAX_MODEL_BYTES as u32 + 1, u32::MAX] {
            assert_eq!(ModelReceiver::new(n, hash, None).unwrap_err(), TransferError::Size(n));
        }
        assert!(ModelSender::new(Bytes::new()).is_err());
    }

    #[test]
    fn invalid_requests_are_ignored() {
        let mut sender = ModelSender::new(model(10)).unwrap();
        let hash = content_hash(&model(10));
        sender.handle_request(hash, 0);
        assert_eq!(sender.poll_chunk(), None, "it was not offered yet");
        sender.offer();
        sender.handle_request(content_hash(b"another"), 0);
        sender.handle_request(hash, 11);
        assert_eq!(sender.poll_chunk(), None);
    }

    /// Sends requests from these offsets, in turns, and returns how many bytes that has cost.
    fn bytes_sent(sender: &mut ModelSender, requests: impl Iterator<Item = u32>) -> usize {
        let hash = sender.hash;
        let chunks = requests.flat_map(|from| {
            sender.handle_request(hash, from);
            std::iter::from_fn(|| sender.poll_chunk()).collect::<Vec<_>>()
        });
        let sizes = chunks.map(|chunk| match chunk {
            Control::ModelChunk { bytes, .. } => bytes.len(),
            other => panic!("{other:?}"),
        });
        sizes.sum()
    }

    /// 10,000 pairs of requests used to fetch 655 MB.
    #[test]
    fn requests_that_go_back_and_forth_get_the_model_twice_at_most() {
        let mut sender = ModelSender::new(model(200_000)).unwrap();
        for _link in 0..2 {
            sender.offer();
            let n = bytes_sent(&mut sender, (0..20_000).map(|i| (i + 1) % 2));
            assert!((200_000..=400_000).contains(&n), "{n}");
            sender.restart();
        }
    }

    #[test]
    fn a_model_that_was_confirmed_is_not_sent_again() {
        let mut sender = ModelSender::new(model(100_000)).unwrap();
        let mut receiver = start(&mut sender, None);
        run(&mut sender, &mut receiver, usize::MAX);
        assert_eq!(bytes_sent(&mut sender, (0..1000).map(|i| i % 7)), 0);
        sender.restart();
        sender.offer();
        assert_eq!(bytes_sent(&mut sender, [0, 50_000].into_iter()), 82_768);
    }
}
