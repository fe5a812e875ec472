use data_encoding::{BASE64URL_NOPAD, Encoding, Specification};
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

/// Bytes of a call's secret: 128 bits.
pub const SECRET_BYTES: usize = 16;
/// Bytes of the checksum behind it.
const CHECK_BYTES: usize = 4;
/// Longest link: a manual one holds a whole sealed offer.
const MAX_LINK_BYTES: usize = 16 * 1024;
const SCHEME: &str = "feathercall://";
const ANSWER_SCHEME: &str = "feathercall-answer:";
const MANUAL_HOST: &str = "manual";

/// Crockford's base 32: no `i`, `l`, `o`, `u`, either case, and a misread `O`, `I` or `L` is
/// understood.
static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut spec = Specification::new();
    spec.symbols.push_str("0123456789abcdefghjkmnpqrstvwxyz");
    spec.translate.from.push_str("ABCDEFGHJKMNPQRSTVWXYZoOiIlL");
    spec.translate.to.push_str("abcdefghjkmnpqrstvwxyz001111");
    spec.encoding().expect("the alphabet has 32 different symbols")
});

/// What the two ends of a call share and nobody else has: 128 bits from the operating system.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret([u8; SECRET_BYTES]);

impl Secret {
    /// From random bytes.
    pub fn new(random: [u8; SECRET_BYTES]) -> Self {
        Self(random)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }

    /// The name of the room that goes with this secret: 16 letters and digits, from which the
    /// secret cannot be told.
    #[expect(clippy::missing_panics_doc, reason = "ten bytes are never too many")]
    pub fn room(&self) -> String {
        let mut name = [0; 10];
        Hkdf::<Sha256>::new(None, &self.0)
            .expand(b"feathercall v1 room", &mut name)
            .expect("ten bytes are less than HKDF's limit");
        BASE32.encode(&name)
    }
}

impl fmt::Debug for Secret {
    /// Does not show the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Why a text is not an invite or an answer. Show the message: it says what to do.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InviteError {
    /// It does not begin as one.
    #[error("an invite begins with `feathercall://`; copy the whole link")]
    NotAnInvite,
    /// It does not begin as an answer does.
    #[error("an answer begins with `feathercall-answer:`; copy the whole text")]
    NotAnAnswer,
    /// There is no `#`, or nothing after it.
    #[error("the link has lost the part behind `#`, which holds the key; copy the whole link")]
    NoSecret,
    /// It is longer than any invite.
    #[error("the link is longer than any invite")]
    TooLong,
    /// The place to meet is not `HOST:PORT/ROOM`.
    #[error("the part before `#` is not HOST:PORT/ROOM")]
    BadPlace,
    /// The letters do not add up.
    #[error("the link has a typing error or was cut; copy it again")]
    Checksum,
}

/// Where the two ends meet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// A room of the rendezvous service at `host` (`name:port`, `1.2.3.4:port` or `[::1]:port`).
    Rendezvous {
        /// Name or address, and port.
        host: String,
        /// Letters, digits and `-`.
        room: String,
    },
    /// Nowhere: the sealed offer is in the link itself.
    Manual {
        /// A sealed [`Signal`](crate::Signal).
        offer: Vec<u8>,
    },
}

/// The link that lets one peer join a call: a place, and a secret that never leaves the two ends
/// (it is the link's fragment).
///
/// ```
/// use transport::{Invite, Place, Secret};
/// let secret = Secret::new([7; 16]);
/// let place = Place::Rendezvous { host: "10.0.0.2:4000".into(), room: secret.room() };
/// let link = Invite { place, secret }.to_string();
/// assert!(link.starts_with("feathercall://10.0.0.2:4000/"));
/// assert_eq!(link.parse::<Invite>().map(|invite| invite.to_string()), Ok(link));
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Invite {
    /// Where to meet.
    pub place: Place,
    /// What protects the meeting.
    pub secret: Secret,
}

impl fmt::Display for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.place {
            Place::Rendezvous { host, room } => format!("{host}/{room}"),
            Place::Manual { offer } => {
                format!("{MANUAL_HOST}/{}", BASE64URL_NOPAD.encode(offer))
            }
        };
        let mut tail = self.secret.0.to_vec();
        tail.extend(checksum(&place, &self.secret.0));
        write!(f, "{SCHEME}{place}#{}", BASE32.encode(&tail))
    }
}

impl FromStr for Invite {
    type Err = InviteError;

    fn from_str(link: &str) -> Result<Self, InviteError> {
        let link = link.trim();
        if link.len() > MAX_LINK_BYTES {
            return Err(InviteError::TooLong);
        }
        let place = strip_scheme(link, SCHEME).ok_or(InviteError::NotAnInvite)?;
        let (place, tail) = place.split_once('#').ok_or(InviteError::NoSecret)?;
        if tail.is_empty() {
            return Err(InviteError::NoSecret);
        }
        let tail = BASE32.decode(tail.as_bytes()).map_err(|_| InviteError::Checksum)?;
        let (secret, check) =
            tail.split_first_chunk::<SECRET_BYTES>().ok_or(InviteError::Checksum)?;
        if check != checksum(place, secret) {
            return Err(InviteError::Checksum);
        }
        let (host, room) = place.split_once('/').ok_or(InviteError::BadPlace)?;
        let place = if host == MANUAL_HOST {
            let offer =
                BASE64URL_NOPAD.decode(room.as_bytes()).map_err(|_| InviteError::BadPlace)?;
            Place::Manual { offer }
        } else {
            if !is_host(host) || !is_room(room) {
                return Err(InviteError::BadPlace);
            }
            Place::Rendezvous { host: host.to_owned(), room: room.to_owned() }
        };
        Ok(Self { place, secret: Secret(*secret) })
    }
}

/// What the invited peer sends back by hand in a manual call: a sealed answer as text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer(pub Vec<u8>);

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.0.clone();
        bytes.extend(checksum("answer", &self.0));
        write!(f, "{ANSWER_SCHEME}{}", BASE64URL_NOPAD.encode(&bytes))
    }
}

impl FromStr for Answer {
    type Err = InviteError;

    fn from_str(text: &str) -> Result<Self, InviteError> {
        let text = text.trim();
        if text.len() > MAX_LINK_BYTES {
            return Err(InviteError::TooLong);
        }
        let body = strip_scheme(text, ANSWER_SCHEME).ok_or(InviteError::NotAnAnswer)?;
        let mut bytes =
            BASE64URL_NOPAD.decode(body.as_bytes()).map_err(|_| InviteError::Checksum)?;
        let at = bytes.len().checked_sub(CHECK_BYTES).ok_or(InviteError::Checksum)?;
        let check = bytes.split_off(at);
        if check != checksum("answer", &bytes) {
            return Err(InviteError::Checksum);
        }
        Ok(Self(bytes))
    }
}

/// Whether a rendezvous service may know a room by this name.
pub fn is_room(room: &str) -> bool {
    (4..=64).contains(&room.len())
        && room.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_host(host: &str) -> bool {
    let Some((name, port)) = host.rsplit_once(':') else { return false };
    let name_is_sound = !name.is_empty()
        && name.len() <= 255
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b));
    name_is_sound && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn strip_scheme<'a>(text: &'a str, scheme: &str) -> Option<&'a str> {
    let head = text.get(..scheme.len())?;
    head.eq_ignore_ascii_case(scheme).then(|| &text[scheme.len()..])
}

/// First bytes of SHA-256 over the place and the secret, so that a slip anywhere is noticed.
fn checksum(place: &str, secret: &[u8]) -> [u8; CHECK_BYTES] {
    let mut hash = Sha256::new();
    hash.update(b"feathercall v1 invite\0");
    hash.update(place.as_bytes());
    hash.update(b"#");
    hash.update(secret);
    let digest = hash.finalize();
    [digest[0], digest[1], digest[2], digest[3]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn invite() -> Invite {
        let secret = Secret::new(std::array::from_fn(|i| i as u8 * 17));
        let place = Place::Rendezvous { host: "call.example:4433".into(), room: secret.room() };
        Invite { place, secret }
    }

    /// If this fails, old links no longer open: keep the old form readable.
    #[test]
    fn v1_invite_is_exactly_this_text() {
        assert_eq!(invite().to_string(), LINK);
        assert_eq!(LINK.parse(), Ok(invite()));
    }
    const LINK: &str =
        "feathercall://call.example:4433/bkh3h9jtf5b8rpgm#008j4ct4ank7f24snaxwsqfezzvdajc5";

    #[test]
    fn a_link_survives_capitals_spaces_and_misread_letters() {
        let (head, tail) = LINK.split_once('#').unwrap();
        let shouted = format!("  {head}#{}\n", tail.to_uppercase().replace('0', "O"));
        assert_eq!(shouted.parse(), Ok(invite()));
    }

    #[test]
    fn every_slip_of_one_letter_is_noticed() {
        for at in 0..LINK.len() {
            let mut slipped = LINK.as_bytes().to_vec();
            slipped[at] = if slipped[at] == b'3' { b'4' } else { b'3' };
            let slipped = String::from_utf8(slipped).unwrap();
            assert!(slipped.parse::<Invite>().is_err(), "{slipped}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_link_is_said() {
        let head = LINK.split_once('#').unwrap().0;
        for (link, want) in [
            ("https://example.org/#abc".to_owned(), InviteError::NotAnInvite),
            (head.to_owned(), InviteError::NoSecret),
            (format!("{head}#"), InviteError::NoSecret),
            (LINK[..LINK.len() - 1].to_owned(), InviteError::Checksum),
            ("feathercall://".to_owned() + &"a".repeat(20_000), InviteError::TooLong),
        ] {
            assert_eq!(link.parse::<Invite>(), Err(want), "{link}");
        }
        let nowhere = Invite {
            place: Place::Rendezvous { host: "no-port".into(), room: "room".into() },
            ..invite()
        };
        assert_eq!(nowhere.to_string().parse::<Invite>(), Err(InviteError::BadPlace));
    }

    #[test]
    fn a_secret_does_not_show_itself_in_a_log() {
        assert_eq!(format!("{:?}", invite().secret), "Secret(..)");
    }

    proptest! {
        #[test]
        fn manual_links_and_answers_survive(blob in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let manual = Invite { place: Place::Manual { offer: blob.clone() }, ..invite() };
            prop_assert_eq!(manual.to_string().parse::<Invite>(), Ok(manual));
            let answer = Answer(blob);
            prop_assert_eq!(answer.to_string().parse::<Answer>(), Ok(answer));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,80}", tail in "[a-z0-9/:#.]{0,80}") {
            let _ = text.parse::<Invite>();
            let _ = text.parse::<Answer>();
            let _ = format!("{SCHEME}{tail}").parse::<Invite>();
            let _ = format!("{ANSWER_SCHEME}{tail}").parse::<Answer>();
        }
    }
}
