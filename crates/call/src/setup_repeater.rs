//! Repetition of the datagrams that set up a link: DTLS handshake flights, and the first records
//! of SCTP.
//!
//! DTLS and SCTP repeat lost messages themselves, but too slowly for a bad network: SCTP waits
//! for 1, 2, 4 s and so on, and `rtc-dtls` 0.21 forgets its timer when a part of a flight or a repeated
//! flight arrives (`docs/lab/2026-12-01-dtls-retransmission.md`). This state machine sends the very same
//! datagrams again, which costs nothing on a good path: an answer arrives before the first repetition is
//! due. The receiver's replay window drops copies of what has arrived (RFC 6347 section 4.1.2.6).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// When a flight is repeated, counted from its first transmission, in milliseconds.
const FLIGHT_REPEATS_MS: [u64; 14] =
    [200, 400, 600, 800, 1000, 1300, 1600, 2000, 2500, 3000, 4000, 5000, 6500, 8000];
/// When an application record is repeated while the channels are being opened.
const RECORD_REPEATS_MS: [u64; 7] = [200, 400, 600, 800, 1100, 1500, 2000];
/// When an application record is repeated once the channels are open: SCTP may delay its
/// acknowledgement by 200 ms (RFC 9260 section 6.2).
const OPEN_RECORD_REPEATS_MS: [u64; 4] = [400, 700, 1000, 1500];
/// How long records are repeated after the channels were opened, so that the greetings arrive.
const AFTER_OPEN: Duration = Duration::from_secs(5);
/// Datagrams of one flight that are repeated. Ours have one or two.
const MAX_FLIGHT: usize = 6;
/// Application records that are repeated; the oldest is forgotten.
const MAX_RECORDS: usize = 8;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
/// Kind of handshake message (RFC 5246 section 7.4).
const CLIENT_HELLO: u8 = 1;
/// Size of a DTLS 1.2 record header, in bytes (RFC 6347 section 4.1).
const RECORD_HEADER: usize = 13;
/// Level and description of the alert that refuses a certificate (RFC 5246 section 7.2).
const BAD_CERTIFICATE: [u8; 2] = [2, 42];
/// Size of the header of TURN channel data, in bytes (RFC 8656 section 12.4).
const CHANNEL_DATA_HEADER: usize = 4;

/// A datagram and the way it takes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Datagram {
    /// Index of the socket that has sent it.
    pub(crate) socket: usize,
    pub(crate) destination: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

/// Decides which datagrams of one link are sent again, and when.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about the link")]
#[derive(Debug, Default)]
pub(crate) struct SetupRepeater {
    is_client: bool,
    flight: Option<Flight>,
    records: Vec<Record>,
    /// Epoch and sequence number of the newest application record of the peer.
    newest_arrival: Option<u64>,
    /// Whether application records of the peer were missing when a newer one arrived.
    is_lossy: bool,
    opened: Option<Instant>,
    is_done: bool,
    has_refused_certificate: bool,
}

/// Handshake messages that are sent together and answered together.
#[derive(Debug)]
struct Flight {
    /// Number of the flight (RFC 6347 section 4.2.4).
    number: u8,
    /// Each with its first message.
    datagrams: Vec<(Message, Datagram)>,
    sent: Instant,
    n_repeats: usize,
}

/// Kind and sequence number of a handshake message (RFC 6347 section 4.2.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Message {
    kind: u8,
    sequence: u16,
}

#[derive(Debug)]
struct Record {
    datagram: Datagram,
    sent: Instant,
    n_repeats: usize,
}

impl SetupRepeater {
    /// Notes a datagram that was sent, unless it is a repetition.
    pub(crate) fn handle_sent(
        &mut self,
        now: Instant,
        socket: usize,
        destination: SocketAddr,
        datagram: &[u8],
    ) {
        if self.is_done(now) {
            return;
        }
        let dtls = dtls_of(datagram);
        let datagram = || Datagram { socket, destination, bytes: datagram.to_vec() };
        match dtls.first() {
            Some(&(CHANGE_CIPHER_SPEC | HANDSHAKE)) => self.add_handshake(now, dtls, datagram()),
            Some(&APPLICATION_DATA) => {
                // A client has the server's last flight before it sends data. A server that sends
                // data does not know yet whether its last flight has arrived.
                if self.is_client {
                    self.flight = None;
                }
                if self.records.len() == MAX_RECORDS {
                    self.records.remove(0);
                }
                self.records.push(Record { datagram: datagram(), sent: now, n_repeats: 0 });
            }
            Some(&ALERT) => {
                self.has_refused_certificate |= dtls.get(3..5) == Some(&[0, 0])
                    && dtls.get(RECORD_HEADER..) == Some(BAD_CERTIFICATE.as_slice());
                self.finish();
            }
            _ => {}
        }
    }

    fn add_handshake(&mut self, now: Instant, dtls: &[u8], datagram: Datagram) {
        let first = first_message(dtls);
        self.is_client |= first.kind == CLIENT_HELLO;
        let number = flight_number(self.is_client, first);
        match &mut self.flight {
            Some(flight) if flight.number > number => {}
            // The library repeats the flight itself, or sends another datagram of it.
            Some(flight) if flight.number == number => {
                if flight.datagrams.iter().any(|(message, _)| *message == first) {
                    flight.datagrams.clear();
                }
                if flight.datagrams.len() < MAX_FLIGHT {
                    flight.datagrams.push((first, datagram));
                }
            }
            _ => {
                let datagrams = vec![(first, datagram)];
                self.flight = Some(Flight { number, datagrams, sent: now, n_repeats: 0 });
            }
        }
    }

    /// Notes a datagram that has arrived.
    pub(crate) fn handle_received(&mut self, datagram: &[u8]) {
        let dtls = dtls_of(datagram);
        let (Some(&APPLICATION_DATA), Some(number)) = (dtls.first(), record_number(dtls)) else {
            return;
        };
        // An older record, or a copy, says nothing about what we have sent since.
        if self.newest_arrival.is_some_and(|newest| number <= newest) {
            return;
        }
        self.is_lossy |= self.newest_arrival.is_some_and(|newest| number > newest + 1);
        self.newest_arrival = Some(number);
        self.flight = None;
        // On a good path a newer record is the answer. On a bad one it may have been sent although
        // ours were lost, and SCTP would wait for seconds.
        if !self.is_lossy {
            self.records.clear();
        }
    }

    /// Notes that the channels are open.
    pub(crate) fn handle_open(&mut self, now: Instant) {
        self.opened.get_or_insert(now);
    }

    /// Forgets everything: the link is closed or broken.
    pub(crate) fn finish(&mut self) {
        self.is_done = true;
        self.flight = None;
        self.records.clear();
    }

    /// Returns whether nothing will be repeated any more, whatever is sent.
    pub(crate) fn is_done(&self, now: Instant) -> bool {
        self.is_done
            || self.opened.is_some_and(|at| now.saturating_duration_since(at) >= AFTER_OPEN)
    }

    /// Returns whether this end has refused the peer's DTLS certificate.
    pub(crate) fn has_refused_certificate(&self) -> bool {
        self.has_refused_certificate
    }

    /// Returns when the next repetition is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let flight = self.flight.as_ref().and_then(Flight::due);
        let is_open = self.opened.is_some();
        self.records.iter().filter_map(|record| record.due(is_open)).chain(flight).min()
    }

    /// Returns the datagrams to be sent again at `now`.
    pub(crate) fn poll_repeats(&mut self, now: Instant) -> Vec<Datagram> {
        if self.is_done(now) {
            self.finish();
        }
        let mut repeats = Vec::new();
        if let Some(flight) = &mut self.flight
            && flight.due().is_some_and(|due| due <= now)
        {
            flight.n_repeats += 1;
            repeats.extend(flight.datagrams.iter().map(|(_, datagram)| datagram.clone()));
        }
        let is_open = self.opened.is_some();
        for record in &mut self.records {
            if record.due(is_open).is_some_and(|due| due <= now) {
                record.n_repeats += 1;
                repeats.push(record.datagram.clone());
            }
        }
        repeats
    }
}

impl Flight {
    fn due(&self) -> Option<Instant> {
        let after_ms = FLIGHT_REPEATS_MS.get(self.n_repeats)?;
        Some(self.sent + Duration::from_millis(*after_ms))
    }
}

impl Record {
    fn due(&self, is_open: bool) -> Option<Instant> {
        let repeats: &[u64] = if is_open { &OPEN_RECORD_REPEATS_MS } else { &RECORD_REPEATS_MS };
        Some(self.sent + Duration::from_millis(*repeats.get(self.n_repeats)?))
    }
}

/// Returns the DTLS part of a datagram, without the header of TURN channel data.
fn dtls_of(datagram: &[u8]) -> &[u8] {
    match datagram.first() {
        Some(0x40..=0x4f) => datagram.get(CHANNEL_DATA_HEADER..).unwrap_or_default(),
        _ => datagram,
    }
}

/// Returns epoch and sequence number of the first record as one number.
fn record_number(dtls: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(dtls.get(3..RECORD_HEADER - 2)?.try_into().ok()?))
}

/// Returns the first handshake message. Kind 0 means that it is encrypted, or a change of cipher.
fn first_message(dtls: &[u8]) -> Message {
    let is_plain = dtls.first() == Some(&HANDSHAKE) && dtls.get(3..5) == Some(&[0, 0]);
    match dtls.get(RECORD_HEADER..RECORD_HEADER + 6) {
        Some(&[kind, _, _, _, high, low]) if is_plain => {
            Message { kind, sequence: u16::from_be_bytes([high, low]) }
        }
        _ => Message { kind: 0, sequence: 0 },
    }
}

/// Returns the number of the flight to which a datagram with this first message belongs.
fn flight_number(is_client: bool, first: Message) -> u8 {
    match (is_client, first.kind) {
        // The second client hello contains the server's cookie.
        (true, CLIENT_HELLO) => {
            if first.sequence == 0 {
                1
            } else {
                3
            }
        }
        (true, _) => 5,
        // Hello verify request.
        (false, 3) => 2,
        // Server hello, certificate, key exchange, certificate request, hello done.
        (false, 2 | 11..=14) => 4,
        (false, _) => 6,
    }
}

#[cfg(test)]
mod tests;
