//! Who may join, and what is sent before that.

use bytes::Bytes;
use transport::{
    Admission, Bye, ContentHash, Control, RESUME_TOKEN_BYTES, ResumeToken, Role, content_hash,
};

use types::PeerName;

use super::world::{GUEST, HOST, World, config, face_file, secs};
use super::{assert_end, assert_features_cross, connected_with_faces, has_event};
use crate::event::{Command, Event, QuestionId};
use crate::session::{EncoderCommand, Exchange, SessionConfig};

/// A configuration with a face, in which the user is asked.
pub(super) fn asking(role: Role, salt: u8) -> SessionConfig {
    let face = Some(Bytes::from(face_file(usize::from(salt)).public_bytes()));
    SessionConfig { face, auto_admit: false, ..config(role, salt) }
}

/// A host that is asked about a guest.
pub(super) fn knocking() -> World {
    let mut world = World::new();
    for (role, salt) in [(Role::Host, 1), (Role::Guest, 2)] {
        let sound = SessionConfig { has_sound: true, ..asking(role, salt) };
        world.add(sound);
    }
    world.run_for(secs(2));
    assert_eq!(world.peers[HOST].take_events(), [knock(1)]);
    assert_eq!(world.peers[GUEST].take_events(), ["AdmissionPending"]);
    world
}

/// A host that has let a guest in, without the events of that.
pub(super) fn admitted() -> World {
    let mut world = knocking();
    world.admit(HOST, true);
    world.run_for(secs(2));
    for peer in &mut world.peers {
        assert!(has_event(peer, "Connected"), "{:?}", peer.events);
        peer.take_events();
    }
    world
}

/// Debug form of the question about a guest.
pub(super) fn knock(n: u32) -> String {
    format!("{:?}", Event::Knock { question: QuestionId(n), name: PeerName::new("Bob") })
}

/// Debug form of the end of that question.
pub(super) fn withdrawn(n: u32) -> String {
    format!("{:?}", Event::KnockWithdrawn { question: QuestionId(n) })
}

pub(super) fn count(events: &[String], name: &str) -> usize {
    events.iter().filter(|event| event.starts_with(name)).count()
}

#[test]
fn nothing_of_a_person_leaves_either_end_before_the_host_lets_the_guest_in() {
    let mut world = knocking();
    for index in [HOST, GUEST] {
        world.command(index, Command::SendChat("is it you?".into()));
        world.command(index, Command::SetMuted(true));
        world.command(index, Command::SetMuted(false));
        world.nod_for(index, 0..100);
        for ms in (0..6000).step_by(60) {
            world.speak(index, ms);
        }
    }
    // Longer than a lost peer is waited for.
    world.run_for(secs(200));
    for peer in &mut world.peers {
        let is_greeting = |message: &Control| {
            matches!(message, Control::Hello { .. } | Control::Admission(Admission::Wait))
        };
        assert!(peer.control_sent.iter().all(is_greeting), "{:?}", peer.control_sent);
        let stats = &peer.stats;
        assert_eq!((stats.payload_bytes_out, stats.sound_packets_out), (0, 0));
        assert!(!stats.connected && !peer.sound_started && peer.features.is_empty());
        assert!(!peer.encoder_commands.contains(&EncoderCommand::Start));
        assert!(peer.take_events().is_empty() && peer.end.is_none() && peer.n_links == 1);
    }
    world.admit(HOST, true);
    world.run_for(secs(2));
    for peer in &world.peers {
        assert!(peer.events[0].starts_with("Connected"), "{:?}", peer.events);
        assert!(peer.face.is_some() && peer.sound_started);
    }
    assert_features_cross(&mut world, 100..200);
}

#[test]
fn what_arrives_before_admission_is_counted_and_ignored() {
    let mut world = knocking();
    let hash = content_hash(&face_file(1).public_bytes());
    for index in [HOST, GUEST] {
        let before = world.peers[index].control_sent.len();
        for message in [
            Control::Chat("let me in".into()),
            Control::Media { muted: true, camera_off: true, has_sound: true, has_face: true },
            Control::ModelOffer { n_bytes: 1000, hash: ContentHash([7; 32]) },
            Control::ModelRequest { hash, from: 0 },
            Control::ModelChunk { offset: 0, bytes: vec![1] },
        ] {
            world.handle_control(index, &message.to_bytes());
        }
        world.run_for(secs(2));
        let peer = &world.peers[index];
        assert_eq!((peer.stats.bad_messages, peer.control_sent.len()), (5, before));
        assert!(peer.events.is_empty());
    }
    // A guest cannot let itself in.
    let token = ResumeToken([1; RESUME_TOKEN_BYTES]);
    let admitted = Control::Admission(Admission::Admitted(token)).to_bytes();
    world.handle_control(HOST, &admitted);
    world.run_for(secs(2));
    assert!(world.peers[HOST].events.is_empty() && !world.peers[HOST].stats.connected);
}

#[test]
fn a_guest_that_is_turned_away_ends_and_the_host_waits_for_another() {
    let mut world = knocking();
    world.admit(HOST, false);
    world.run_for(secs(1));
    assert_end(&world, GUEST, "Failed(TurnedAway)");
    assert!(world.peers[HOST].take_events().is_empty() && world.peers[HOST].end.is_none());
    world.run_for(secs(300));
    let next = world.add(asking(Role::Guest, 3));
    world.run_for(secs(3));
    assert_eq!(world.peers[HOST].take_events(), [knock(2)]);
    world.admit(HOST, true);
    world.run_for(secs(1));
    assert!(has_event(&world.peers[next], "Connected"));
}

#[test]
fn turning_the_guest_of_a_manual_call_away_ends_it() {
    let mut world = World::new();
    world.add(SessionConfig { exchange: Exchange::Manual(None), ..asking(Role::Host, 1) });
    world.run_for(secs(1));
    let offer = world.peers[HOST].invite_offer.clone();
    world.add(SessionConfig { exchange: Exchange::Manual(offer), ..asking(Role::Guest, 2) });
    world.run_for(secs(1));
    let events = world.peers[GUEST].take_events();
    let answer = events[0].strip_prefix("AnswerReady(\"").and_then(|rest| rest.strip_suffix("\")"));
    let answer = answer.unwrap().to_owned();
    world.command(HOST, Command::AcceptAnswer(answer));
    world.run_for(secs(1));
    assert_eq!(world.peers[HOST].take_events(), [knock(1)]);
    world.admit(HOST, false);
    world.run_for(secs(1));
    assert_end(&world, HOST, "HungUp");
    assert_end(&world, GUEST, "Failed(TurnedAway)");
}

#[test]
fn a_guest_that_leaves_or_vanishes_while_it_knocks_does_not_end_the_call() {
    for says_goodbye in [true, false] {
        let mut world = knocking();
        if says_goodbye {
            world.command(GUEST, Command::HangUp);
        } else {
            world.kill(GUEST);
        }
        world.run_for(secs(7));
        assert_eq!(world.peers[HOST].take_events(), [withdrawn(1)]);
        // A late answer is about nobody.
        world.admit(HOST, true);
        world.run_for(secs(100));
        assert!(world.peers[HOST].end.is_none() && !world.peers[HOST].stats.connected);
        world.add(asking(Role::Guest, 3));
        world.run_for(secs(3));
        assert_eq!(world.peers[HOST].take_events(), [knock(2)]);
    }
}

#[test]
fn a_guest_whose_host_vanishes_while_it_knocks_knocks_again_at_the_next_one() {
    let mut world = knocking();
    world.kill(HOST);
    world.run_for(secs(20));
    assert_eq!(world.peers[GUEST].end, None);
    let host = world.add(asking(Role::Host, 3));
    world.run_for(secs(10));
    assert!(has_event(&world.peers[host], "Knock"), "{:?}", world.peers[host].events);
    assert_eq!(world.peers[GUEST].take_events(), ["NoHostYet", "AdmissionPending"]);
}

#[test]
fn a_guest_that_was_let_in_comes_back_without_a_question() {
    let mut world = admitted();
    for _ in 0..3 {
        world.break_links();
        world.run_for(secs(20));
        for peer in &mut world.peers {
            let events = peer.take_events();
            assert_eq!((&events[0][..], &events[1][..]), ("PeerLost", "PeerBack"));
            assert_eq!(count(&events, "Knock") + count(&events, "Admission"), 0, "{events:?}");
        }
    }
    assert!(world.peers.iter().all(|peer| peer.n_links >= 4));
    assert_features_cross(&mut world, 0..50);
}

#[test]
fn a_guest_that_has_restarted_knocks_again_however_long_the_host_takes() {
    let mut world = admitted();
    world.kill(GUEST);
    world.run_for(secs(8));
    let guest = world.add(asking(Role::Guest, 3));
    world.run_for(secs(200));
    let host = &mut world.peers[HOST];
    assert_eq!(host.take_events(), ["PeerLost".to_owned(), knock(2)]);
    assert_eq!(world.peers[guest].take_events(), ["AdmissionPending"]);
    world.admit(HOST, true);
    world.run_for(secs(1));
    assert!(has_event(&world.peers[HOST], r#"Connected { peer_name: "Bob" }"#));
    assert!(has_event(&world.peers[guest], "Connected"));
}

#[test]
fn the_link_of_a_guest_that_is_gone_can_be_kept_for_the_next_one() {
    let mut world = World::new();
    world.add(SessionConfig { keep_link: true, ..asking(Role::Host, 1) });
    for (index, salt) in [(1, 2), (2, 3), (3, 4)] {
        world.add(asking(Role::Guest, salt));
        world.run_for(secs(4));
        assert_eq!(world.peers[HOST].take_events(), [knock(index as u32)]);
        world.admit(HOST, true);
        world.run_for(secs(2));
        let host = &mut world.peers[HOST];
        assert_eq!(host.face, Some(face_file(usize::from(salt)).model.clone()));
        assert_eq!(count(&host.take_events(), "Connected"), 1);
        if index == 2 {
            world.kill(index);
        } else {
            world.command(index, Command::HangUp);
        }
        world.run_for(secs(70));
        let host = &mut world.peers[HOST];
        assert_eq!(host.take_events().last().map(String::as_str), Some("GuestLeft"));
        assert!(host.face.is_none() && host.end.is_none(), "the guest's face is forgotten");
    }
}

#[test]
fn another_guest_is_refused_with_the_reason() {
    let reason = |world: &World, guest: usize| world.peers[guest].end.clone();
    for (keep_link, lets_in, want) in [
        (false, false, "Failed(AnotherGuest)"),
        (false, true, "Failed(LinkClosed)"),
        (true, true, "Failed(AnotherGuest)"),
    ] {
        let mut world = World::new();
        world.add(SessionConfig { keep_link, ..asking(Role::Host, 1) });
        world.add(asking(Role::Guest, 2));
        world.run_for(secs(2));
        if lets_in {
            world.admit(HOST, true);
            world.run_for(secs(1));
        }
        world.leave_room(GUEST);
        let other = world.add(asking(Role::Guest, 3));
        world.run_for(secs(12));
        assert_eq!(reason(&world, other).as_deref(), Some(want));
        assert_eq!((reason(&world, HOST), reason(&world, GUEST)), (None, None));
    }
}

#[test]
fn a_face_may_be_shown_later() {
    let mut world = World::new();
    world.add(asking(Role::Host, 1));
    let mut hidden = asking(Role::Guest, 2);
    hidden.media.shows_face = false;
    world.add(hidden);
    world.run_for(secs(1));
    world.admit(HOST, true);
    world.run_for(secs(1));
    world.nod_for(GUEST, 0..50);
    let hash = content_hash(&face_file(2).public_bytes());
    world.handle_control(GUEST, &Control::ModelRequest { hash, from: 0 }.to_bytes());
    world.run_for(secs(1));
    let guest = &world.peers[GUEST];
    let is_face = |message: &Control| {
        matches!(message, Control::ModelOffer { .. } | Control::ModelChunk { .. })
    };
    assert_eq!((guest.count_sent(is_face), guest.stats.payload_bytes_out), (0, 0));
    assert!(guest.face.is_some(), "the guest sees the host");
    assert!(has_event(&world.peers[HOST], "PeerMedia { muted: false, camera_off: true }"));
    world.command(GUEST, Command::ShowFace(true));
    world.run_for(secs(1));
    assert!(has_event(&world.peers[HOST], "PeerMedia { muted: false, camera_off: false }"));
    assert!(world.peers[HOST].face.is_some());
    assert_features_cross(&mut world, 50..100);
    world.command(GUEST, Command::ShowFace(false));
    world.run_for(secs(2));
    let n_features = world.peers[HOST].features.len();
    world.nod_for(GUEST, 100..150);
    world.run_for(secs(1));
    assert_eq!(world.peers[HOST].features.len(), n_features);
}

#[test]
fn a_face_becomes_another_one_only_with_consent() {
    let mut world = admitted();
    let (old, new) = (face_file(1), face_file(5));
    let bytes = new.public_bytes();
    let (n_bytes, hash) = (bytes.len() as u32, content_hash(&bytes));
    let offer = Control::ModelOffer { n_bytes, hash }.to_bytes();
    let send_face = |world: &mut World| {
        for (i, chunk) in bytes.chunks(8192).enumerate() {
            let chunk = Control::ModelChunk { offset: 8192 * i as u32, bytes: chunk.to_vec() };
            world.handle_control(GUEST, &chunk.to_bytes());
        }
        world.run_for(secs(1));
    };
    for _ in 0..2 {
        world.handle_control(GUEST, &offer);
        world.run_for(secs(2));
    }
    send_face(&mut world);
    assert_eq!(
        world.peers[GUEST].take_events(),
        ["PeerFaceReplaced { question: QuestionId(1) }"],
        "asked once"
    );
    world.accept_face(GUEST, false);
    send_face(&mut world);
    assert_eq!(world.peers[GUEST].face, Some(old.model.clone()));
    // The peer may offer it again; it is asked again.
    world.handle_control(GUEST, &offer);
    world.accept_face(GUEST, true);
    send_face(&mut world);
    assert_eq!(world.peers[GUEST].face, Some(new.model.clone()));
    let asked = Control::ModelRequest { hash, from: 0 };
    assert_eq!(world.peers[GUEST].count_sent(|message| *message == asked), 1);

    let mut world = connected_with_faces();
    world.handle_control(GUEST, &offer);
    send_face(&mut world);
    assert!(has_event(&world.peers[GUEST], "PeerFaceReplaced"));
    assert_eq!(world.peers[GUEST].face, Some(new.model.clone()), "a script accepts");
}

#[test]
fn check_words_are_the_same_at_both_ends_and_for_all_links_of_a_call() {
    let words = |world: &mut World, index: usize| {
        let mut events = world.peers[index].take_events();
        events.retain(|event| event.starts_with("CheckWords"));
        events
    };
    let mut world = World::of_two();
    world.run_for(secs(1));
    let first = words(&mut world, HOST);
    assert_eq!((first.len(), &words(&mut world, GUEST)), (1, &first));
    world.break_links();
    world.run_for(secs(20));
    assert!(words(&mut world, HOST).is_empty() && words(&mut world, GUEST).is_empty());
    // Somebody else has another certificate.
    world.kill(GUEST);
    world.run_for(secs(8));
    let guest = world.add(config(Role::Guest, 3));
    world.run_for(secs(60));
    let second = words(&mut world, HOST);
    assert_eq!(words(&mut world, guest), second);
    assert!(second.len() == 1 && second != first, "{second:?}");
}

#[test]
fn every_decision_without_a_question_changes_nothing() {
    let mut world = admitted();
    for index in [HOST, GUEST] {
        for question in (0..4).map(QuestionId) {
            for yes in [true, false] {
                world.command(index, Command::Admit { question, lets_in: yes });
                world.command(index, Command::AcceptFace { question, accepts: yes });
            }
        }
    }
    world.run_for(secs(10));
    assert!(world.peers.iter().all(|peer| peer.events.is_empty() && peer.end.is_none()));
}

#[test]
fn a_guest_that_gives_up_after_a_long_knock_does_not_end_the_call() {
    let mut world = knocking();
    world.run_for(secs(30));
    world.command(GUEST, Command::HangUp);
    world.run_for(secs(7));
    assert_eq!(world.peers[HOST].take_events(), [withdrawn(1)]);
    assert_eq!(world.peers[HOST].end, None);
}

#[test]
fn a_goodbye_before_the_first_hello_does_not_end_the_call_of_the_host() {
    let mut world = World::new();
    for (role, salt) in [(Role::Host, 1), (Role::Guest, 2)] {
        world.add(asking(role, salt));
    }
    world.tamper = Box::new(|from, message| {
        if from == GUEST { vec![Control::Bye(Bye::HungUp).to_bytes()] } else { vec![message] }
    });
    world.run_for(secs(20));
    assert_eq!(world.peers[HOST].end, None);
    assert!(world.peers[HOST].events.iter().all(|event| !event.starts_with("Knock")));
}

/// Whoever comes back with other certificates may be somebody in between who was given the token,
/// unless its signals are sealed with that.
#[test]
fn a_guest_with_another_certificate_is_asked_about_again_unless_it_is_known_by_its_signals() {
    for (changes, is_known) in [(false, true), (true, true), (false, false), (true, false)] {
        let mut world = admitted();
        world.peers[GUEST].n_certificates += usize::from(changes);
        if !is_known {
            // Its token still goes with its hello.
            world.peers[GUEST].session.signals.peer_seal = None;
        }
        world.break_links();
        world.run_for(secs(25));
        let events = world.peers[HOST].take_events();
        let is_asked = changes && !is_known;
        assert_eq!(count(&events, "Knock"), usize::from(is_asked), "{events:?}");
        assert_eq!(count(&events, "PeerBack"), usize::from(!is_asked), "{events:?}");
        assert_eq!(count(&events, "CheckWords"), usize::from(changes && is_known), "{events:?}");
    }
}

#[test]
fn a_face_that_is_hidden_during_its_transfer_goes_no_further() {
    let mut world = knocking();
    world.admit(HOST, true);
    world.run_until(secs(5), |world| {
        let is_chunk = |message: &Control| matches!(message, Control::ModelChunk { .. });
        world.peers[HOST].count_sent(is_chunk) > 0
    });
    world.command(HOST, Command::ShowFace(false));
    let n_chunks = |world: &World| {
        world.peers[HOST].count_sent(|message| matches!(message, Control::ModelChunk { .. }))
    };
    let before = n_chunks(&world);
    world.run_for(secs(5));
    assert_eq!(n_chunks(&world), before);
    world.command(HOST, Command::ShowFace(true));
    world.run_for(secs(5));
    assert!(world.peers[GUEST].face.is_some());
}
