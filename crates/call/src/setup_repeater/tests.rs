#![expect(clippy::disallowed_methods, reason = "the virtual clock needs an instant to start from")]

use std::sync::Arc;

use bytes::BytesMut;
use numerics::SplitMix64;
use rtc::dtls::cipher_suite::CipherSuiteId;
use rtc::dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc::dtls::endpoint::{Endpoint, EndpointEvent};
use rtc::shared::TransportProtocol;
use webrtc::peer_connection::SrtpProtectionProfile;

use super::*;
use crate::certificate::generate_certificate;

/// Interval at which data is sent again until it is answered, as by SCTP's first timer.
const DATA_INTERVAL: Duration = Duration::from_secs(1);

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// The DTLS settings of a link.
fn config(is_client: bool) -> Arc<HandshakeConfig> {
    let certificate = generate_certificate().unwrap();
    let config = ConfigBuilder::default()
        .with_crypto_provider(rtc::crypto::default_provider().unwrap())
        .with_certificates(vec![certificate.dtls_certificate])
        .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm])
        .with_cipher_suites(vec![CipherSuiteId::Tls_Ecdhe_Ecdsa_With_ChaCha20_Poly1305_Sha256])
        .with_client_auth(ClientAuthType::RequireAnyClientCert)
        .with_insecure_skip_verify(true)
        .with_extended_master_secret(ExtendedMasterSecretType::Require)
        .build(is_client, None);
    Arc::new(config.unwrap())
}

/// One end: DTLS, and data in both directions once it is up.
struct End {
    dtls: Endpoint,
    peer: SocketAddr,
    repeater: Option<SetupRepeater>,
    is_up: bool,
    /// When the client had the answer to its first data.
    answered: Option<Instant>,
    data_sent: Option<Instant>,
    is_client: bool,
    n_sent: usize,
}

impl End {
    fn new(is_client: bool, repeats: bool) -> Self {
        let (own, peer) = if is_client { (1, 2) } else { (2, 1) };
        let server = (!is_client).then(|| config(false));
        Self {
            dtls: Endpoint::new(address(own), TransportProtocol::UDP, server),
            peer: address(peer),
            repeater: repeats.then(SetupRepeater::default),
            is_up: false,
            answered: None,
            data_sent: None,
            is_client,
            n_sent: 0,
        }
    }

    fn receive(&mut self, now: Instant, bytes: &[u8]) {
        if let Some(repeater) = &mut self.repeater {
            repeater.handle_received(bytes);
        }
        for event in self.dtls.read(now, self.peer, None, BytesMut::from(bytes)).unwrap_or_default()
        {
            match event {
                EndpointEvent::HandshakeComplete => self.is_up = true,
                EndpointEvent::ApplicationData(_) if self.is_client => self.answered = Some(now),
                EndpointEvent::ApplicationData(_) => {
                    self.dtls.write(now, self.peer, b"answer").unwrap();
                }
                EndpointEvent::PeerClosed | _ => {}
            }
        }
    }

    /// Does what is due and returns the datagrams to send.
    fn step(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let _ = self.dtls.handle_timeout(self.peer, now);
        let data_due = self.data_sent.is_none_or(|sent| now >= sent + DATA_INTERVAL);
        if self.is_client && self.is_up && self.answered.is_none() && data_due {
            self.dtls.write(now, self.peer, b"data").unwrap();
            self.data_sent = Some(now);
        }
        let mut datagrams = Vec::new();
        while let Some(transmit) = self.dtls.poll_transmit() {
            datagrams.push(transmit.message.to_vec());
        }
        if let Some(repeater) = &mut self.repeater {
            for datagram in &datagrams {
                repeater.handle_sent(now, 0, self.peer, datagram);
            }
            datagrams.extend(repeater.poll_repeats(now).into_iter().map(|repeat| repeat.bytes));
        }
        self.n_sent += datagrams.len();
        datagrams
    }

    fn due(&self) -> Option<Instant> {
        let data =
            self.data_sent.filter(|_| self.answered.is_none()).map(|sent| sent + DATA_INTERVAL);
        let repeat = self.repeater.as_ref().and_then(SetupRepeater::poll_timeout);
        [self.dtls.poll_timeout(&self.peer), repeat, data].into_iter().flatten().min()
    }
}

/// How a handshake over a lossy path went.
struct Outcome {
    /// When the client had the answer to its first data.
    took: Option<Duration>,
    n_datagrams: usize,
}

/// Sets up DTLS with `loss` each way and half of `round_trip` as delay; gives up after 15 s.
fn set_up(loss: f32, round_trip: Duration, repeats: bool, seed: u64) -> Outcome {
    let mut random = SplitMix64::new(seed);
    let start = Instant::now();
    let mut ends = [End::new(true, repeats), End::new(false, repeats)];
    let peer = ends[0].peer;
    ends[0].dtls.connect(start, peer, config(true), None).unwrap();
    let mut in_flight: Vec<(Instant, usize, Vec<u8>)> = Vec::new();
    let mut now = start;
    while now < start + Duration::from_secs(15) && ends[0].answered.is_none() {
        let (due, later) = in_flight.into_iter().partition(|(at, ..)| *at <= now);
        in_flight = later;
        let due: Vec<(Instant, usize, Vec<u8>)> = due;
        for (_, end, bytes) in due {
            ends[end].receive(now, &bytes);
        }
        for (i, end) in ends.iter_mut().enumerate() {
            for bytes in end.step(now) {
                if !random.chance(loss) {
                    in_flight.push((now + round_trip / 2, 1 - i, bytes));
                }
            }
        }
        let arrivals = in_flight.iter().map(|(at, ..)| *at);
        let next = arrivals.chain(ends.iter().filter_map(End::due)).min();
        now = next.map_or(start + Duration::from_secs(15), |at| at.max(now));
    }
    let took = ends[0].answered.map(|at| at - start);
    Outcome { took, n_datagrams: ends[0].n_sent + ends[1].n_sent }
}

/// Returns how many of 40 set-ups at 40 ms of round trip succeed.
fn n_of_40(loss: f32, repeats: bool) -> usize {
    let round_trip = Duration::from_millis(40);
    (0..40).filter(|seed| set_up(loss, round_trip, repeats, *seed).took.is_some()).count()
}

#[test]
fn half_of_all_datagrams_may_be_lost_during_set_up() {
    assert_eq!(n_of_40(0.5, true), 40);
}

/// The reason why there is a repeater. When this test fails, the library may be mended.
#[test]
fn the_library_alone_fails_at_half_loss() {
    let n = n_of_40(0.5, false);
    assert!(n < 30, "{n} of 40 set-ups succeed without repetitions");
}

/// The minimal case of `docs/lab/2026-12-01-dtls-retransmission.md`: the client's fifth flight is lost,
/// the server repeats its fourth, and the client never sends again.
#[test]
fn the_library_forgets_its_timer_when_the_peer_repeats_a_flight() {
    let mut now = Instant::now();
    let (client_address, server_address) = (address(1), address(2));
    let mut client = Endpoint::new(client_address, TransportProtocol::UDP, None);
    let mut server = Endpoint::new(server_address, TransportProtocol::UDP, Some(config(false)));
    client.connect(now, server_address, config(true), None).unwrap();
    // Flights 1 to 4 arrive.
    for _ in 0..2 {
        while let Some(transmit) = client.poll_transmit() {
            server.read(now, client_address, None, transmit.message).unwrap();
        }
        while let Some(transmit) = server.poll_transmit() {
            client.read(now, server_address, None, transmit.message).unwrap();
        }
    }
    // Flight 5 is lost. Its timer runs.
    assert!(std::iter::from_fn(|| client.poll_transmit()).count() > 0);
    assert!(client.poll_timeout(&server_address).is_some());
    // The server's timer is first, and its fourth flight arrives again.
    now = server.poll_timeout(&client_address).unwrap();
    server.handle_timeout(client_address, now).unwrap();
    while let Some(transmit) = server.poll_transmit() {
        client.read(now, server_address, None, transmit.message).unwrap();
    }
    // RFC 6347 section 4.2.4 has the client send flight 5 again now. It sends nothing, now or later.
    assert!(client.poll_transmit().is_none());
    assert_eq!(client.poll_timeout(&server_address), None);
}

#[test]
fn nothing_is_sent_twice_on_a_good_path() {
    let round_trip = Duration::from_millis(40);
    let with = set_up(0.0, round_trip, true, 1);
    let without = set_up(0.0, round_trip, false, 1);
    assert_eq!(with.n_datagrams, without.n_datagrams);
    assert_eq!(with.took, Some(4 * round_trip));
    assert_eq!(without.took, with.took);
}

#[test]
fn a_slow_path_costs_few_repetitions() {
    let outcome = set_up(0.0, Duration::from_millis(900), true, 1);
    let n = outcome.n_datagrams;
    assert!(outcome.took.is_some() && n <= 40, "{n} datagrams");
}

#[test]
fn a_silent_peer_is_sent_a_bounded_number_of_repetitions() {
    let start = Instant::now();
    let mut repeater = SetupRepeater::default();
    let hello = [&[HANDSHAKE, 254, 253][..], &[0; 10], &[CLIENT_HELLO], &[0; 11]].concat();
    repeater.handle_sent(start, 0, address(2), &hello);
    let mut n = 0;
    while let Some(due) = repeater.poll_timeout() {
        n += repeater.poll_repeats(due).len();
    }
    assert_eq!(n, FLIGHT_REPEATS_MS.len());
}

/// A DTLS record with epoch 1.
fn data_record(number: u8) -> Vec<u8> {
    vec![APPLICATION_DATA, 254, 253, 0, 1, 0, 0, 0, 0, 0, number, 0, 1, 9]
}

#[test]
fn only_a_newer_record_of_the_peer_stops_repetitions() {
    let start = Instant::now();
    let mut repeater = SetupRepeater::default();
    repeater.handle_received(&data_record(5));
    repeater.handle_sent(start, 3, address(2), &data_record(1));
    repeater.handle_received(&data_record(5));
    repeater.handle_received(&data_record(4));
    let due = repeater.poll_timeout().unwrap();
    let want = Datagram { socket: 3, destination: address(2), bytes: data_record(1) };
    assert_eq!(repeater.poll_repeats(due), [want]);
    repeater.handle_received(&data_record(6));
    assert_eq!(repeater.poll_timeout(), None);
}

#[test]
fn where_records_are_lost_a_newer_one_does_not_stop_repetitions() {
    let start = Instant::now();
    let mut repeater = SetupRepeater::default();
    repeater.handle_received(&data_record(1));
    repeater.handle_received(&data_record(3));
    repeater.handle_sent(start, 0, address(2), &data_record(1));
    repeater.handle_received(&data_record(4));
    let mut n = 0;
    while let Some(due) = repeater.poll_timeout() {
        n += repeater.poll_repeats(due).len();
    }
    assert_eq!(n, RECORD_REPEATS_MS.len());
}

#[test]
fn repetitions_end_soon_after_the_channels_are_open() {
    let start = Instant::now();
    let late = start + AFTER_OPEN.mul_f32(0.98);
    let mut repeater = SetupRepeater::default();
    repeater.handle_open(start);
    repeater.handle_sent(start, 0, address(2), &data_record(1));
    assert_eq!(repeater.poll_timeout(), Some(start + Duration::from_millis(400)));
    assert!(!repeater.is_done(late));
    repeater.handle_sent(late, 0, address(2), &data_record(2));
    assert!(repeater.poll_repeats(start + AFTER_OPEN).is_empty());
    assert_eq!(repeater.poll_timeout(), None);
}

#[test]
fn records_inside_turn_channel_data_are_recognized() {
    let start = Instant::now();
    let mut repeater = SetupRepeater::default();
    let relayed = [&[0x40, 0, 0, 14][..], &data_record(1)].concat();
    repeater.handle_sent(start, 0, address(2), &relayed);
    let due = repeater.poll_timeout().unwrap();
    assert_eq!(repeater.poll_repeats(due)[0].bytes, relayed);
}

#[test]
fn a_refused_certificate_is_noticed() {
    let mut repeater = SetupRepeater::default();
    let alert = [ALERT, 254, 253, 0, 0, 0, 0, 0, 0, 0, 4, 0, 2, 2, 42];
    repeater.handle_sent(Instant::now(), 0, address(2), &alert);
    assert!(repeater.has_refused_certificate());
}
