//! Somebody with the link who plays an end of the call: nobody but the peer ends a call that was
//! connected, or keeps its two ends from each other.

use bytes::Bytes;
use transport::{Control, Role, SALT_BYTES, Seal, Secret, Signal, VERSION};

use super::admission::{admitted, asking, count, knock, withdrawn};
use super::guests::another_while_the_peer_is_lost;
use super::world::{GUEST, HOST, Peer, World, config, face_file, millis, secs};
use super::{assert_end, assert_features_cross, has_event};
use crate::event::{Command, LinkError};
use crate::session::{Input, LinkEvent, LinkId, SessionConfig, SignalingEvent};

/// A guest that has lost its host, which does not reach the service, and somebody in the seat of the
/// host who is asked whether to let it in.
fn lost_guest_at_a_strangers() -> (World, usize) {
    let mut world = admitted();
    world.break_links();
    world.unserved = Some(HOST);
    world.run_for(secs(6));
    let stranger = world.add(SessionConfig { name: "Eve".into(), ..asking(Role::Host, 5) });
    (world, stranger)
}

/// Lets the host reach the service, and checks that the two meet again.
fn assert_peers_meet_again(world: &mut World, context: &str) {
    assert!(world.peers[..2].iter().all(|peer| peer.end.is_none()), "{context}");
    world.serve_again(HOST);
    for _ in 0..30 {
        world.run_for(secs(1));
    }
    for peer in &mut world.peers[..2] {
        let events = peer.take_events();
        assert_eq!(count(&events, "PeerBack"), 1, "{context}: {events:?}");
        assert_eq!(count(&events, "Connected"), 0, "{context}: {events:?}");
    }
    assert_features_cross(world, 1000..1050);
}

/// Returns a seal with the salt of a peer, made by somebody with the link who has seen its signals.
/// It counts from where nobody has come yet.
fn forger(world: &World, role: Role) -> Seal {
    let secret = || Secret::new([9; 16]);
    let mut listener = Seal::new(secret(), role.other(), [99; 16]);
    let salt_of = |sealed: &Vec<u8>| {
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&sealed[2..2 + SALT_BYTES]);
        salt
    };
    // The announcement of the guest is the first message, the offer of the host the second.
    let [announcement, offer] = [&world.sealed[0], &world.sealed[1]];
    assert!(role == Role::Host || listener.open(announcement).is_ok());
    let (own, other) = match role {
        Role::Guest => (announcement, offer),
        Role::Host => (offer, announcement),
    };
    let mut seal = Seal::new(secret(), role, salt_of(own));
    assert!(seal.open(other).is_ok(), "the forger knows both salts");
    for _ in 0..1000 {
        seal.seal(b"");
    }
    seal
}

fn send_sealed(world: &mut World, to: usize, sealed: Vec<u8>) {
    world.handle(to, Input::Signaling(SignalingEvent::Sealed(Bytes::from(sealed))));
}

#[test]
fn whoever_has_the_seat_of_a_lost_host_does_not_end_the_call_of_its_guest() {
    type Way = dyn Fn(&mut World, usize);
    let ways: [(&str, &Way); 6] = [
        ("it leaves", &|world, stranger| world.command(stranger, Command::HangUp)),
        ("it turns away", &|world, stranger| world.admit(stranger, false)),
        ("it vanishes", &|world, stranger| world.kill(stranger)),
        ("it has another version", &|world, _| {
            let hello = [&[0][..], &(VERSION + 1).to_le_bytes(), b"new"].concat();
            world.handle_control(GUEST, &hello);
        }),
        ("it has a wrong certificate", &|world, _| {
            let id = LinkId(world.peers[GUEST].n_links as u32);
            let event = LinkEvent::Error(LinkError::WrongCertificate);
            world.handle(GUEST, Input::Link(id, event));
        }),
        ("it opens channels", &|world, _| {
            let id = LinkId(world.peers[GUEST].n_links as u32);
            let event = LinkEvent::Error(LinkError::UnknownChannels);
            world.handle(GUEST, Input::Link(id, event));
        }),
    ];
    for (way, act) in ways {
        for knocks in [true, false] {
            let (mut world, stranger) = lost_guest_at_a_strangers();
            world.has_path = knocks;
            world.run_for(secs(4));
            assert_eq!(has_event(&world.peers[stranger], "Knock"), knocks);
            assert!(world.peers[GUEST].n_links >= 2, "it has answered");
            act(&mut world, stranger);
            world.run_for(secs(2));
            world.has_path = true;
            assert_peers_meet_again(&mut world, way);
        }
    }
}

#[test]
fn a_lost_guest_whom_somebody_keeps_waiting_is_found_by_its_host() {
    let (mut world, _) = lost_guest_at_a_strangers();
    world.run_for(secs(20));
    assert!(has_event(&world.peers[GUEST], "AdmissionPending"));
    assert_peers_meet_again(&mut world, "waiting");
}

#[test]
fn a_lost_guest_whom_somebody_keeps_waiting_ends_after_five_minutes() {
    let (mut world, _) = lost_guest_at_a_strangers();
    world.kill(HOST);
    world.run_for(secs(280));
    assert!(world.peers[GUEST].end.is_none(), "its host may have been restarted");
    world.run_for(secs(20));
    assert_end(&world, GUEST, "PeerVanished");
}

#[test]
fn another_host_that_lets_a_lost_guest_in_is_a_new_peer_of_whom_nothing_old_is_kept() {
    let (mut world, stranger) = lost_guest_at_a_strangers();
    world.run_for(secs(4));
    assert_eq!(world.peers[GUEST].face, Some(face_file(1).model.clone()));
    world.peers[GUEST].take_events();
    world.admit(stranger, true);
    world.run_for(secs(2));
    let events = world.peers[GUEST].take_events();
    assert_eq!(events[0], r#"Connected { peer_name: "Eve" }"#, "{events:?}");
    assert_eq!((count(&events, "CheckWords"), count(&events, "PeerBack")), (1, 0), "{events:?}");
    assert_eq!(world.peers[GUEST].face, Some(face_file(5).model.clone()));
}

#[test]
fn nobody_but_the_peer_ends_a_call_or_its_way_back_by_signals() {
    for (to, role) in [(HOST, Role::Guest), (GUEST, Role::Host)] {
        for is_lost in [false, true] {
            let mut world = admitted();
            let mut forger = forger(&world, role);
            world.network_is_up = !is_lost;
            world.run_for(secs(8));
            let signals = [Signal::Leave, Signal::Announce(VERSION), Signal::Leave];
            for signal in &signals {
                let bytes = signal.to_bytes();
                let sealed = forger.seal(&bytes);
                send_sealed(&mut world, to, sealed);
                let sealed = forger.seal_unbound(&bytes);
                send_sealed(&mut world, to, sealed);
                world.run_for(millis(500));
            }
            assert!(world.peers.iter().all(|peer| peer.end.is_none()), "{role:?}, {is_lost}");
            // Whatever the forger has counted, the peers find each other again.
            world.restore_network();
            world.run_for(secs(2));
            world.break_links();
            world.run_for(secs(25));
            assert!(world.peers.iter().all(Peer::is_connected), "{role:?}, {is_lost}");
            for peer in &mut world.peers {
                let events = peer.take_events();
                assert_eq!(count(&events, "Knock") + count(&events, "Admission"), 0, "{events:?}");
            }
        }
    }
}

#[test]
fn a_host_with_a_guest_who_knocks_takes_its_seat_back_for_the_lost_peer() {
    let (mut world, _) = another_while_the_peer_is_lost(false);
    world.run_until(secs(20), |world| world.peers[HOST].events.contains(&knock(2)));
    let thief = world.add(config(Role::Host, 7));
    world.run_for(secs(1));
    assert!(!world.peers[HOST].in_room);
    world.kill(thief);
    world.run_for(secs(6));
    assert!(world.peers[HOST].in_room);
    world.serve_again(GUEST);
    world.run_until(secs(25), |world| has_event(&world.peers[HOST], "PeerBack"));
    assert!(world.peers[HOST].events.contains(&withdrawn(2)));
}

#[test]
fn a_knock_pauses_the_absence_of_the_peer_and_does_not_start_it_again() {
    let (mut world, other) = another_while_the_peer_is_lost(false);
    world.run_until(secs(20), |world| world.peers[HOST].events.contains(&knock(2)));
    world.run_for(secs(100));
    assert!(world.peers[HOST].end.is_none());
    world.command(other, Command::HangUp);
    let since = world.seconds();
    world.run_until(secs(70), |world| world.peers[HOST].end.is_some());
    assert_end(&world, HOST, "PeerVanished");
    let left = world.seconds() - since;
    assert!((35.0..50.0).contains(&left), "{left} s were left, of which 13 had passed before");
}

#[test]
fn with_auto_admit_a_lost_peer_keeps_its_place_for_its_minute() {
    for is_back in [true, false] {
        let mut world = World::connected();
        world.break_links();
        world.unserved = Some(GUEST);
        world.run_for(secs(13));
        let other = world.add(SessionConfig { name: "Eve".into(), ..config(Role::Guest, 3) });
        world.run_for(secs(10));
        assert_eq!(world.peers[HOST].take_events(), ["PeerLost"]);
        assert_eq!(world.peers[other].take_events(), ["AdmissionPending"]);
        if is_back {
            world.serve_again(GUEST);
            world.run_for(secs(20));
            assert_eq!(count(&world.peers[HOST].take_events(), "PeerBack"), 1);
            assert_end(&world, other, "Failed(TurnedAway)");
        } else {
            world.run_for(secs(40));
            let events = world.peers[HOST].take_events();
            assert_eq!(events[0], r#"Connected { peer_name: "Eve" }"#, "{events:?}");
            assert!(has_event(&world.peers[other], "Connected"));
        }
    }
}

#[test]
fn with_auto_admit_a_guest_who_waits_is_let_in_once_the_peer_of_a_kept_link_has_left() {
    let mut world = World::new();
    world.add(SessionConfig { keep_link: true, ..config(Role::Host, 1) });
    world.add(config(Role::Guest, 2));
    world.run_for(secs(1));
    world.break_links();
    world.unserved = Some(GUEST);
    world.run_for(secs(13));
    let other = world.add(config(Role::Guest, 3));
    world.run_for(secs(5));
    assert!(has_event(&world.peers[other], "AdmissionPending"));
    world.serve_again(GUEST);
    world.command(GUEST, Command::HangUp);
    world.run_for(secs(1));
    assert!(has_event(&world.peers[other], "Connected"), "{:?}", world.peers[HOST].events);
    assert_eq!(world.peers[HOST].end, None);
}

#[test]
fn links_for_guests_with_faults_or_new_salts_are_few() {
    let mut world = World::new();
    world.add(config(Role::Host, 1));
    world.add(config(Role::Guest, 2));
    world.has_path = false;
    for _ in 0..200 {
        world.run_for(millis(100));
        let id = LinkId(world.peers[HOST].n_links as u32);
        let event = LinkEvent::Error(LinkError::WrongCertificate);
        world.handle(HOST, Input::Link(id, event));
    }
    let n_links = world.peers[HOST].n_links;
    assert!(n_links <= 5, "{n_links} links for a guest with a wrong certificate in 20 s");

    let mut world = World::new();
    world.add(config(Role::Host, 1));
    for n in 0..200 {
        let mut guest = Seal::new(Secret::new([9; 16]), Role::Guest, [n; 16]);
        let sealed = guest.seal(&Signal::Announce(VERSION).to_bytes());
        send_sealed(&mut world, HOST, sealed);
        world.run_for(millis(100));
    }
    let n_links = world.peers[HOST].n_links;
    assert!(n_links <= 21, "{n_links} links for guests with ever new salts in 20 s");
}

#[test]
fn a_warning_that_somebody_may_be_in_between_is_told_whatever_else_was() {
    let mut world = World::new();
    world.add(config(Role::Host, 1));
    for n in 1..10 {
        let mut guest = Seal::new(Secret::new([9; 16]), Role::Guest, [n; 16]);
        let sealed = guest.seal(&Signal::Announce(VERSION + u16::from(n)).to_bytes());
        send_sealed(&mut world, HOST, sealed);
        world.run_for(millis(200));
    }
    let events = world.peers[HOST].take_events();
    assert_eq!(count(&events, "GuestFailed(OtherVersion"), events.len(), "{events:?}");
    assert_eq!(events.len(), 1, "one reason, whatever version: {events:?}");
    world.has_path = false;
    world.add(config(Role::Guest, 20));
    world.run_for(secs(2));
    let id = LinkId(world.peers[HOST].n_links as u32);
    let event = LinkEvent::Error(LinkError::WrongCertificate);
    world.handle(HOST, Input::Link(id, event));
    assert_eq!(world.peers[HOST].take_events(), ["GuestFailed(Link(WrongCertificate))"]);
}

#[test]
fn a_face_whose_reading_breaks_off_is_refused_and_the_next_one_is_read() {
    let mut world = World::connected();
    for (seed, breaks_off) in [(1, true), (2, false)] {
        world.reading_breaks_off = breaks_off;
        let bytes = face_file(seed).public_bytes();
        let (n_bytes, hash) = (bytes.len() as u32, transport::content_hash(&bytes));
        world.handle_control(GUEST, &Control::ModelOffer { n_bytes, hash }.to_bytes());
        for (i, chunk) in bytes.chunks(8192).enumerate() {
            let chunk = Control::ModelChunk { offset: 8192 * i as u32, bytes: chunk.to_vec() };
            world.handle_control(GUEST, &chunk.to_bytes());
        }
        world.run_for(secs(2));
        let events = world.peers[GUEST].take_events();
        assert_eq!(count(&events, "ModelRefused(Crashed)"), usize::from(breaks_off), "{events:?}");
    }
    assert_eq!(world.peers[GUEST].face, Some(face_file(2).model.clone()));
}
