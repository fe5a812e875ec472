//! Guests who are not let in beside a peer that is, and what they cannot do: end the host's wait,
//! take the place of the peer, flood the user with questions.

use bytes::Bytes;
use transport::{ContentHash, Control, Role, Seal, Secret, Signal, VERSION, content_hash};

use super::admission::{admitted, asking, count, knock, knocking, withdrawn};
use super::world::{GUEST, HOST, World, config, face_file, millis, secs};
use super::{assert_end, assert_features_cross, has_event};
use crate::event::{Command, LinkError, QuestionId};
use crate::session::{Exchange, Input, LinkEvent, LinkId, SessionConfig, SignalingEvent};

/// A host that asks, alone.
fn waiting_host(keep_link: bool) -> World {
    let mut world = World::new();
    world.add(SessionConfig { keep_link, ..asking(Role::Host, 1) });
    world
}

/// A host that has lost the guest whom it had let in, because neither its link nor the service
/// carries anything, and another guest who comes meanwhile.
pub(super) fn another_while_the_peer_is_lost(keep_link: bool) -> (World, usize) {
    let mut world = waiting_host(keep_link);
    world.add(asking(Role::Guest, 2));
    world.run_for(secs(2));
    world.admit(HOST, true);
    world.run_for(secs(2));
    world.peers[HOST].take_events();
    world.break_links();
    world.unserved = Some(GUEST);
    world.run_for(secs(13));
    assert_eq!(world.peers[HOST].take_events(), ["PeerLost"]);
    world.peers[GUEST].take_events();
    let other = world.add(asking(Role::Guest, 3));
    (world, other)
}

/// Returns whether the host's user was asked for the `n`-th time.
fn is_asked(world: &World, n: u32) -> bool {
    world.peers[HOST].events.contains(&knock(n))
}

// A guest who was not let in does not end the wait of the host.

#[test]
fn a_guest_with_a_wrong_certificate_does_not_end_the_wait_of_the_host() {
    for keep_link in [false, true] {
        let mut world = waiting_host(keep_link);
        world.add(asking(Role::Guest, 2));
        world.has_path = false;
        world.run_for(secs(1));
        for _ in 0..3 {
            let id = LinkId(world.peers[HOST].n_links as u32);
            let event = LinkEvent::Error(LinkError::WrongCertificate);
            world.handle(HOST, Input::Link(id, event));
            world.run_for(secs(7));
        }
        let events = world.peers[HOST].take_events();
        assert_eq!(events, ["GuestFailed(Link(WrongCertificate))"], "told once");
        assert_eq!(world.peers[HOST].end, None);
        world.has_path = true;
        world.kill(GUEST);
        world.run_for(secs(40));
        world.add(asking(Role::Guest, 3));
        world.run_for(secs(3));
        assert!(is_asked(&world, 1), "{:?}", world.peers[HOST].events);
    }
}

#[test]
fn a_knock_of_another_version_does_not_end_the_wait_of_the_host() {
    let mut world = knocking();
    let hello = [&[0][..], &(VERSION + 1).to_le_bytes(), b"new"].concat();
    world.handle_control(HOST, &hello);
    let events = world.peers[HOST].take_events();
    assert_eq!(events[0], withdrawn(1));
    assert!(events[1].starts_with("GuestFailed(OtherVersion"), "{events:?}");
    assert_eq!((events.len(), world.peers[HOST].end.as_deref()), (2, None));
}

#[test]
fn guests_without_a_path_do_not_end_the_wait_of_the_host() {
    for keep_link in [false, true] {
        let mut world = waiting_host(keep_link);
        world.has_path = false;
        for salt in 2..5 {
            let guest = world.add(asking(Role::Guest, salt));
            world.run_for(secs(32));
            assert_end(&world, guest, "Failed(NoPath)");
        }
        let events = world.peers[HOST].take_events();
        assert!((2..=3).contains(&events.len()), "{events:?}");
        assert!(events.iter().all(|event| event == "GuestFailed(NoPath)"), "{events:?}");
        world.has_path = true;
        world.add(asking(Role::Guest, 5));
        world.run_for(secs(8));
        assert!(is_asked(&world, 1), "{:?}", world.peers[HOST].events);
    }
}

#[test]
fn a_host_without_a_service_ends_with_the_reason_because_no_other_guest_can_come() {
    let (mut world, answer) = World::manual();
    world.has_path = false;
    world.command(HOST, Command::AcceptAnswer(answer));
    let event = LinkEvent::Error(LinkError::WrongCertificate);
    world.handle(HOST, Input::Link(LinkId(1), event));
    assert_end(&world, HOST, "Failed(Link(WrongCertificate))");
}

#[test]
fn notices_about_guests_are_few() {
    let mut world = World::new();
    world.add(config(Role::Host, 1));
    for n in 0..60 {
        let mut guest = Seal::new(Secret::new([9; 16]), Role::Guest, [n; 16]);
        for version in [VERSION + 1, VERSION + 1 + u16::from(n)] {
            let sealed = Bytes::from(guest.seal(&Signal::Announce(version).to_bytes()));
            world.handle(HOST, Input::Signaling(SignalingEvent::Sealed(sealed)));
        }
        world.run_for(millis(100));
    }
    let events = world.peers[HOST].take_events();
    assert!(events.len() <= 4, "in 20 s: {events:?}");
    assert_eq!(events.iter().collect::<std::collections::BTreeSet<_>>().len(), events.len());
}

// The peer keeps its place.

#[test]
fn a_lost_peer_comes_back_over_its_link_while_another_guest_knocks() {
    let (mut world, other) = another_while_the_peer_is_lost(false);
    world.run_until(secs(20), |world| is_asked(world, 2));
    world.run_for(secs(3));
    assert!(has_event(&world.peers[other], "AdmissionPending"));
    // Its path works again.
    world.connections[0].is_alive = true;
    world.run_for(secs(3));
    let events = world.peers[HOST].take_events();
    assert_eq!(events, [knock(2), withdrawn(2), "PeerBack".to_owned()]);
    assert_end(&world, other, "Failed(TurnedAway)");
    // A "yes" that comes too late lets nobody in.
    world.admit(HOST, true);
    world.peers[GUEST].take_events();
    assert_features_cross(&mut world, 0..50);
    assert_eq!(world.peers[HOST].end, None);
}

#[test]
fn a_lost_peer_comes_back_over_a_new_link_while_another_guest_knocks() {
    let (mut world, other) = another_while_the_peer_is_lost(false);
    world.run_until(secs(20), |world| is_asked(world, 2));
    world.run_for(secs(25));
    assert_eq!(world.peers[HOST].take_events(), [knock(2)]);
    world.serve_again(GUEST);
    world.run_until(secs(20), |world| has_event(&world.peers[HOST], "PeerBack"));
    let events = world.peers[HOST].take_events();
    assert_eq!(count(&events, "KnockWithdrawn"), 1, "{events:?}");
    assert_eq!(count(&events, "Connected") + count(&events, "Knock {"), 0, "{events:?}");
    world.run_for(secs(2));
    assert_end(&world, other, "Failed(TurnedAway)");
    assert!(has_event(&world.peers[GUEST], "PeerBack"));
    world.peers[GUEST].take_events();
    assert_features_cross(&mut world, 500..550);
}

#[test]
fn a_guest_who_floods_the_service_does_not_keep_the_lost_peer_out() {
    let mut world = admitted();
    world.break_links();
    world.run_for(secs(6));
    let mut salt = 0;
    // Another guest with ever new salts.
    while !world.peers.iter().all(super::world::Peer::is_connected) {
        salt += 1;
        assert!(salt < 200, "{:?}", world.peers[HOST].events);
        let mut other = Seal::new(Secret::new([9; 16]), Role::Guest, [100 + salt % 100; 16]);
        let sealed = Bytes::from(other.seal(&Signal::Announce(VERSION).to_bytes()));
        world.handle(HOST, Input::Signaling(SignalingEvent::Sealed(sealed)));
        world.run_for(millis(150));
    }
    for peer in &mut world.peers {
        let events = peer.take_events();
        assert_eq!(events[..2], ["PeerLost", "PeerBack"], "{events:?}");
    }
}

#[test]
fn a_guest_who_leaves_while_the_peer_is_lost_does_not_end_the_call() {
    for has_knocked in [false, true] {
        let (mut world, other) = another_while_the_peer_is_lost(false);
        world.has_path = has_knocked;
        world.run_for(secs(4));
        assert_eq!(is_asked(&world, 2), has_knocked);
        world.command(other, Command::HangUp);
        world.run_for(secs(1));
        assert_eq!(world.peers[HOST].end, None);
        world.has_path = true;
        world.serve_again(GUEST);
        world.run_until(secs(30), |world| has_event(&world.peers[HOST], "PeerBack"));
    }
}

#[test]
fn nobody_but_the_peer_gets_another_link_while_it_is_here() {
    let mut world = admitted();
    world.run_for(secs(6));
    let announcement = Signal::Announce(VERSION).to_bytes();
    let signals = &mut world.peers[GUEST].session.signals;
    // What anybody with the link can seal, even with the salt of the peer, and what the peer alone
    // can seal: it does not hear the host, so the host makes another link.
    let forged = signals.seal.seal_unbound(&announcement);
    let own = signals.peer_seal.as_mut().unwrap().seal(&announcement);
    for (sealed, n_links) in [(forged, 1), (own, 2)] {
        let event = SignalingEvent::Sealed(Bytes::from(sealed));
        world.handle(HOST, Input::Signaling(event));
        world.run_for(secs(3));
        assert_eq!(world.peers[HOST].n_links, n_links);
        assert!(world.peers[HOST].is_connected());
        let events = world.peers[HOST].take_events();
        assert_eq!(count(&events, "PeerMedia"), events.len(), "{events:?}");
    }
}

// Questions.

#[test]
fn there_are_at_most_six_questions_a_minute() {
    let mut world = waiting_host(false);
    let mut n_knocks = 0;
    for salt in 2..60 {
        let guest = world.add(SessionConfig { auto_admit: false, ..config(Role::Guest, salt) });
        world.run_for(secs(1));
        n_knocks += count(&world.peers[HOST].take_events(), "Knock {");
        world.admit(HOST, false);
        world.kill(guest);
        world.run_for(millis(200));
    }
    assert!((4..=8).contains(&n_knocks), "{n_knocks} questions in 70 s");
}

#[test]
fn a_guest_who_comes_right_after_a_no_waits_for_its_question() {
    let mut world = knocking();
    world.admit(HOST, false);
    let next = world.add(asking(Role::Guest, 3));
    world.run_for(secs(5));
    assert!(has_event(&world.peers[next], "AdmissionPending"), "{:?}", world.peers[next].events);
    assert!(world.peers[HOST].take_events().is_empty());
    world.run_for(secs(6));
    assert_eq!(world.peers[HOST].take_events(), [knock(2)]);
    world.admit(HOST, true);
    world.run_for(secs(1));
    assert!(has_event(&world.peers[next], "Connected"));
}

#[test]
fn an_answer_counts_for_its_question_alone() {
    let mut world = knocking();
    let first = QuestionId(1);
    world.kill(GUEST);
    world.run_for(secs(12));
    world.add(asking(Role::Guest, 3));
    world.run_for(secs(3));
    assert_eq!(world.peers[HOST].take_events(), [withdrawn(1), knock(2)]);
    // The user has clicked when the question changed.
    for lets_in in [true, false] {
        world.command(HOST, Command::Admit { question: first, lets_in });
    }
    world.run_for(secs(1));
    assert!(world.peers[HOST].events.is_empty() && !world.peers[HOST].is_connected());
    world.admit(HOST, true);
    world.run_for(secs(1));
    assert!(world.peers[HOST].is_connected());
}

#[test]
fn a_face_that_is_asked_about_cannot_be_changed_for_a_third() {
    let mut world = admitted();
    let offer = |seed: usize| {
        let bytes = face_file(seed).public_bytes();
        let (n_bytes, hash) = (bytes.len() as u32, content_hash(&bytes));
        Control::ModelOffer { n_bytes, hash }.to_bytes()
    };
    let wanted = content_hash(&face_file(5).public_bytes());
    for seed in [5, 6, 5] {
        world.handle_control(GUEST, &offer(seed));
        world.run_for(secs(2));
    }
    assert_eq!(count(&world.peers[GUEST].take_events(), "PeerFaceReplaced"), 1);
    world.accept_face(GUEST, true);
    let requested: Vec<ContentHash> = world.peers[GUEST]
        .control_sent
        .iter()
        .filter_map(|message| match message {
            Control::ModelRequest { hash, from: 0 } => Some(*hash),
            _ => None,
        })
        .collect();
    assert_eq!(requested.last(), Some(&wanted));
}

#[test]
fn one_face_is_read_at_a_time() {
    let mut world = World::connected();
    for seed in 1..6 {
        let bytes = face_file(seed).public_bytes();
        let (n_bytes, hash) = (bytes.len() as u32, content_hash(&bytes));
        // The reading of the one before is not over yet.
        world.handle_control(GUEST, &Control::ModelOffer { n_bytes, hash }.to_bytes());
        for (i, chunk) in bytes.chunks(8192).enumerate() {
            let chunk = Control::ModelChunk { offset: 8192 * i as u32, bytes: chunk.to_vec() };
            world.handle_control(GUEST, &chunk.to_bytes());
        }
        assert!(world.peers[GUEST].n_reading <= 1);
        world.now += millis(1001);
    }
    world.run_for(secs(1));
    assert!(world.peers[GUEST].face.is_some());
}

// Another guest.

#[test]
fn another_guest_is_a_new_peer_of_whom_nothing_old_is_kept() {
    for auto_admit in [true, false] {
        let mut world = World::new();
        world.add(SessionConfig { auto_admit, ..asking(Role::Host, 1) });
        world.add(asking(Role::Guest, 2));
        world.run_for(secs(1));
        world.admit(HOST, true);
        world.run_for(secs(2));
        assert_eq!(world.peers[HOST].face, Some(face_file(2).model.clone()));
        world.nod_for(GUEST, 500..550);
        world.kill(GUEST);
        world.run_for(secs(8));
        world.peers[HOST].take_events();
        let mut other = asking(Role::Guest, 3);
        other.name = "Eve".into();
        other.face = None;
        let other = world.add(other);
        world.run_for(secs(if auto_admit { 60 } else { 8 }));
        world.admit(HOST, true);
        world.run_for(secs(2));
        let host = &mut world.peers[HOST];
        let events = host.take_events();
        assert_eq!(count(&events, r#"Connected { peer_name: "Eve" }"#), 1, "{events:?}");
        assert_eq!(count(&events, "PeerBack"), 0, "{events:?}");
        assert_eq!(count(&events, "CheckWords"), 1, "{events:?}");
        assert_eq!(host.face, None, "the face of the guest before is forgotten");
        // Its media time starts over, and is not compared with that of the guest before.
        host.features.clear();
        let bytes = face_file(4).public_bytes();
        let (n_bytes, hash) = (bytes.len() as u32, content_hash(&bytes));
        world.handle_control(HOST, &Control::ModelOffer { n_bytes, hash }.to_bytes());
        for (i, chunk) in bytes.chunks(8192).enumerate() {
            let chunk = Control::ModelChunk { offset: 8192 * i as u32, bytes: chunk.to_vec() };
            world.handle_control(HOST, &chunk.to_bytes());
        }
        world.nod_for(other, 0..50);
        let first = world.peers[HOST].features.first().map(|feature| feature.time);
        assert_eq!(first, Some(super::nod(0).time));
        assert!(!has_event(&world.peers[HOST], "PeerFaceReplaced"), "there is no face to replace");
    }
}

#[test]
fn a_guest_who_knocks_goes_on_waiting_when_the_peer_of_a_kept_link_has_left() {
    let (mut world, other) = another_while_the_peer_is_lost(true);
    world.run_until(secs(20), |world| is_asked(world, 2));
    world.serve_again(GUEST);
    world.command(GUEST, Command::HangUp);
    world.run_for(secs(1));
    assert_eq!(world.peers[HOST].take_events(), [knock(2), "GuestLeft".to_owned()]);
    world.run_for(secs(100));
    world.admit(HOST, true);
    world.run_for(secs(1));
    assert_eq!(world.peers[HOST].take_events()[0], r#"Connected { peer_name: "Bob" }"#);
    assert!(has_event(&world.peers[other], "Connected"));
}

// A host that dies.

#[test]
fn a_guest_of_a_manual_call_whose_host_dies_before_it_lets_it_in_ends() {
    for greets in [false, true] {
        let mut world = World::new();
        world.add(SessionConfig { exchange: Exchange::Manual(None), ..asking(Role::Host, 1) });
        world.run_for(secs(1));
        let offer = world.peers[HOST].invite_offer.clone();
        world.add(SessionConfig { exchange: Exchange::Manual(offer), ..asking(Role::Guest, 2) });
        world.run_for(secs(1));
        let events = world.peers[GUEST].take_events();
        let answer = events[0].strip_prefix("AnswerReady(\"").unwrap();
        let answer = answer.strip_suffix("\")").unwrap().to_owned();
        if !greets {
            world.tamper =
                Box::new(|from, message| if from == HOST { vec![] } else { vec![message] });
        }
        // The user of the host takes as long as it likes.
        world.run_for(secs(600));
        world.command(HOST, Command::AcceptAnswer(answer));
        world.run_for(secs(2));
        world.kill(HOST);
        world.run_for(secs(70));
        assert!(world.peers[GUEST].end.is_some(), "greeted: {greets}");
    }
}
