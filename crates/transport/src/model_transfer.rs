use bytes::Bytes;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use std::fmt;

use crate::control::{Control, MAX_CHUNK_BYTES};

/// Largest face model a peer accepts.
pub const MAX_MODEL_BYTES: usize = 4 * 1024 * 1024;
/// Bytes under way at most: the model must not crowd out the face that is already moving.
const WINDOW: usize = 4 * MAX_CHUNK_BYTES;
/// The receiver says how far it is this often.
const SAY_EVERY: usize = 2 * MAX_CHUNK_BYTES;

/// SHA-256 of a face model's public bytes: its name everywhere.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct ContentHash(pub [u8; 32]);

impl fmt::Display for ContentHash {
    /// In hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentHash({self})")
    }
}

/// The hash of a model's bytes.
pub fn content_hash(bytes: &[u8]) -> ContentHash {
    ContentHash(Sha256::digest(bytes).into())
}

/// Why a peer's face model cannot be had. The call goes on without its picture.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// Refused before a byte was sent.
    #[error("the peer's face model of {0} bytes is empty or over the limit of 4 MiB")]
    Size(u32),
    /// A piece that belongs nowhere.
    #[error("a piece of the face model at {found} does not continue what is there, {expected}")]
    OutOfPlace {
        /// Where it claims to belong.
        found: u32,
        /// Where the next piece belongs.
        expected: u32,
    },
    /// All bytes are there and are not what was offered.
    #[error("the face model that came is not the one that was offered")]
    WrongHash,
}

/// Hands a face model to the peer: offers it, then sends pieces as the peer asks for them.
#[derive(Debug)]
pub struct ModelSender {
    bytes: Bytes,
    hash: ContentHash,
    /// What the peer said it has; nothing is sent before it has said so.
    wanted_from: Option<usize>,
    sent: usize,
}

impl ModelSender {
    /// A sender of `bytes`.
    ///
    /// # Errors
    /// If they are empty or over [`MAX_MODEL_BYTES`]: no peer would take them.
    pub fn new(bytes: Bytes) -> Result<Self, TransferError> {
        if bytes.is_empty() || bytes.len() > MAX_MODEL_BYTES {
            return Err(TransferError::Size(u32::try_from(bytes.len()).unwrap_or(u32::MAX)));
        }
        Ok(Self { hash: content_hash(&bytes), bytes, wanted_from: None, sent: 0 })
    }

    /// The first message.
    pub fn offer(&self) -> Control {
        Control::ModelOffer { n_bytes: self.bytes.len() as u32, hash: self.hash }
    }

    /// Takes the peer's [`Control::ModelWant`]. One about another model, or past the end of this
    /// one, changes nothing.
    pub fn handle_want(&mut self, hash: ContentHash, from: u32) {
        let from = from as usize;
        if hash != self.hash || from > self.bytes.len() {
            return;
        }
        if self.wanted_from.is_none_or(|before| from < before) {
            self.sent = from;
        }
        self.wanted_from = Some(from);
    }

    /// The next piece, if the peer has room for it.
    pub fn poll_chunk(&mut self) -> Option<Control> {
        let end = (self.wanted_from? + WINDOW).min(self.bytes.len());
        let chunk_end = (self.sent + MAX_CHUNK_BYTES).min(end);
        if self.sent >= chunk_end {
            return None;
        }
        let bytes = self.bytes[self.sent..chunk_end].to_vec();
        let chunk = Control::ModelChunk { offset: self.sent as u32, bytes };
        self.sent = chunk_end;
        Some(chunk)
    }

    /// Share of the model the peer says it has, 0..=1.
    pub fn progress(&self) -> f32 {
        self.wanted_from.unwrap_or(0) as f32 / self.bytes.len() as f32
    }
}

/// Receives a face model. What came before a broken connection is kept, and the transfer resumes
/// where it was.
#[derive(Debug)]
pub struct ModelReceiver {
    hash: ContentHash,
    n_bytes: usize,
    bytes: Vec<u8>,
    said: usize,
}

impl ModelReceiver {
    /// A receiver of what a [`Control::ModelOffer`] offers, and the message to answer with.
    ///
    /// `before` is the receiver of an earlier connection, if there was one: where it was, this
    /// goes on.
    ///
    /// # Errors
    /// If the size is out of bounds.
    pub fn new(
        n_bytes: u32,
        hash: ContentHash,
        before: Option<Self>,
    ) -> Result<(Self, Control), TransferError> {
        if n_bytes == 0 || n_bytes as usize > MAX_MODEL_BYTES {
            return Err(TransferError::Size(n_bytes));
        }
        let n_bytes = n_bytes as usize;
        let receiver = match before {
            Some(before) if before.hash == hash && before.n_bytes == n_bytes => before,
            _ => Self { hash, n_bytes, bytes: Vec::new(), said: 0 },
        };
        let want = receiver.want();
        Ok((receiver, want))
    }

    /// Takes one piece; gives the message to send back when one is due.
    ///
    /// # Errors
    /// If it does not continue what is there, or completes it with a wrong hash; then everything
    /// is forgotten.
    pub fn handle_chunk(
        &mut self,
        offset: u32,
        bytes: &[u8],
    ) -> Result<Option<Control>, TransferError> {
        let expected = self.bytes.len();
        if offset as usize != expected || bytes.len() > self.n_bytes - expected {
            return Err(TransferError::OutOfPlace { found: offset, expected: expected as u32 });
        }
        self.bytes.extend_from_slice(bytes);
        if self.is_complete() && content_hash(&self.bytes) != self.hash {
            self.bytes.clear();
            self.said = 0;
            return Err(TransferError::WrongHash);
        }
        if self.is_complete() || self.bytes.len() - self.said >= SAY_EVERY {
            self.said = self.bytes.len();
            return Ok(Some(self.want()));
        }
        Ok(None)
    }

    /// The model, once it is complete and its hash was checked.
    pub fn model(&self) -> Option<&[u8]> {
        self.is_complete().then_some(&self.bytes[..])
    }

    /// What is here so far, from the first byte on; its hash is checked when it is complete.
    pub fn received(&self) -> &[u8] {
        &self.bytes
    }

    /// The model's hash.
    pub fn hash(&self) -> ContentHash {
        self.hash
    }

    /// Share that is here, 0..=1.
    pub fn progress(&self) -> f32 {
        self.bytes.len() as f32 / self.n_bytes as f32
    }

    fn is_complete(&self) -> bool {
        self.bytes.len() == self.n_bytes
    }

    fn want(&self) -> Control {
        Control::ModelWant { hash: self.hash, from: self.bytes.len() as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(n: usize) -> Bytes {
        (0..n).map(|i| (i * i % 251) as u8).collect()
    }

    fn want(sender: &mut ModelSender, message: Option<&Control>) {
        if let Some(Control::ModelWant { hash, from }) = message {
            sender.handle_want(*hash, *from);
        }
    }

    /// Runs until nothing moves or `stop` bytes are there.
    fn run(sender: &mut ModelSender, receiver: &mut ModelReceiver, stop: usize) -> usize {
        let mut most_under_way = 0;
        loop {
            let chunks: Vec<_> = std::iter::from_fn(|| sender.poll_chunk()).collect();
            if chunks.is_empty() || receiver.bytes.len() >= stop {
                return most_under_way;
            }
            most_under_way = most_under_way.max(chunks.len() * MAX_CHUNK_BYTES);
            for chunk in chunks {
                let Control::ModelChunk { offset, bytes } = chunk else { panic!() };
                let reply = receiver.handle_chunk(offset, &bytes).unwrap();
                want(sender, reply.as_ref());
            }
        }
    }

    fn start(sender: &mut ModelSender, before: Option<ModelReceiver>) -> ModelReceiver {
        let Control::ModelOffer { n_bytes, hash } = sender.offer() else { panic!() };
        let (receiver, reply) = ModelReceiver::new(n_bytes, hash, before).unwrap();
        want(sender, Some(&reply));
        receiver
    }

    #[test]
    fn a_model_crosses_in_pieces_with_few_under_way() {
        for n in [1, MAX_CHUNK_BYTES, 250_001] {
            let mut sender = ModelSender::new(model(n)).unwrap();
            assert_eq!(sender.poll_chunk(), None, "nobody has asked yet");
            let mut receiver = start(&mut sender, None);
            assert!(run(&mut sender, &mut receiver, usize::MAX) <= WINDOW);
            assert_eq!(receiver.model(), Some(&model(n)[..]));
            assert_eq!((sender.progress(), receiver.progress()), (1.0, 1.0));
        }
    }

    #[test]
    fn a_broken_connection_resumes_where_it_was() {
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
    fn a_model_with_one_wrong_byte_is_refused_and_forgotten() {
        let (mut receiver, _) = ModelReceiver::new(3, content_hash(b"abc"), None).unwrap();
        assert_eq!(receiver.handle_chunk(0, b"abd"), Err(TransferError::WrongHash));
        assert_eq!((receiver.model(), receiver.progress()), (None, 0.0));
    }

    #[test]
    fn pieces_that_belong_nowhere_and_impossible_sizes_are_refused() {
        let hash = content_hash(b"abc");
        let (mut receiver, _) = ModelReceiver::new(3, hash, None).unwrap();
        for (offset, bytes) in [(1, &b"a"[..]), (0, b"abcd"), (u32::MAX, b"a")] {
            let refused = receiver.handle_chunk(offset, bytes);
            assert_eq!(refused, Err(TransferError::OutOfPlace { found: offset, expected: 0 }));
        }
        for n in [0, MAX_MODEL_BYTES as u32 + 1, u32::MAX] {
            assert_eq!(ModelReceiver::new(n, hash, None).unwrap_err(), TransferError::Size(n));
        }
        assert!(ModelSender::new(Bytes::new()).is_err());
    }

    #[test]
    fn a_peer_that_asks_for_nonsense_gets_nothing() {
        let mut sender = ModelSender::new(model(10)).unwrap();
        sender.handle_want(content_hash(b"another"), 0);
        sender.handle_want(content_hash(&model(10)), 11);
        assert_eq!(sender.poll_chunk(), None);
    }
}
