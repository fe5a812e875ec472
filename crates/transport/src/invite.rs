use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;
use std::sync::LazyLock;

use data_encoding::{BASE64URL_NOPAD, Encoding, Specification};
use sha2::{Digest, Sha256};

use crate::invite_error::{InviteError, KEY_CHARACTERS};

/// Size of the secret of a call, in bytes.
pub const SECRET_BYTES: usize = 16;
/// Size of the checksum of an invite or a manual answer, in bytes.
const CHECK_BYTES: usize = 4;
const _: () = assert!(KEY_CHARACTERS == (SECRET_BYTES + CHECK_BYTES) * 8 / 5);
/// Largest size of a link or a manual answer, in bytes: they may contain a sealed offer or answer.
const MAX_LINK_BYTES: usize = 16 * 1024;
/// Most addresses of the meeting point of a link.
const MAX_HOSTS: usize = 8;
pub(crate) const SCHEME: &str = "feathercall://";
pub(crate) const ANSWER_SCHEME: &str = "feathercall-answer:";
pub(crate) const MANUAL_HOST: &str = "manual";

/// Crockford's base 32: without `i`, `l`, `o` and `u`. Decoding accepts both cases, and `o`, `i`
/// and `l` for the digits they look like.
static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut spec = Specification::new();
    spec.symbols.push_str("0123456789abcdefghjkmnpqrstvwxyz");
    spec.translate.from.push_str("ABCDEFGHJKMNPQRSTVWXYZoOiIlL");
    spec.translate.to.push_str("abcdefghjkmnpqrstvwxyz001111");
    spec.encoding().expect("the alphabet has 32 different symbols")
});

/// Returns the base 32 encoding of links and names of rooms.
pub(crate) fn base32() -> &'static Encoding {
    &BASE32
}

/// Secret that the two peers of a call share: 128 random bits.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret([u8; SECRET_BYTES]);

impl Secret {
    /// Returns the secret with these bytes, which must come from a cryptographically secure random
    /// source.
    pub fn new(random: [u8; SECRET_BYTES]) -> Self {
        Self(random)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    /// Hides the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Meeting point of the two peers of a call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MeetingPoint {
    /// A room of a rendezvous service.
    Rendezvous {
        /// Addresses of the service, at most 8, each `name:port`, `1.2.3.4:port` or `[::1]:port`. The
        /// first is the most likely to work.
        hosts: Vec<String>,
        /// Name of the room, [`Secret::room`] of the invite's secret.
        room: String,
    },
    /// None: the invite contains the sealed offer.
    Manual {
        /// A sealed [`Signal`](crate::Signal).
        offer: Vec<u8>,
    },
}

/// Invite: the link with which a guest joins a call.
///
/// Its text is specified in docs/TRANSPORT.md. The secret is in the fragment of the link, which is
/// not sent to the rendezvous service.
///
/// ```
/// use transport::{Invite, MeetingPoint, Secret};
/// let secret = Secret::new([7; 16]);
/// let hosts = vec!["10.0.0.2:4000".into()];
/// let meeting_point = MeetingPoint::Rendezvous { hosts, room: secret.room() };
/// let link = Invite { meeting_point, secret }.to_string();
/// assert!(link.starts_with("feathercall://10.0.0.2:4000/"));
/// assert_eq!(link.parse::<Invite>().map(|invite| invite.to_string()), Ok(link));
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Invite {
    /// Where the peers meet.
    pub meeting_point: MeetingPoint,
    /// Secret of the call.
    pub secret: Secret,
}

impl fmt::Display for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meeting_point = match &self.meeting_point {
            MeetingPoint::Rendezvous { hosts, room } => format!("{}/{room}", hosts.join(",")),
            MeetingPoint::Manual { offer } => {
                format!("{MANUAL_HOST}/{}", BASE64URL_NOPAD.encode(offer))
            }
        };
        let mut tail = self.secret.0.to_vec();
        tail.extend(checksum(&meeting_point, &self.secret.0));
        write!(f, "{SCHEME}{meeting_point}#{}", BASE32.encode(&tail))
    }
}

impl FromStr for Invite {
    type Err = InviteError;

    /// Parses a link that is intact and has no text around it. [`Invite::find`] reads what people paste.
    fn from_str(link: &str) -> Result<Self, InviteError> {
        let link = link.trim();
        if link.len() > MAX_LINK_BYTES {
            return Err(InviteError::TooLong);
        }
        let rest = strip_scheme(link, SCHEME).ok_or(InviteError::NotAnInvite)?;
        let (meeting_point, tail) = rest.split_once('#').ok_or(InviteError::NoSecret)?;
        if tail.is_empty() {
            return Err(InviteError::NoSecret);
        }
        let tail = BASE32.decode(tail.as_bytes()).map_err(|_| InviteError::Checksum)?;
        let (secret, check) =
            tail.split_first_chunk::<SECRET_BYTES>().ok_or(InviteError::Checksum)?;
        if check != checksum(meeting_point, secret) {
            return Err(InviteError::Checksum);
        }
        let secret = Secret(*secret);
        let (host, room) = meeting_point.split_once('/').ok_or(InviteError::BadMeetingPoint)?;
        let meeting_point = if host == MANUAL_HOST {
            let offer = BASE64URL_NOPAD
                .decode(room.as_bytes())
                .map_err(|_| InviteError::BadMeetingPoint)?;
            MeetingPoint::Manual { offer }
        } else {
            let hosts: Vec<String> = host.split(',').map(str::to_owned).collect();
            if hosts.len() > MAX_HOSTS || !hosts.iter().all(|host| is_host(host)) {
                return Err(InviteError::BadMeetingPoint);
            }
            if room != secret.room() {
                return Err(InviteError::OtherVersion);
            }
            MeetingPoint::Rendezvous { hosts, room: room.to_owned() }
        };
        Ok(Self { meeting_point, secret })
    }
}

/// Text that the guest of a manual call returns to the host: a sealed
/// [`Signal::Answer`](crate::Signal::Answer).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ManualAnswer(pub Vec<u8>);

impl fmt::Display for ManualAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.0.clone();
        bytes.extend(checksum("answer", &self.0));
        write!(f, "{ANSWER_SCHEME}{}", BASE64URL_NOPAD.encode(&bytes))
    }
}

impl FromStr for ManualAnswer {
    type Err = InviteError;

    /// Parses an answer that is intact and has no text around it. [`ManualAnswer::find`] reads what people paste.
    fn from_str(text: &str) -> Result<Self, InviteError> {
        let text = text.trim();
        if text.len() > MAX_LINK_BYTES {
            return Err(InviteError::TooLong);
        }
        let body = strip_scheme(text, ANSWER_SCHEME).ok_or(InviteError::NotAnAnswer)?;
        let mut bytes =
            BASE64URL_NOPAD.decode(body.as_bytes()).map_err(|_| InviteError::AnswerChecksum)?;
        let at = bytes.len().checked_sub(CHECK_BYTES).ok_or(InviteError::AnswerChecksum)?;
        let check = bytes.split_off(at);
        if check != checksum("answer", &bytes) {
            return Err(InviteError::AnswerChecksum);
        }
        Ok(Self(bytes))
    }
}

/// Whether this is `NAME:PORT` or `[IPV6]:PORT`. An IPv6 address may have a zone.
fn is_host(host: &str) -> bool {
    let Some((name, port)) = host.rsplit_once(':') else { return false };
    let is_of = |text: &str, marks: &[u8]| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || marks.contains(&b))
    };
    let is_name_valid = match name.strip_prefix('[').map(|name| name.strip_suffix(']')) {
        Some(None) => false,
        Some(Some(address)) => {
            let (address, zone) = address.split_once('%').unwrap_or((address, "0"));
            address.parse::<Ipv6Addr>().is_ok() && is_of(zone, b"-._~%")
        }
        None => is_of(name, b"-._"),
    };
    is_name_valid && name.len() <= 255 && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn strip_scheme<'a>(text: &'a str, scheme: &str) -> Option<&'a str> {
    let head = text.get(..scheme.len())?;
    head.eq_ignore_ascii_case(scheme).then(|| &text[scheme.len()..])
}

/// Returns the first bytes of SHA-256 over the meeting point and the secret.
fn checksum(meeting_point: &str, secret: &[u8]) -> [u8; CHECK_BYTES] {
    let mut hash = Sha256::new();
    hash.update(b"feathercall v1 invite\0");
    hash.update(meeting_point.as_bytes());
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
        let meeting_point = MeetingPoint::Rendezvous {
            hosts: vec!["call.example:4433".into()],
            room: secret.room(),
        };
        Invite { meeting_point, secret }
    }

    /// If this fails, existing links are no longer valid.
    #[test]
    fn v2_invite_is_exactly_this_text() {
        assert_eq!(invite().to_string(), LINK);
        assert_eq!(LINK.parse(), Ok(invite()));
    }
    const LINK: &str =
        "feathercall://call.example:4433/6544j2tadb5bpr2t#008j4ct4ank7f24snaxwsqfezzfptdcj";

    #[test]
    fn a_link_survives_capitals_spaces_and_misread_letters() {
        let (head, tail) = LINK.split_once('#').unwrap();
        let altered = format!("  {head}#{}\n", tail.to_uppercase().replace('0', "O"));
        assert_eq!(altered.parse(), Ok(invite()));
    }

    #[test]
    fn every_wrong_character_is_detected() {
        for at in 0..LINK.len() {
            let mut changed = LINK.as_bytes().to_vec();
            changed[at] = if changed[at] == b'3' { b'4' } else { b'3' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(changed.parse::<Invite>().is_err(), "{changed}");
        }
    }

    #[test]
    fn an_invalid_link_is_refused_with_the_reason() {
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
        // Its room is that of version 1, so peers of this version would miss each other.
        let old =
            "feathercall://call.example:4433/bkh3h9jtf5b8rpgm#008j4ct4ank7f24snaxwsqfezzvdajc5";
        assert_eq!(old.parse::<Invite>(), Err(InviteError::OtherVersion));
    }

    #[test]
    fn a_meeting_point_is_up_to_eight_addresses_with_ports() {
        let link_of = |hosts: &[&str]| {
            let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
            let meeting_point = MeetingPoint::Rendezvous { hosts, room: invite().secret.room() };
            Invite { meeting_point, ..invite() }
        };
        for hosts in [
            &["10.0.0.2:4000", "[fd00::2]:4000", "my_pc.local:1"][..],
            &["[fe80::1%eth0]:4000"],
            &["[fe80::1%25eth0]:65535"],
            &["a:1"; 8],
        ] {
            let invite = link_of(hosts);
            assert_eq!(invite.to_string().parse(), Ok(invite), "{hosts:?}");
        }
        for hosts in [
            &["no-port"][..],
            &["a:0"],
            &["a:65536"],
            &["a:1", ""],
            &["a:1", "b"],
            &["a:b:1"],
            &["[::1:4000"],
            &["[10.0.0.2]:4000"],
            &["[fe80::1%]:4000"],
            &[":4000"],
            &["a:1"; 9],
        ] {
            let link = link_of(hosts).to_string();
            assert_eq!(link.parse::<Invite>(), Err(InviteError::BadMeetingPoint), "{link}");
        }
    }

    #[test]
    fn the_debug_output_hides_the_secret() {
        assert_eq!(format!("{:?}", invite().secret), "Secret(..)");
    }

    proptest! {
        #[test]
        fn manual_links_and_answers_survive(blob in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let manual = Invite { meeting_point: MeetingPoint::Manual { offer: blob.clone() }, ..invite() };
            prop_assert_eq!(manual.to_string().parse::<Invite>(), Ok(manual));
            let answer = ManualAnswer(blob);
            prop_assert_eq!(answer.to_string().parse::<ManualAnswer>(), Ok(answer));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,80}", tail in "[a-z0-9/:#.]{0,80}") {
            let _ = text.parse::<Invite>();
            let _ = text.parse::<ManualAnswer>();
            let _ = format!("{SCHEME}{tail}").parse::<Invite>();
            let _ = format!("{ANSWER_SCHEME}{tail}").parse::<ManualAnswer>();
        }
    }
}
