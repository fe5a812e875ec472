//! Life of links: what counts as a sign of life, refused guests, replaced signaling.

use bytes::Bytes;
use transport::{Control, Refusal, Role, Seal, Secret, Signal, VERSION};

use super::world::{GUEST, HOST, World, config, millis, secs};
use super::{assert_end, has_event};
use crate::event::{Command, LinkError};
use crate::session::{Input, LinkEvent, LinkId, SignalingEvent};

/// Returns a seal of another guest with the same invite.
fn other_guest() -> Seal {
    Seal::new(Secret::new([9; 16]), Role::Guest, [3; 16])
}

fn announce(world: &mut World, guest: &mut Seal) {
    let sealed = guest.seal_unbound(&Signal::Announce(VERSION).to_bytes());
    let event = SignalingEvent::Sealed(Bytes::from(sealed));
    world.handle(HOST, Input::Signaling(event));
}

/// Returns the refusals of this guest among the sealed messages.
fn refusals(world: &World, guest: &mut Seal) -> Vec<Refusal> {
    let opened = world.sealed.iter().filter_map(|sealed| {
        let opened = guest.open(sealed).ok();
        guest.forget_peer();
        Signal::parse(&opened?).ok()
    });
    let refusal = |signal| match signal {
        Signal::Refuse(refusal) => Some(refusal),
        _ => None,
    };
    opened.filter_map(refusal).collect()
}

#[test]
fn a_guest_without_a_host_says_so_once() {
    let mut world = World::new();
    world.add(config(Role::Guest, 2));
    world.run_for(millis(9900));
    assert_eq!(world.peers[0].take_events(), [""; 0]);
    world.run_for(secs(100));
    assert_eq!(world.peers[0].take_events(), ["NoHostYet"]);
    let mut world = World::of_two();
    world.run_for(secs(20));
    assert!(!world.peers[GUEST].take_events().contains(&"NoHostYet".to_owned()));
}

#[test]
fn a_second_guest_is_refused_while_the_first_one_lives() {
    let mut world = World::connected();
    let mut guest = other_guest();
    for _ in 0..50 {
        announce(&mut world, &mut guest);
        world.run_for(millis(200));
    }
    let refusals = refusals(&world, &mut guest);
    assert!((5..=8).contains(&refusals.len()), "at most one a second: {}", refusals.len());
    assert!(refusals.iter().all(|refusal| *refusal == Refusal::LinkClosed));
    assert!(world.peers.iter().all(|peer| peer.events.is_empty() && peer.n_links == 1));
}

#[test]
fn a_refused_guest_ends_with_the_reason() {
    for (refusal, want) in [
        (Refusal::AnotherGuest, "Failed(AnotherGuest)"),
        (Refusal::LinkClosed, "Failed(LinkClosed)"),
    ] {
        let mut world = World::new();
        let guest = world.add(config(Role::Guest, 2));
        let mut host = Seal::new(Secret::new([9; 16]), Role::Host, [1; 16]);
        host.open(&world.sealed[0]).unwrap();
        let sealed = Bytes::from(host.seal(&Signal::Refuse(refusal).to_bytes()));
        world.handle(guest, Input::Signaling(SignalingEvent::Sealed(sealed)));
        assert_end(&world, guest, want);
    }
}

#[test]
fn a_connected_guest_cannot_be_refused() {
    let mut world = World::connected();
    let mut host = Seal::new(Secret::new([9; 16]), Role::Host, [8; 16]);
    host.open(&world.sealed[0]).unwrap();
    let sealed = Bytes::from(host.seal(&Signal::Refuse(Refusal::AnotherGuest).to_bytes()));
    world.handle(GUEST, Input::Signaling(SignalingEvent::Sealed(sealed)));
    world.run_for(secs(10));
    assert!(world.peers.iter().all(|peer| peer.end.is_none() && peer.events.is_empty()));
}

#[test]
fn silent_peers_stay_connected_by_their_keep_alives() {
    let mut world = World::connected();
    for index in [HOST, GUEST] {
        world.command(index, Command::SetMuted(true));
        world.command(index, Command::SetCameraOn(false));
    }
    world.run_for(secs(600));
    for peer in &world.peers {
        assert!(!has_event(peer, "PeerLost") && peer.n_links == 1, "{:?}", peer.events);
        let n_packets = peer.stats.packets_out;
        assert!((290..=310).contains(&n_packets), "{n_packets} packets in ten minutes");
    }
}

#[test]
fn signals_and_links_under_construction_are_no_sign_of_life() {
    let mut world = World::connected();
    world.kill(GUEST);
    let mut guest = other_guest();
    // Somebody answers every offer, and talks over every link but the one in use.
    for _ in 0..130 {
        announce(&mut world, &mut guest);
        let hello = Control::Hello { heard: true, token: None, name: "Eve".into() }.to_bytes();
        for id in [0, 77].map(LinkId) {
            world.handle(HOST, Input::Link(id, LinkEvent::Control(Bytes::from(hello.clone()))));
            world.handle(HOST, Input::Link(id, LinkEvent::Features(Bytes::from_static(&[64, 1]))));
        }
        world.run_for(millis(500));
    }
    assert_end(&world, HOST, "PeerVanished");
    assert_eq!(world.peers[HOST].take_events(), ["PeerLost"]);
}

#[test]
fn a_process_that_stood_still_has_lost_its_peer_until_something_fresh_arrives() {
    for standstill in [4, 30, 3600].map(secs) {
        let mut world = World::connected();
        world.rendezvous_is_up = false;
        world.now += standstill;
        // What has waited in the socket's buffer comes first.
        let old = Input::Link(LinkId(1), LinkEvent::Features(Bytes::from_static(&[64, 1])));
        world.handle(GUEST, old);
        assert_eq!(world.peers[GUEST].take_events(), ["PeerLost"], "after {standstill:?}");
        let is_back = |world: &World| has_event(&world.peers[GUEST], "PeerBack");
        let woke_at = world.seconds();
        world.run_until(secs(5), is_back);
        assert!(world.seconds() - woke_at >= 0.5, "old datagrams are no sign of life");
        world.run_for(secs(60));
        assert!(world.peers.iter().all(|peer| peer.end.is_none()));
    }
}

#[test]
fn a_replaced_connection_to_the_service_ends_the_call_of_a_guest_before_it_is_connected() {
    let replaced = || Input::Signaling(SignalingEvent::Replaced);
    let mut world = World::new();
    world.add(config(Role::Guest, 1));
    world.handle(0, replaced());
    assert_end(&world, 0, "Failed(Replaced)");
    let mut world = World::connected();
    world.handle(GUEST, replaced());
    world.run_for(secs(60));
    assert_eq!((world.peers[GUEST].end.as_deref(), world.peers[GUEST].n_reconnects), (None, 0));
    world.break_links();
    world.rendezvous_is_up = false;
    world.run_for(secs(7));
    assert_eq!(world.peers[GUEST].n_reconnects, 1, "it asks when it has lost the host");
    for _ in 0..100 {
        world.handle(GUEST, replaced());
        world.run_for(millis(100));
    }
    let n_reconnects = world.peers[GUEST].n_reconnects;
    assert!((3..=7).contains(&n_reconnects), "with each announcement: {n_reconnects}");
}

#[test]
fn a_host_whose_seat_is_taken_by_somebody_with_the_link_takes_it_back() {
    let mut world = World::new();
    world.add(config(Role::Host, 1));
    for n in 1..=4 {
        let thief = world.add(config(Role::Host, 2));
        world.run_for(millis(4900));
        assert_eq!(world.peers[HOST].n_reconnects, n - 1);
        world.kill(thief);
        world.run_for(millis(200));
        assert_eq!(world.peers[HOST].n_reconnects, n);
    }
    assert_eq!(world.peers[HOST].take_events(), ["GuestFailed(Replaced)"], "told once");
    world.add(config(Role::Guest, 3));
    world.run_for(secs(3));
    assert!(has_event(&world.peers[HOST], "Connected"), "{:?}", world.peers[HOST].end);
}

#[test]
fn a_second_answer_and_answers_of_other_attempts_change_nothing() {
    let mut world = World::of_two();
    world.has_path = false;
    world.run_for(secs(1));
    let mut host = world.peers[HOST].session.fresh_seal();
    assert!(host.open(&world.sealed[0]).is_ok());
    // The guest itself repeats itself and names attempts that never were.
    for attempt in 0..=255 {
        let signal = Signal::Answer { attempt, sdp: "damaged".into() };
        let sealed = world.peers[GUEST].session.signals.seal.seal(&signal.to_bytes());
        let event = SignalingEvent::Sealed(Bytes::from(sealed));
        world.handle(HOST, Input::Signaling(event));
    }
    world.has_path = true;
    world.run_for(secs(6));
    for peer in &world.peers {
        assert!(has_event(peer, "Connected") && peer.n_links == 2, "{:?}", peer.end);
    }
}

#[test]
fn answers_that_webrtc_refuses_end_their_attempts_only() {
    let mut world = World::of_two();
    world.run_for(millis(80));
    let signal = Signal::Answer { attempt: 0, sdp: "damaged".into() };
    let sealed = world.peers[GUEST].session.signals.seal.seal(&signal.to_bytes());
    world.handle(HOST, Input::Signaling(SignalingEvent::Sealed(Bytes::from(sealed))));
    assert_eq!(world.peers[HOST].end, None);
    world.run_for(secs(6));
    for peer in &world.peers {
        assert!(has_event(peer, "Connected") && peer.n_links == 2, "{:?}", peer.end);
    }
}

#[test]
fn a_wrong_certificate_ends_the_call_with_its_own_error() {
    let mut world = World::of_two();
    world.has_path = false;
    world.run_for(secs(1));
    let event = LinkEvent::Error(LinkError::WrongCertificate);
    world.handle(GUEST, Input::Link(LinkId(1), event));
    assert_end(&world, GUEST, "Failed(Link(WrongCertificate))");
}

#[test]
fn channels_nobody_asked_for_end_a_call_but_not_the_wait_for_a_guest() {
    let unknown = || Input::Link(LinkId(1), LinkEvent::Error(LinkError::UnknownChannels));
    let mut world = World::of_two();
    world.has_path = false;
    world.run_for(secs(1));
    world.handle(HOST, unknown());
    assert_eq!(world.peers[HOST].end, None);
    let mut world = World::connected();
    world.handle(HOST, unknown());
    assert_end(&world, HOST, "Failed(Link(UnknownChannels))");
}

#[test]
fn a_guest_answers_another_certificate_with_another_one_of_its_own() {
    let mut world = World::new();
    let guest = world.add(config(Role::Guest, 2));
    let mut host = Seal::new(Secret::new([9; 16]), Role::Host, [1; 16]);
    let certificates = ["AA", "AA", "BB", "BB"];
    for (attempt, byte) in certificates.into_iter().enumerate() {
        let sdp = format!("a=fingerprint:sha-256 {}", [byte; 32].join(":"));
        let offer = Signal::Offer { attempt: attempt as u8, sdp };
        let sealed = Bytes::from(host.seal(&offer.to_bytes()));
        world.handle(guest, Input::Signaling(SignalingEvent::Sealed(sealed)));
        world.run_for(secs(3));
        let is_changed = usize::from(attempt >= 2);
        assert_eq!(world.peers[guest].n_certificates, is_changed, "attempt {attempt}");
    }
    assert_eq!(world.peers[guest].n_links, certificates.len());
}
