use crate::content_hash::ContentHash;
use crate::resume_token::{RESUME_TOKEN_BYTES, ResumeToken};
use crate::wire::FieldReader;

/// Version of the protocol between connected peers. A call between different versions ends with
/// [`Bye::OtherVersion`].
pub const VERSION: u16 = 3;
/// Largest size of a control message, in bytes.
pub const MAX_CONTROL_BYTES: usize = 16 * 1024;
/// Largest size of a peer's name, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 64;
/// Largest size of a chat message, in bytes of UTF-8.
pub const MAX_CHAT_BYTES: usize = 2000;
/// Largest number of bytes in a [`Control::ModelChunk`].
pub const MAX_CHUNK_BYTES: usize = 8 * 1024;

/// Flag of a hello: the sender has received the receiver's hello.
const HEARD: u8 = 1;
/// Flag of a hello: a resume token follows.
const RESUMES: u8 = 2;

/// Why bytes are not a control message. Skip them, except [`ControlError::OtherVersion`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// A kind that this version does not know.
    #[error("unknown control message of kind {0}")]
    Unknown(u8),
    /// A hello of another version, which is given. End the call: the peers do not understand each
    /// other.
    #[error("the peer uses version {0} of the protocol, not {VERSION}")]
    OtherVersion(u16),
    /// Longer than [`MAX_CONTROL_BYTES`].
    #[error("a control message of {0} bytes is longer than {MAX_CONTROL_BYTES}")]
    TooLong(usize),
    /// Truncated, or followed by more bytes.
    #[error("a control message of kind {0} has the wrong length")]
    WrongLength(u8),
    /// The text is not UTF-8 or longer than its limit.
    #[error("a control message of kind {0} has an invalid text")]
    BadText(u8),
    /// A field has a value that the format does not define.
    #[error("a control message of kind {0} has an invalid value")]
    BadValue(u8),
}

/// Why a peer ends the call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bye {
    /// The user hung up.
    HungUp,
    /// The peers use different versions of the protocol.
    OtherVersion,
    /// An error on its side.
    Failed,
}

/// Answer of the host to a guest that asks to join.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Admission {
    /// The host's user is being asked.
    Wait,
    /// The guest is let in. The hello of a later link that carries this token is admitted without
    /// a question.
    Admitted(ResumeToken),
    /// The guest is not let in.
    TurnedAway,
}

/// Message of the reliable control channel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Control {
    /// The first message in both directions. It carries [`VERSION`].
    Hello {
        /// Whether the sender has received the receiver's hello.
        heard: bool,
        /// Token of a guest that was admitted on an earlier link of this call.
        token: Option<ResumeToken>,
        /// The sender's name, which may be empty.
        name: String,
    },
    /// Offers the face model of the sender.
    ModelOffer {
        /// Size of the model, in bytes.
        n_bytes: u32,
        /// Hash of the model.
        hash: ContentHash,
    },
    /// Requests the offered model from an offset on. An offset equal to the size of the model
    /// confirms that it is complete.
    ModelRequest {
        /// Hash of the offered model.
        hash: ContentHash,
        /// Number of bytes that are already here.
        from: u32,
    },
    /// Part of the model.
    ModelChunk {
        /// Offset of its first byte.
        offset: u32,
        /// 1 to [`MAX_CHUNK_BYTES`] bytes.
        bytes: Vec<u8>,
    },
    /// Which media the sender has switched off, and whether it takes part in the sound of the call.
    Media {
        /// No sound is sent.
        muted: bool,
        /// No features are sent.
        camera_off: bool,
        /// The sender has a sound track, over which it also takes feature packets.
        has_sound: bool,
        /// The sender has a face to show, though perhaps not yet or not now.
        has_face: bool,
    },
    /// A chat message.
    Chat(String),
    /// The last message, with the reason.
    Bye(Bye),
    /// From the host to the guest: whether the guest may join.
    Admission(Admission),
}

impl Control {
    /// Serializes the message, as specified in docs/TRANSPORT.md.
    ///
    /// A text longer than its limit is truncated at a character boundary, a longer chunk at its
    /// limit.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![self.kind()];
        match self {
            Self::Hello { heard, token, name } => {
                out.extend(VERSION.to_le_bytes());
                let resumes = if token.is_some() { RESUMES } else { 0 };
                out.push(if *heard { HEARD } else { 0 } | resumes);
                out.extend(token.iter().flat_map(|token| token.0));
                out.extend(truncated(name, MAX_NAME_BYTES).as_bytes());
            }
            Self::ModelOffer { n_bytes, hash } => {
                out.extend(n_bytes.to_le_bytes());
                out.extend(hash.0);
            }
            Self::ModelRequest { hash, from } => {
                out.extend(from.to_le_bytes());
                out.extend(hash.0);
            }
            Self::ModelChunk { offset, bytes } => {
                out.extend(offset.to_le_bytes());
                out.extend(&bytes[..bytes.len().min(MAX_CHUNK_BYTES)]);
            }
            Self::Media { muted, camera_off, has_sound, has_face } => {
                let flags = [*muted, *camera_off, *has_sound, *has_face];
                out.push(
                    (0..).zip(flags).fold(0, |byte, (bit, flag)| byte | u8::from(flag) << bit),
                );
            }
            Self::Chat(text) => out.extend(truncated(text, MAX_CHAT_BYTES).as_bytes()),
            Self::Bye(reason) => out.push(match reason {
                Bye::HungUp => 0,
                Bye::OtherVersion => 1,
                Bye::Failed => 2,
            }),
            Self::Admission(Admission::Wait) => out.push(0),
            Self::Admission(Admission::Admitted(token)) => {
                out.push(1);
                out.extend(token.0);
            }
            Self::Admission(Admission::TurnedAway) => out.push(2),
        }
        out
    }

    /// Parses a message; the inverse of [`Control::to_bytes`].
    ///
    /// # Errors
    /// If the bytes are not a message of this version.
    pub fn parse(bytes: &[u8]) -> Result<Self, ControlError> {
        if bytes.len() > MAX_CONTROL_BYTES {
            return Err(ControlError::TooLong(bytes.len()));
        }
        let mut reader = FieldReader::new(bytes);
        let kind = reader.u8().ok_or(ControlError::WrongLength(0))?;
        let wrong_length = ControlError::WrongLength(kind);
        let text = |bytes: &[u8], limit: usize| {
            std::str::from_utf8(bytes)
                .ok()
                .filter(|text| text.len() <= limit)
                .map(str::to_owned)
                .ok_or(ControlError::BadText(kind))
        };
        let message = match kind {
            0 => {
                let version = reader.u16().ok_or(wrong_length)?;
                if version != VERSION {
                    return Err(ControlError::OtherVersion(version));
                }
                let flags = reader.u8().ok_or(wrong_length)?;
                if flags & !(HEARD | RESUMES) != 0 {
                    return Err(ControlError::BadValue(kind));
                }
                let token = match flags & RESUMES {
                    0 => None,
                    _ => Some(token(&mut reader).ok_or(wrong_length)?),
                };
                let name = text(reader.rest(), MAX_NAME_BYTES)?;
                return Ok(Self::Hello { heard: flags & HEARD != 0, token, name });
            }
            1 => Self::ModelOffer {
                n_bytes: reader.u32().ok_or(wrong_length)?,
                hash: ContentHash(reader.array().ok_or(wrong_length)?),
            },
            2 => {
                let from = reader.u32().ok_or(wrong_length)?;
                Self::ModelRequest { hash: ContentHash(reader.array().ok_or(wrong_length)?), from }
            }
            3 => {
                let offset = reader.u32().ok_or(wrong_length)?;
                let bytes = reader.rest().to_vec();
                if bytes.is_empty() || bytes.len() > MAX_CHUNK_BYTES {
                    return Err(wrong_length);
                }
                return Ok(Self::ModelChunk { offset, bytes });
            }
            5 => match reader.u8().ok_or(wrong_length)? {
                flags @ 0..=15 => Self::Media {
                    muted: flags & 1 != 0,
                    camera_off: flags & 2 != 0,
                    has_sound: flags & 4 != 0,
                    has_face: flags & 8 != 0,
                },
                _ => return Err(ControlError::BadValue(kind)),
            },
            6 => return Ok(Self::Chat(text(reader.rest(), MAX_CHAT_BYTES)?)),
            8 => Self::Bye(match reader.u8().ok_or(wrong_length)? {
                0 => Bye::HungUp,
                1 => Bye::OtherVersion,
                2 => Bye::Failed,
                _ => return Err(ControlError::BadValue(kind)),
            }),
            9 => Self::Admission(match reader.u8().ok_or(wrong_length)? {
                0 => Admission::Wait,
                1 => Admission::Admitted(token(&mut reader).ok_or(wrong_length)?),
                2 => Admission::TurnedAway,
                _ => return Err(ControlError::BadValue(kind)),
            }),
            other => return Err(ControlError::Unknown(other)),
        };
        if reader.is_empty() { Ok(message) } else { Err(wrong_length) }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Hello { .. } => 0,
            Self::ModelOffer { .. } => 1,
            Self::ModelRequest { .. } => 2,
            Self::ModelChunk { .. } => 3,
            Self::Media { .. } => 5,
            Self::Chat(_) => 6,
            Self::Bye(_) => 8,
            Self::Admission(_) => 9,
        }
    }
}

fn token(reader: &mut FieldReader<'_>) -> Option<ResumeToken> {
    reader.array::<RESUME_TOKEN_BYTES>().map(ResumeToken)
}

/// Returns the longest prefix of `text` of at most `limit` bytes.
fn truncated(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;
    use proptest::prelude::*;

    const TOKEN: ResumeToken = ResumeToken([9; RESUME_TOKEN_BYTES]);

    fn one_of_each() -> Vec<Control> {
        vec![
            Control::Hello { heard: false, token: None, name: "Ada".into() },
            Control::Hello { heard: true, token: Some(TOKEN), name: "Ada".into() },
            Control::ModelOffer { n_bytes: 200_000, hash: ContentHash([7; 32]) },
            Control::ModelRequest { hash: ContentHash([7; 32]), from: 8192 },
            Control::ModelChunk { offset: 8192, bytes: vec![1, 2, 3] },
            Control::Media { muted: true, camera_off: false, has_sound: false, has_face: false },
            Control::Media { muted: false, camera_off: true, has_sound: true, has_face: true },
            Control::Chat("bonjour, ça va ?".into()),
            Control::Bye(Bye::HungUp),
            Control::Admission(Admission::Wait),
            Control::Admission(Admission::Admitted(TOKEN)),
            Control::Admission(Admission::TurnedAway),
        ]
    }

    #[test]
    fn every_message_survives_and_none_may_be_truncated_or_padded() {
        for message in one_of_each() {
            let bytes = message.to_bytes();
            assert_eq!(Control::parse(&bytes).as_ref(), Ok(&message));
            let open_ended = matches!(
                message,
                Control::Hello { .. } | Control::ModelChunk { .. } | Control::Chat(_)
            );
            if !open_ended {
                assert!(Control::parse(&bytes[..bytes.len() - 1]).is_err(), "{message:?}");
                assert!(Control::parse(&[&bytes[..], &[0]].concat()).is_err(), "{message:?}");
            }
        }
    }

    /// If this fails, the wire format has changed: fix the code, or raise the version.
    #[test]
    fn messages_have_exactly_these_bytes() {
        for (message, bytes) in one_of_each().iter().zip([
            &[&[0][..], &VERSION.to_le_bytes(), &hex!("00 416461")].concat()[..],
            &[&[0][..], &VERSION.to_le_bytes(), &hex!("03"), &[9; 16], b"Ada"].concat(),
            &hex!("01 400d0300 0707070707070707070707070707070707070707070707070707070707070707"),
            &hex!("02 00200000 0707070707070707070707070707070707070707070707070707070707070707"),
            &hex!("03 00200000 010203"),
            &hex!("05 01"),
            &hex!("05 0e"),
            "\u{6}bonjour, ça va ?".as_bytes(),
            &hex!("08 00"),
            &hex!("09 00"),
            &hex!("09 01 09090909090909090909090909090909"),
            &hex!("09 02"),
        ]) {
            assert_eq!(message.to_bytes(), bytes, "{message:?}");
        }
    }

    #[test]
    fn long_text_is_truncated_between_characters() {
        let long = "é".repeat(MAX_NAME_BYTES);
        let bytes = Control::Hello { heard: false, token: None, name: long }.to_bytes();
        let Ok(Control::Hello { name, .. }) = Control::parse(&bytes) else { panic!() };
        assert_eq!(name, "é".repeat(MAX_NAME_BYTES / 2));
        let chat = [&[6][..], &[b'a'; MAX_CHAT_BYTES + 1]].concat();
        assert_eq!(Control::parse(&chat), Err(ControlError::BadText(6)));
    }

    /// Version 1 had no flags: what follows its version is a name.
    #[test]
    fn a_hello_of_another_version_is_told_apart_whatever_follows() {
        for version in [0, VERSION - 1, VERSION + 1, u16::MAX] {
            for rest in [&b""[..], b"Ada", &[0xff; 80]] {
                let bytes = [&[0][..], &version.to_le_bytes(), rest].concat();
                assert_eq!(Control::parse(&bytes), Err(ControlError::OtherVersion(version)));
            }
        }
    }

    #[test]
    fn undefined_flags_and_admissions_are_refused() {
        let hello = |flags| [&[0][..], &VERSION.to_le_bytes(), &[flags], &[b'a'; 20]].concat();
        for (bytes, error) in [
            (hello(4), ControlError::BadValue(0)),
            (hello(0x80), ControlError::BadValue(0)),
            (hello(2)[..19].to_vec(), ControlError::WrongLength(0)),
            (hello(0)[..3].to_vec(), ControlError::WrongLength(0)),
            (vec![9, 3], ControlError::BadValue(9)),
            (vec![9, 1, 0], ControlError::WrongLength(9)),
        ] {
            assert_eq!(Control::parse(&bytes), Err(error), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn a_hello_survives(heard: bool, token: Option<[u8; 16]>, name in ".{0,16}") {
            let hello = Control::Hello { heard, token: token.map(ResumeToken), name };
            prop_assert_eq!(Control::parse(&hello.to_bytes()), Ok(hello));
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(message) = Control::parse(&bytes) {
                prop_assert_eq!(message.to_bytes(), bytes);
            }
        }
    }
}
