use face_shape::FaceShape;

use crate::{Identity, IdentityError, Smoothing, TorsoReference};

/// First bytes.
const MAGIC: &[u8; 4] = b"FCSP";
/// Version of the layout.
const VERSION: u8 = 2;
/// Largest embedder that is parsed, bytes.
const MAX_EMBEDDER: usize = 16 << 20;
const HEADER: usize = 4 + 1 + 8 + 8 + 4;

/// Sender part of a face file: what the owner needs to send features, and peers never receive.
///
/// # Layout
/// Little-endian: `"FCSP"`; version 2 (u8); smoothing, rest frequency and opening (f32 each,
/// infinite rest frequency: off); fingerprint of the tracker (u64); length of the embedder (u32);
/// identity (`[478, 3]` f32); torso reference (112 x 31 gray bytes, then as many bytes 0 or 1);
/// embedder (safetensors file).
#[derive(Clone, Debug, PartialEq)]
pub struct SenderPart {
    /// [`SenderPart::fingerprint`] of the build that enrolled the person. The embedder is valid
    /// only in builds with the same fingerprint.
    pub measured_with: u64,
    /// Neutral face.
    pub identity: Identity,
    /// Filter of the head pose in a call.
    pub smoothing: Smoothing,
    /// Torso at enrollment.
    pub torso: TorsoReference,
    /// Weights of the [`crate::Embedder`], the bytes of a safetensors file.
    pub embedder: Vec<u8>,
}

/// Why bytes are not a sender part.
///
/// The face file is damaged or of another version: enroll again.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SenderPartError {
    /// The magic bytes are missing.
    #[error("these bytes are not the sender part of a face file")]
    NotOne,
    /// Written by another version. Enroll again, or update.
    #[error("sender part version {found}, this build reads {newest}: enroll again, or update")]
    UnsupportedVersion { found: u8, newest: u8 },
    /// Shorter or longer than the header requires.
    #[error("a sender part of {want} bytes has {got}")]
    Length { want: usize, got: usize },
    /// A number of the smoothing is out of range.
    #[error("the smoothing of a sender part is implausible")]
    Smoothing,
    /// The neutral face is damaged.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl SenderPart {
    /// Returns the fingerprint of this build's landmark network and face shape: the FNV-1a hash of
    /// their files.
    ///
    /// Both determine the meaning of the expression coefficients, so an embedder works only with
    /// those used in its training: with others, the PSNR of one test clip (`dfrf_cnn2`) fell from
    /// 29.3 to 21.4 dB.
    pub fn fingerprint() -> u64 {
        let bytes = crate::tracker::WEIGHTS.iter().chain(FaceShape::BUILTIN_BYTES);
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, b| {
            (hash ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }

    /// Returns the bytes in the layout above.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.push(VERSION);
        bytes.extend(self.smoothing.rest_hz.to_le_bytes());
        bytes.extend(self.smoothing.opening.to_le_bytes());
        bytes.extend(self.measured_with.to_le_bytes());
        bytes.extend((self.embedder.len() as u32).to_le_bytes());
        bytes.extend(self.identity.to_bytes());
        bytes.extend(self.torso.to_bytes());
        bytes.extend(&self.embedder);
        bytes
    }

    /// Parses the bytes of [`SenderPart::to_bytes`].
    ///
    /// # Errors
    /// If the bytes are no sender part, damaged or of another version.
    pub fn parse(bytes: &[u8]) -> Result<Self, SenderPartError> {
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
            return Err(SenderPartError::NotOne);
        };
        if !header.starts_with(MAGIC) {
            return Err(SenderPartError::NotOne);
        }
        if header[4] != VERSION {
            return Err(SenderPartError::UnsupportedVersion { found: header[4], newest: VERSION });
        }
        let word = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
        let smoothing = Smoothing {
            rest_hz: f32::from_le_bytes(word(5)),
            opening: f32::from_le_bytes(word(9)),
        };
        if !(smoothing.rest_hz > 0.0 && (0.0..1e6).contains(&smoothing.opening)) {
            return Err(SenderPartError::Smoothing);
        }
        let measured_with =
            u64::from(u32::from_le_bytes(word(13))) | u64::from(u32::from_le_bytes(word(17))) << 32;
        let n_embedder = u32::from_le_bytes(word(21)) as usize;
        let want = HEADER + Identity::BYTES + TorsoReference::BYTES + n_embedder;
        if bytes.len() != want || n_embedder > MAX_EMBEDDER {
            return Err(SenderPartError::Length { want, got: bytes.len() });
        }
        let (identity, rest) = rest.split_at(Identity::BYTES);
        let (torso, embedder) = rest.split_at(TorsoReference::BYTES);
        let torso = TorsoReference::parse(torso)
            .ok_or(SenderPartError::Length { want, got: bytes.len() })?;
        let identity = Identity::parse(identity)?;
        Ok(Self { measured_with, identity, smoothing, torso, embedder: embedder.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{MediaTime, SquareFrame};

    fn part() -> SenderPart {
        let frame = SquareFrame::new(8, MediaTime::ZERO, vec![77; 192]).unwrap();
        SenderPart {
            measured_with: 7,
            identity: Identity::from_points(FaceShape::builtin().unwrap().mean().to_vec()).unwrap(),
            smoothing: Smoothing::CALL,
            torso: TorsoReference::from_frame(&frame, None),
            embedder: vec![1, 2, 3],
        }
    }

    #[test]
    fn a_sender_part_survives_its_bytes() {
        let bytes = part().to_bytes();
        assert_eq!(SenderPart::parse(&bytes).unwrap().to_bytes(), bytes);
    }

    #[test]
    fn truncated_extended_newer_and_foreign_bytes_are_refused() {
        let bytes = part().to_bytes();
        for end in [0, 3, HEADER, HEADER + 100, bytes.len() - 1] {
            assert!(SenderPart::parse(&bytes[..end]).is_err(), "{end}");
        }
        assert!(SenderPart::parse(&[&bytes[..], &[0]].concat()).is_err());
        for (at, value) in [(0, b'X'), (4, 3), (8, 0xff), (24, 0xff)] {
            let mut broken = bytes.clone();
            broken[at] = value;
            assert!(SenderPart::parse(&broken).is_err(), "byte {at}");
        }
    }
}
