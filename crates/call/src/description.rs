//! What a session description and a candidate may contain. Descriptions of the peer and our own
//! pass through here before anybody uses them.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddrV6};

/// SHA-256 of a DTLS certificate (RFC 8122 section 5).
pub(crate) type Fingerprint = [u8; 32];

/// Most candidates that are accepted in one description, and most that may follow it. An honest
/// machine has a few for each network.
pub(crate) const MAX_CANDIDATES: usize = 24;
/// Media sections of a description: sound and data channels.
const MAX_MEDIA: usize = 2;

/// Returns a description without the candidates that are not admitted, or `None` if it describes
/// something else than one call.
///
/// A call has at most one section for sound and one for data channels, and one DTLS fingerprint.
/// Without the second rule, WebRTC could verify another fingerprint than the one in the check words.
/// It has the credentials of ICE, without which WebRTC would refuse it half-way. It has no lone
/// carriage return, which could end a line for one reader and not for another.
pub(crate) fn admit_description(sdp: &str, loopback: bool) -> Option<String> {
    fingerprint(sdp)?;
    let has = |attribute: &str| sdp.lines().any(|line| line.starts_with(attribute));
    let has_lone_return = sdp.split("\r\n").any(|line| line.contains('\r'));
    if has_lone_return || !has("a=ice-ufrag:") || !has("a=ice-pwd:") {
        return None;
    }
    let media: Vec<&str> = sdp.lines().filter_map(|line| line.strip_prefix("m=")).collect();
    let n_of = |kind: &str| media.iter().filter(|media| media.starts_with(kind)).count();
    let (sounds, channels) = (n_of("audio "), n_of("application "));
    if media.len() > MAX_MEDIA || sounds + channels != media.len() || sounds > 1 || channels != 1 {
        return None;
    }
    let mut admitted = String::with_capacity(sdp.len());
    let mut n_candidates = 0;
    for line in sdp.lines() {
        if let Some(candidate) = line.strip_prefix("a=candidate:") {
            n_candidates += 1;
            if n_candidates > MAX_CANDIDATES || !is_admitted(candidate, loopback) {
                continue;
            }
        }
        let _ = write!(admitted, "{line}\r\n");
    }
    Some(admitted)
}

/// Returns whether a candidate may be used: UDP to an address of one machine.
///
/// A candidate of type TCP would make this machine open connections wherever the peer likes, and a name in
/// place of an address (mDNS) would have it ask the local network. Loopback addresses are admitted
/// under `loopback` only. `candidate` is the attribute of RFC 8839 section 5.1, with or without
/// `candidate:`.
pub(crate) fn is_admitted(candidate: &str, loopback: bool) -> bool {
    let candidate = candidate.trim_start().trim_start_matches("candidate:");
    let mut fields = candidate.split_ascii_whitespace();
    let protocol = fields.nth(2).unwrap_or_default();
    let address = fields.nth(1).and_then(|address| address.parse::<IpAddr>().ok());
    let port = fields.next().and_then(|port| port.parse::<u16>().ok()).unwrap_or(0);
    let is_tcp = candidate.split_ascii_whitespace().any(|field| field == "tcptype");
    let is_udp = protocol.eq_ignore_ascii_case("udp") && !is_tcp;
    is_udp && port > 0 && address.is_some_and(|address| is_reachable(address, loopback))
}

fn is_reachable(address: IpAddr, loopback: bool) -> bool {
    let address = address.to_canonical();
    let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    let is_one_machine = !address.is_unspecified() && !address.is_multicast() && !is_broadcast;
    is_one_machine && (loopback || !address.is_loopback())
}

/// Returns our own description as the peer may see it. Under `relay_only` it contains no other address
/// of this end than that of its relay.
pub(crate) fn publish_description(sdp: &str, relay_only: bool) -> String {
    let lines = sdp.lines().filter_map(|line| match line.strip_prefix("a=candidate:") {
        Some(candidate) => {
            let published = publish_candidate(candidate, relay_only)?;
            Some(format!("a=candidate:{published}\r\n"))
        }
        None => Some(format!("{line}\r\n")),
    });
    lines.collect()
}

/// Returns a description or candidate of a machine with nothing but a link-local address of IPv6: WebRTC
/// knows the wildcard alone to which the socket is bound.
pub(crate) fn name_wildcard(text: String, link_local: Option<SocketAddrV6>) -> String {
    match link_local {
        Some(address) => text.replace(" :: ", &format!(" {} ", address.ip())),
        None => text,
    }
}

/// Returns one of our own candidates as the peer may see it, or `None` if it may not. The related
/// address of a relay candidate is the address of this end, and of no use to the peer (RFC 8828 section 5.2).
pub(crate) fn publish_candidate(candidate: &str, relay_only: bool) -> Option<String> {
    if !relay_only {
        return Some(candidate.to_owned());
    }
    let mut fields: Vec<&str> = candidate.split_ascii_whitespace().collect();
    let after = |name: &str, fields: &[&str]| {
        fields.iter().position(|field| *field == name).map(|position| position + 1)
    };
    if after("typ", &fields).and_then(|at| fields.get(at)) != Some(&"relay") {
        return None;
    }
    for (name, hidden) in [("raddr", "0.0.0.0"), ("rport", "0")] {
        if let Some(field) = after(name, &fields).and_then(|at| fields.get_mut(at)) {
            *field = hidden;
        }
    }
    Some(fields.join(" "))
}

/// Returns the DTLS fingerprint of a description, or `None` if there is none, there are different
/// ones, or it is no SHA-256.
pub(crate) fn fingerprint(sdp: &str) -> Option<Fingerprint> {
    let mut values =
        sdp.lines().filter_map(|line| line.strip_prefix("a=fingerprint:")).map(|value| {
            let (hash, digits) = value.trim_end().split_once(' ')?;
            hash.eq_ignore_ascii_case("sha-256").then(|| parse_fingerprint(digits)).flatten()
        });
    let first = values.next()??;
    values.all(|other| other == Some(first)).then_some(first)
}

/// Parses pairs of hexadecimal digits with colons between them.
fn parse_fingerprint(text: &str) -> Option<Fingerprint> {
    let mut bytes = text.split(':').map(|pair| {
        let is_hex = pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_hex.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
    });
    let mut fingerprint = [0; 32];
    for byte in &mut fingerprint {
        *byte = bytes.next()??;
    }
    bytes.next().is_none().then_some(fingerprint)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UDP: &str = "a=candidate:1 1 udp 2130706431 192.0.2.7 4000 typ host";
    const PRINT: &str = "a=fingerprint:sha-256 \
        00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F";

    fn description(lines: &[&str]) -> String {
        let head = ["v=0", "s=-", "t=0 0", "a=ice-ufrag:abcd", "a=ice-pwd:efgh"];
        let lines: Vec<&str> = head.iter().chain(lines).copied().collect();
        lines.join("\r\n") + "\r\n"
    }

    #[test]
    fn only_udp_candidates_of_one_machine_are_admitted() {
        for (candidate, expected) in [
            ("candidate:1 1 udp 2130706431 192.0.2.7 4000 typ host", true),
            ("1 1 UDP 2130706431 192.0.2.7 4000 typ host generation 0", true),
            ("candidate:1 1 udp 1694498815 2001:db8::7 4000 typ srflx raddr :: rport 0", true),
            ("candidate:1 1 udp 1 10.0.0.1 4000 typ relay raddr 0.0.0.0 rport 0", true),
            ("candidate:1 1 tcp 2105524479 192.0.2.7 9 typ host tcptype active", false),
            ("candidate:1 1 TCP 2105524479 192.0.2.7 22 typ host tcptype passive", false),
            ("candidate:1 1 ssltcp 2105524479 192.0.2.7 443 typ host", false),
            ("candidate:1 1 udp 1 192.0.2.7 443 typ host tcptype passive", false),
            ("candidate:1 1 udp 1 4e1b0c5e-0000.local 4000 typ host", false),
            ("candidate:1 1 udp 1 example.org 4000 typ host", false),
            ("candidate:1 1 udp 1 0.0.0.0 4000 typ host", false),
            ("candidate:1 1 udp 1 224.0.0.251 5353 typ host", false),
            ("candidate:1 1 udp 1 255.255.255.255 4000 typ host", false),
            ("candidate:1 1 udp 1 192.0.2.7 0 typ host", false),
            ("candidate:1 1 udp 1 192.0.2.7 70000 typ host", false),
            ("candidate:", false),
            ("", false),
        ] {
            assert_eq!(is_admitted(candidate, false), expected, "{candidate}");
        }
    }

    #[test]
    fn loopback_candidates_are_admitted_on_loopback_alone() {
        for address in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            let candidate = format!("candidate:1 1 udp 1 {address} 4000 typ host");
            assert!(is_admitted(&candidate, true), "{address}");
            assert!(!is_admitted(&candidate, false), "{address}");
        }
    }

    #[test]
    fn a_description_loses_the_candidates_that_are_not_admitted() {
        let tcp = "a=candidate:1 1 tcp 1 127.0.0.1 22 typ host tcptype passive";
        let rest = [PRINT, "m=application 9 UDP/DTLS/SCTP webrtc-datachannel"];
        let sdp = description(&[&rest[..], &[tcp, UDP]].concat());
        let expected = description(&[&rest[..], &[UDP]].concat());
        assert_eq!(admit_description(&sdp, false), Some(expected));
    }

    #[test]
    fn a_description_keeps_a_bounded_number_of_candidates() {
        let mut lines = vec![PRINT, "m=application 9 UDP/DTLS/SCTP webrtc-datachannel"];
        lines.extend([UDP; 200]);
        let admitted = admit_description(&description(&lines), false).unwrap();
        assert_eq!(admitted.matches("candidate").count(), MAX_CANDIDATES);
    }

    #[test]
    fn a_description_has_one_fingerprint_and_at_most_one_section_of_each_kind() {
        let other = PRINT.replace("00:01", "01:00");
        let (sound, data) = ("m=audio 9 UDP/TLS/RTP/SAVPF 111", "m=application 9 UDP/DTLS/SCTP x");
        for (lines, expected) in [
            (vec![PRINT, sound, data], true),
            (vec![PRINT, data], true),
            (vec![PRINT, data, PRINT, sound, PRINT], true),
            (vec![data], false),
            (vec![PRINT], false),
            (vec![PRINT, sound], false),
            (vec![PRINT, &other, data], false),
            (vec![PRINT, data, &other], false),
            (vec![PRINT, data, "a=fingerprint:sha-1 00:01"], false),
            (vec![PRINT, data, data], false),
            (vec![PRINT, sound, sound, data], false),
            (vec![PRINT, data, "m=video 9 UDP/TLS/RTP/SAVPF 96"], false),
            (vec![PRINT, data, "a=x\ra=candidate:1 1 tcp 1 192.0.2.7 22 typ host"], false),
        ] {
            let admitted = admit_description(&description(&lines), false);
            assert_eq!(admitted.is_some(), expected, "{lines:?}");
        }
    }

    #[test]
    fn with_relays_alone_the_peer_sees_the_relay_and_nothing_else() {
        let relay =
            "a=candidate:3 1 udp 16777215 198.51.100.9 5000 typ relay raddr 192.0.2.7 rport 4000";
        let reflexive =
            "a=candidate:2 1 udp 1 203.0.113.5 4000 typ srflx raddr 192.0.2.7 rport 4000";
        let sdp = description(&[PRINT, UDP, reflexive, relay]);
        assert_eq!(publish_description(&sdp, false), sdp);
        let hidden = relay.replace("192.0.2.7 rport 4000", "0.0.0.0 rport 0");
        assert_eq!(publish_description(&sdp, true), description(&[PRINT, &hidden]));
    }

    #[test]
    fn a_wildcard_becomes_the_address_that_it_stands_for() {
        let wildcard = "candidate:1 1 udp 2130706431 :: 4000 typ host".to_owned();
        assert!(!is_admitted(&wildcard, false));
        assert_eq!(name_wildcard(wildcard.clone(), None), wildcard);
        let named = name_wildcard(wildcard, "[fe80::7%3]:0".parse().ok());
        assert_eq!(named, "candidate:1 1 udp 2130706431 fe80::7 4000 typ host");
        assert!(is_admitted(&named, false));
    }

    #[test]
    fn a_description_without_credentials_of_ice_is_refused() {
        let sdp = description(&[PRINT, "m=application 9 UDP/DTLS/SCTP webrtc-datachannel"]);
        for attribute in ["a=ice-ufrag:", "a=ice-pwd:"] {
            assert_eq!(admit_description(&sdp.replace(attribute, "a=other:"), false), None);
        }
    }

    #[test]
    fn the_fingerprint_is_read_in_either_case() {
        let expected = std::array::from_fn(|i| i as u8);
        assert_eq!(fingerprint(PRINT), Some(expected));
        assert_eq!(fingerprint(&PRINT.replace("0A", "0a")), Some(expected));
        assert_eq!(fingerprint(&PRINT.replace(":1F", "")), None);
        assert_eq!(fingerprint(&PRINT.replace("1F", "1G")), None);
    }
}
