use crate::model_transfer::ContentHash;
use crate::wire::Reader;

/// Version of everything peers exchange after signaling. Peers of different versions say so and
/// part.
pub const VERSION: u16 = 1;
/// Longest control message.
pub const MAX_CONTROL_BYTES: usize = 16 * 1024;
/// Longest name of a peer, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 64;
/// Longest chat message, in bytes of UTF-8.
pub const MAX_CHAT_BYTES: usize = 2000;
/// Longest piece of a face model in one message.
pub const MAX_CHUNK_BYTES: usize = 8 * 1024;

/// Why bytes are not a control message. Skip it, unless it was the first.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// Another build has said something this one does not know: newer, or what is no longer said.
    #[error("unknown control message {0}")]
    Unknown(u8),
    /// Longer than its kind may be.
    #[error("a control message of {0} bytes is over the limit")]
    TooLong(usize),
    /// Cut short, or with bytes left over.
    #[error("a control message of kind {0} has the wrong length")]
    WrongLength(u8),
    /// Not UTF-8, or longer than its limit.
    #[error("a control message of kind {0} holds no sound text")]
    BadText(u8),
    /// A number no build sends.
    #[error("a control message of kind {0} holds an impossible value")]
    BadValue(u8),
}

/// Why a peer leaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bye {
    /// It hung up.
    HungUp,
    /// It speaks another version.
    OtherVersion,
    /// It cannot go on.
    Failed,
}

/// One message of the reliable channel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Control {
    /// The first message, both ways.
    Hello {
        /// [`VERSION`] of the sender.
        version: u16,
        /// What it calls itself, perhaps empty.
        name: String,
    },
    /// I have a face model: here is its size and its hash.
    ModelOffer {
        /// Bytes of the model.
        n_bytes: u32,
        /// SHA-256 of them.
        hash: ContentHash,
    },
    /// I have your model up to `from`: send on. `from == n_bytes` says that it is complete.
    ModelWant {
        /// The model offered.
        hash: ContentHash,
        /// Bytes already here.
        from: u32,
    },
    /// A piece of the model.
    ModelChunk {
        /// Where it belongs.
        offset: u32,
        /// At most [`MAX_CHUNK_BYTES`].
        bytes: Vec<u8>,
    },
    /// Whether sound and face are sent.
    Media {
        /// No sound.
        muted: bool,
        /// No features.
        camera_off: bool,
    },
    /// A line of text.
    Chat(String),
    /// The last message.
    Bye(Bye),
}

impl Control {
    /// Kind, then fields.
    ///
    /// Text over its limit is cut at a letter, a chunk over its limit at the limit.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![self.kind()];
        match self {
            Self::Hello { version, name } => {
                out.extend(version.to_le_bytes());
                out.extend(cut(name, MAX_NAME_BYTES).as_bytes());
            }
            Self::ModelOffer { n_bytes, hash } => {
                out.extend(n_bytes.to_le_bytes());
                out.extend(hash.0);
            }
            Self::ModelWant { hash, from } => {
                out.extend(from.to_le_bytes());
                out.extend(hash.0);
            }
            Self::ModelChunk { offset, bytes } => {
                out.extend(offset.to_le_bytes());
                out.extend(&bytes[..bytes.len().min(MAX_CHUNK_BYTES)]);
            }
            Self::Media { muted, camera_off } => {
                out.push(u8::from(*muted) | u8::from(*camera_off) << 1);
            }
            Self::Chat(text) => out.extend(cut(text, MAX_CHAT_BYTES).as_bytes()),
            Self::Bye(why) => out.push(match why {
                Bye::HungUp => 0,
                Bye::OtherVersion => 1,
                Bye::Failed => 2,
            }),
        }
        out
    }

    /// The inverse of [`Control::to_bytes`].
    ///
    /// # Errors
    /// If the bytes are none. [`ControlError::Unknown`] is what a later version's additions give.
    pub fn parse(bytes: &[u8]) -> Result<Self, ControlError> {
        if bytes.len() > MAX_CONTROL_BYTES {
            return Err(ControlError::TooLong(bytes.len()));
        }
        let mut reader = Reader::new(bytes);
        let kind = reader.u8().ok_or(ControlError::WrongLength(0))?;
        let short = ControlError::WrongLength(kind);
        let text = |bytes: &[u8], limit: usize| {
            std::str::from_utf8(bytes)
                .ok()
                .filter(|text| text.len() <= limit)
                .map(str::to_owned)
                .ok_or(ControlError::BadText(kind))
        };
        let message = match kind {
            0 => {
                let version = reader.u16().ok_or(short)?;
                return Ok(Self::Hello { version, name: text(reader.rest(), MAX_NAME_BYTES)? });
            }
            1 => Self::ModelOffer {
                n_bytes: reader.u32().ok_or(short)?,
                hash: ContentHash(reader.array().ok_or(short)?),
            },
            2 => {
                let from = reader.u32().ok_or(short)?;
                Self::ModelWant { hash: ContentHash(reader.array().ok_or(short)?), from }
            }
            3 => {
                let offset = reader.u32().ok_or(short)?;
                let bytes = reader.rest().to_vec();
                if bytes.is_empty() || bytes.len() > MAX_CHUNK_BYTES {
                    return Err(short);
                }
                return Ok(Self::ModelChunk { offset, bytes });
            }
            5 => match reader.u8().ok_or(short)? {
                flags @ 0..=3 => Self::Media { muted: flags & 1 != 0, camera_off: flags & 2 != 0 },
                _ => return Err(ControlError::BadValue(kind)),
            },
            6 => return Ok(Self::Chat(text(reader.rest(), MAX_CHAT_BYTES)?)),
            8 => Self::Bye(match reader.u8().ok_or(short)? {
                0 => Bye::HungUp,
                1 => Bye::OtherVersion,
                2 => Bye::Failed,
                _ => return Err(ControlError::BadValue(kind)),
            }),
            other => return Err(ControlError::Unknown(other)),
        };
        if reader.is_empty() { Ok(message) } else { Err(short) }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Hello { .. } => 0,
            Self::ModelOffer { .. } => 1,
            Self::ModelWant { .. } => 2,
            Self::ModelChunk { .. } => 3,
            Self::Media { .. } => 5,
            Self::Chat(_) => 6,
            Self::Bye(_) => 8,
        }
    }
}

/// The longest beginning of `text` of at most `limit` bytes that ends between letters.
fn cut(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;
    use proptest::prelude::*;

    fn one_of_each() -> Vec<Control> {
        vec![
            Control::Hello { version: 1, name: "Ada".into() },
            Control::ModelOffer { n_bytes: 200_000, hash: ContentHash([7; 32]) },
            Control::ModelWant { hash: ContentHash([7; 32]), from: 8192 },
            Control::ModelChunk { offset: 8192, bytes: vec![1, 2, 3] },
            Control::Media { muted: true, camera_off: false },
            Control::Chat("bonjour, ça va ?".into()),
            Control::Bye(Bye::HungUp),
        ]
    }

    #[test]
    fn every_message_survives_and_none_may_be_cut_or_padded() {
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

    /// If this fails, the wire format changed: fix the code, or raise the version.
    #[test]
    fn v1_messages_have_exactly_these_bytes() {
        for (message, bytes) in one_of_each().iter().zip([
            &hex!("00 0100 416461")[..],
            &hex!("01 400d0300 0707070707070707070707070707070707070707070707070707070707070707"),
            &hex!("02 00200000 0707070707070707070707070707070707070707070707070707070707070707"),
            &hex!("03 00200000 010203"),
            &hex!("05 01"),
            "\u{6}bonjour, ça va ?".as_bytes(),
            &hex!("08 00"),
        ]) {
            assert_eq!(message.to_bytes(), bytes, "{message:?}");
        }
    }

    #[test]
    fn text_over_the_limit_is_cut_between_letters() {
        let long = "é".repeat(MAX_NAME_BYTES);
        let bytes = Control::Hello { version: 1, name: long }.to_bytes();
        let Ok(Control::Hello { name, .. }) = Control::parse(&bytes) else { panic!() };
        assert_eq!(name, "é".repeat(MAX_NAME_BYTES / 2));
        let chat = [&[6][..], &[b'a'; MAX_CHAT_BYTES + 1]].concat();
        assert_eq!(Control::parse(&chat), Err(ControlError::BadText(6)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(message) = Control::parse(&bytes) {
                prop_assert_eq!(message.to_bytes(), bytes);
            }
        }
    }
}
