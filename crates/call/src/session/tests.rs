mod admission;
mod guests;
mod links;
mod media_time;
mod network;
mod outages;
mod path;
mod soak;
mod sound;
mod strangers;
mod world;

use std::time::Duration;

use bytes::Bytes;
use transport::{
    Bye, ContentHash, Control, ManualAnswer, Refusal, Role, Seal, Secret, Signal, VERSION,
    content_hash,
};
use types::{Rate, UnitNumber};

use super::*;
use world::{GUEST, HOST, World, config, face_file, millis, nod, secs};

fn is_hello(message: &[u8]) -> bool {
    matches!(Control::parse(message), Ok(Control::Hello { .. }))
}

/// Returns a hello of a peer that has not heard ours.
fn hello(name: &str) -> Control {
    Control::Hello { heard: false, token: None, name: name.into() }
}

fn has_event(peer: &world::Peer, name: &str) -> bool {
    peer.events.iter().any(|event| event.starts_with(name))
}

/// Checks how a session has ended, by the beginning of the debug form.
fn assert_end(world: &World, index: usize, want: &str) {
    let end = world.peers[index].end.as_deref();
    assert!(end.is_some_and(|end| end.starts_with(want)), "peer {index}: {end:?}, not {want}");
}

/// Checks that features cross in both directions now.
fn assert_features_cross(world: &mut World, frames: std::ops::Range<u64>) {
    let last = nod(frames.end - 1).time;
    for from in [HOST, GUEST] {
        world.nod_for(from, frames.clone());
        assert_eq!(world.peers[from].end, None);
    }
    world.run_for(millis(300));
    for peer in &world.peers[..2] {
        let newest = peer.features.last().map(|feature| feature.time);
        assert!(newest.is_some_and(|time| time + millis(80) >= last), "{newest:?}");
    }
}

/// Connected peers that both know the other's codec profile.
fn connected_with_faces() -> World {
    let mut world = World::new();
    for (role, salt) in [(Role::Host, 1), (Role::Guest, 2)] {
        let face = Some(Bytes::from(face_file(usize::from(salt)).public_bytes()));
        world.add(SessionConfig { face, ..config(role, salt) });
    }
    world.run_for(secs(2));
    for peer in &mut world.peers {
        assert!(peer.face.is_some());
        peer.take_events();
    }
    world
}

// Meeting.

#[test]
fn two_peers_meet_with_two_hellos_each() {
    let mut world = World::of_two();
    world.run_for(secs(10));
    assert_eq!(world.peers[HOST].take_events()[0], r#"Connected { peer_name: "Bob" }"#);
    assert_eq!(world.peers[GUEST].take_events()[0], r#"Connected { peer_name: "Ada" }"#);
    for peer in &world.peers {
        assert_eq!((peer.hellos_sent(), peer.n_links), (2, 1), "its own, and one that answers");
        assert!(peer.stats.connected && peer.encoder_commands == [EncoderCommand::Start]);
    }
}

#[test]
fn sound_starts_once_when_the_peer_is_connected() {
    let mut world = World::new();
    world.add(config(Role::Host, 1));
    world.run_for(secs(1));
    assert!(!world.peers[HOST].sound_started);
    world.add(config(Role::Guest, 2));
    world.run_for(secs(1));
    assert!(std::mem::replace(&mut world.peers[HOST].sound_started, false));
    world.break_links();
    world.run_for(secs(15));
    assert!(has_event(&world.peers[HOST], "PeerBack"));
    assert!(!world.peers[HOST].sound_started);
}

#[test]
fn a_peer_without_a_face_is_named_as_such_once() {
    let mut world = World::new();
    world.add(config(Role::Host, 1));
    let face = Some(Bytes::from(face_file(2).public_bytes()));
    world.add(SessionConfig { face, ..config(Role::Guest, 2) });
    world.run_for(secs(1));
    world.command(HOST, Command::SetMuted(true));
    world.run_for(secs(1));
    assert!(!has_event(&world.peers[HOST], "SoundOnly"));
    let events = world.peers[GUEST].take_events();
    assert_eq!(events.iter().filter(|event| *event == "SoundOnly").count(), 1, "{events:?}");
}

#[test]
fn sound_is_sent_while_the_key_of_push_to_talk_is_held() {
    let mut world = World::of_two();
    world.run_for(secs(1));
    world.command(HOST, Command::SetMuted(true));
    world.command(HOST, Command::Talk(true));
    world.run_for(secs(1));
    world.command(HOST, Command::Talk(false));
    world.run_for(secs(1));
    let commands = &world.peers[HOST].voice_commands;
    let muted = |muted| VoiceCommand::Mute(muted);
    assert_eq!(commands[..], [muted(true), muted(false), muted(true)]);
    let heard: Vec<_> = world.peers[GUEST].take_events();
    let mutes: Vec<_> = heard.iter().filter(|event| event.contains("muted: true")).collect();
    assert_eq!(mutes.len(), 2, "{heard:?}");
}

#[test]
fn a_guest_that_comes_first_waits_for_the_host() {
    let mut world = World::new();
    let guest = world.add(config(Role::Guest, 2));
    world.run_for(secs(100));
    let host = world.add(config(Role::Host, 1));
    world.run_for(secs(3));
    assert!(has_event(&world.peers[guest], "Connected"));
    assert!(has_event(&world.peers[host], "Connected"));
}

#[test]
fn two_peers_meet_by_hand() {
    let mut world = World::new();
    world.add(SessionConfig { exchange: Exchange::Manual(None), ..config(Role::Host, 1) });
    world.run_until(secs(1), |world| world.peers[HOST].invite_offer.is_some());
    let offer = world.peers[HOST].invite_offer.clone();
    // Somebody carries the invite over, and some minutes later the answer back.
    world.run_for(secs(300));
    world.add(SessionConfig { exchange: Exchange::Manual(offer), ..config(Role::Guest, 2) });
    world.run_for(secs(300));
    let events = world.peers[GUEST].take_events();
    let answer = events[0].strip_prefix("AnswerReady(\"").unwrap().strip_suffix("\")").unwrap();
    world.command(HOST, Command::AcceptAnswer(answer.to_owned()));
    world.run_for(secs(1));
    for peer in &world.peers {
        assert!(has_event(peer, "Connected"));
        assert_eq!(peer.n_signals, 0);
    }
}

#[test]
fn a_wrong_answer_to_a_manual_call_is_refused_until_the_right_one_comes() {
    let (mut world, answer) = World::manual();
    let sealed_by_nobody = ManualAnswer(vec![1; 60]).to_string();
    for wrong in ["feathercall-answer:AAAA", "", sealed_by_nobody.as_str()] {
        world.command(HOST, Command::AcceptAnswer(wrong.to_owned()));
        assert_eq!(world.peers[HOST].take_events(), ["AnswerRefused"]);
    }
    world.command(HOST, Command::AcceptAnswer(answer));
    world.run_for(secs(1));
    assert!(world.peers.iter().all(|peer| has_event(peer, "Connected")));
}

#[test]
fn an_answer_that_webrtc_refuses_leaves_a_manual_call_open_for_the_right_one() {
    let (mut world, answer) = World::manual();
    let mut guest = Seal::new(Secret::new([9; 16]), Role::Guest, [7; 16]);
    let offer = world.peers[HOST].invite_offer.clone().unwrap();
    guest.open(&offer).unwrap();
    let sealed = guest.seal(&Signal::Answer { attempt: 0, sdp: "damaged".into() }.to_bytes());
    world.command(HOST, Command::AcceptAnswer(ManualAnswer(sealed).to_string()));
    assert_eq!(world.peers[HOST].take_events(), ["AnswerRefused"]);
    world.command(HOST, Command::AcceptAnswer(answer));
    world.run_for(secs(1));
    assert!(world.peers.iter().all(|peer| has_event(peer, "Connected")));
}

#[test]
fn a_damaged_offer_ends_a_manual_call_with_a_reason() {
    let mut world = World::new();
    let exchange = Exchange::Manual(Some(vec![1; 60]));
    world.add(SessionConfig { exchange, ..config(Role::Guest, 1) });
    assert_end(&world, 0, "Failed(WrongAnswer)");
}

#[test]
fn without_a_path_through_the_network_both_ends_say_so_after_thirty_seconds() {
    let mut world = World::of_two();
    world.has_path = false;
    world.run_for(secs(29));
    assert!(world.peers.iter().all(|peer| peer.end.is_none() && peer.events.is_empty()));
    world.run_for(secs(2));
    assert_end(&world, GUEST, "Failed(NoPath)");
    assert_eq!(world.peers[HOST].take_events(), ["GuestFailed(NoPath)"]);
    assert_eq!(world.peers[HOST].end, None, "another guest may come");
    for index in [HOST, GUEST] {
        assert_eq!(world.peers[index].n_links, 4, "after 0, 5, 12 and 22 seconds");
    }
}

#[test]
fn a_link_that_fails_ends_its_attempt_only() {
    let failed = || Input::Link(LinkId(1), LinkEvent::Failed);
    let mut world = World::of_two();
    world.has_path = false;
    world.run_for(secs(1));
    world.handle(GUEST, failed());
    world.has_path = true;
    world.run_for(secs(5));
    assert!(world.peers.iter().all(|peer| has_event(peer, "Connected") && peer.n_links == 2));
    world.handle(GUEST, failed());
    world.handle(GUEST, Input::Link(LinkId(2), LinkEvent::Failed));
    world.run_for(secs(1));
    assert_eq!(world.peers[GUEST].end, None);
}

#[test]
fn a_second_guest_with_the_link_takes_the_seat_but_not_the_call() {
    let mut world = World::connected();
    let second = world.add(config(Role::Guest, 3));
    world.run_for(secs(10));
    assert_eq!(world.peers[second].events, [""; 0]);
    assert!(world.peers[second].end.as_ref().is_some_and(|end| end.starts_with("Failed(")));
    assert!(world.peers[HOST].events.is_empty() && world.peers[GUEST].events.is_empty());
}

#[test]
fn a_guest_that_has_lost_its_seat_takes_it_again_when_it_has_lost_the_host() {
    let mut world = World::connected();
    let second = world.add(config(Role::Guest, 3));
    world.run_for(secs(2));
    world.kill(second);
    world.break_links();
    world.run_for(secs(15));
    for peer in [HOST, GUEST] {
        assert_eq!(world.peers[peer].take_events()[..2], ["PeerLost", "PeerBack"]);
    }
}

#[test]
fn of_two_guests_who_wait_for_the_host_the_second_gets_the_seat() {
    let mut world = World::new();
    let [first, second] = [2, 3].map(|salt| world.add(config(Role::Guest, salt)));
    world.run_for(secs(10));
    assert_end(&world, first, "Failed(Replaced)");
    world.add(config(Role::Host, 1));
    world.run_for(secs(3));
    assert!(has_event(&world.peers[second], "Connected"));
}

#[test]
fn a_second_guest_cannot_take_over_a_call_that_is_alive() {
    let mut world = World::connected();
    let mut stranger = Seal::new(Secret::new([9; 16]), Role::Guest, [3; 16]);
    for _ in 0..10 {
        for signal in [Signal::Announce(VERSION), Signal::Leave] {
            let sealed = Bytes::from(stranger.seal(&signal.to_bytes()));
            world.handle(HOST, Input::Signaling(SignalingEvent::Sealed(sealed)));
        }
        world.run_for(secs(1));
    }
    assert_eq!((world.peers[HOST].n_links, world.peers[HOST].end.as_deref()), (1, None));
    assert!(world.peers[HOST].events.is_empty());
}

#[test]
fn a_call_begins_once_an_absent_rendezvous_service_is_back() {
    let mut world = World::of_two();
    world.rendezvous_is_up = false;
    world.run_for(secs(61));
    assert!(world.peers.iter().all(|peer| peer.end.is_none()));
    world.rendezvous_is_up = true;
    world.run_for(secs(3));
    assert!(world.peers.iter().all(|peer| has_event(peer, "Connected")));
}

#[test]
fn a_host_waits_on_when_a_guest_vanishes_before_it_has_answered() {
    let mut world = World::new();
    world.add(config(Role::Host, 1));
    let guest = world.add(config(Role::Guest, 2));
    world.run_for(millis(30));
    world.kill(guest);
    world.run_for(secs(120));
    let another = world.add(config(Role::Guest, 3));
    world.run_for(secs(3));
    assert!(has_event(&world.peers[HOST], "Connected"), "{:?}", world.peers[HOST].end);
    assert!(has_event(&world.peers[another], "Connected"));
}

#[test]
fn an_offer_that_was_lost_with_the_rendezvous_service_is_sent_again() {
    let mut world = World::of_two();
    world.run_for(millis(30));
    // The announcement has arrived. The offer is being made.
    world.rendezvous_is_up = false;
    world.run_for(secs(7));
    assert!(world.peers.iter().all(|peer| !has_event(peer, "Connected")));
    world.rendezvous_is_up = true;
    world.run_for(secs(3));
    for peer in &world.peers {
        assert!(has_event(peer, "Connected") && peer.n_links <= 2);
    }
}

#[test]
fn a_call_goes_on_without_the_rendezvous_service() {
    let mut world = connected_with_faces();
    world.rendezvous_is_up = false;
    assert_features_cross(&mut world, 0..100);
    world.network_is_up = false;
    world.run_for(secs(12));
    world.restore_network();
    world.run_for(secs(2));
    for peer in &mut world.peers {
        assert_eq!(peer.take_events()[..2], ["PeerLost", "PeerBack"]);
    }
    assert_features_cross(&mut world, 500..600);
}

#[test]
fn a_lost_seat_is_no_reason_to_end_a_call_that_was_connected() {
    let mut world = World::connected();
    world.handle(GUEST, Input::Signaling(SignalingEvent::Replaced));
    assert_eq!(world.peers[GUEST].end, None);
}

#[test]
fn repeated_reordered_and_forged_signals_change_nothing() {
    let mut world = World::connected();
    let sealed = world.sealed.clone();
    assert!(sealed.len() >= 3);
    for bytes in sealed.iter().rev().chain(&sealed) {
        let mut forged = bytes.clone();
        forged[30] ^= 1;
        for bytes in [bytes, &forged] {
            let event = SignalingEvent::Sealed(Bytes::copy_from_slice(bytes));
            for index in [HOST, GUEST] {
                world.handle(index, Input::Signaling(event.clone()));
            }
        }
        world.run_for(secs(1));
    }
    for peer in &world.peers {
        assert!(peer.n_links == 1 && peer.events.is_empty() && peer.end.is_none());
    }
}

// Versions.

#[test]
fn a_guest_of_another_version_is_recognized_by_its_announcement() {
    let mut world = World::new();
    world.add(config(Role::Host, 1));
    let mut guest = Seal::new(Secret::new([9; 16]), Role::Guest, [3; 16]);
    let sealed = Bytes::from(guest.seal(&Signal::Announce(VERSION + 1).to_bytes()));
    world.handle(HOST, Input::Signaling(SignalingEvent::Sealed(sealed)));
    let (theirs, ours) = (VERSION + 1, VERSION);
    let want = Event::GuestFailed(CallFailure::OtherVersion { theirs, ours });
    assert_eq!(world.peers[HOST].take_events(), [format!("{want:?}")]);
    assert_eq!(world.peers[HOST].n_links, 0);
    let refusal = Signal::parse(&guest.open(&world.sealed[0]).unwrap());
    assert_eq!(refusal, Ok(Signal::Refuse(Refusal::OtherVersion(VERSION))));
    // The call still waits for a guest who can take part.
    world.add(config(Role::Guest, 2));
    world.run_for(secs(1));
    assert!(world.peers.iter().all(|peer| has_event(peer, "Connected")));
}

#[test]
fn a_guest_ends_when_a_host_of_another_version_refuses_it() {
    let mut world = World::new();
    let guest = world.add(config(Role::Guest, 2));
    let mut host = Seal::new(Secret::new([9; 16]), Role::Host, [3; 16]);
    host.open(&world.sealed[0]).unwrap();
    let refusal = Signal::Refuse(Refusal::OtherVersion(VERSION + 1));
    let sealed = Bytes::from(host.seal(&refusal.to_bytes()));
    world.handle(guest, Input::Signaling(SignalingEvent::Sealed(sealed)));
    assert_end(&world, guest, &format!("Failed(OtherVersion {{ theirs: {}", VERSION + 1));
}

#[test]
fn a_hello_of_another_version_ends_the_call_of_the_guest_and_not_the_wait_of_the_host() {
    for (newer, older) in [(HOST, GUEST), (GUEST, HOST)] {
        let mut world = World::of_two();
        world.tamper = Box::new(move |from, message| {
            if from == newer && is_hello(&message) {
                return vec![[&[0][..], &(VERSION + 1).to_le_bytes(), b"new"].concat()];
            }
            vec![message]
        });
        world.run_for(secs(1));
        let failure = format!("OtherVersion {{ theirs: {}", VERSION + 1);
        if older == HOST {
            let events = world.peers[HOST].take_events();
            assert!(events.len() == 1 && events[0].contains(&failure), "{events:?}");
            assert_eq!(world.peers[HOST].end, None);
        } else {
            assert_end(&world, GUEST, &format!("Failed({failure}"));
        }
        let byes = world.peers[older]
            .count_sent(|message| matches!(message, Control::Bye(Bye::OtherVersion)));
        assert_eq!(byes, 1);
        // The newer end has received the hello of the older one, or only its goodbye.
        let end = world.peers[newer].end.clone();
        assert!(end.is_some_and(|end| end.contains("OtherVersion") || end == "PeerHungUp"));
    }
}

#[test]
fn a_goodbye_for_another_version_counts_without_a_hello() {
    let mut world = World::of_two();
    world.tamper = Box::new(|_, message| if is_hello(&message) { vec![] } else { vec![message] });
    world.run_for(secs(1));
    world.handle_control(GUEST, &Control::Bye(Bye::OtherVersion).to_bytes());
    assert_end(&world, GUEST, "Failed(OtherVersion { theirs: 0");
}

// Losing and regaining a peer.

#[test]
fn a_peer_that_is_silent_for_five_seconds_is_lost_until_it_sends_again() {
    let mut world = connected_with_faces();
    assert_features_cross(&mut world, 0..50);
    world.network_is_up = false;
    world.run_for(secs(4));
    assert!(world.peers.iter().all(|peer| peer.events.is_empty()));
    world.run_for(secs(3));
    for peer in &mut world.peers {
        assert_eq!(peer.take_events(), ["PeerLost"]);
        assert!(!peer.stats.connected);
    }
    world.restore_network();
    world.run_for(secs(2));
    for peer in &mut world.peers {
        // Over the old link, or over a new one that was ready in the same moment.
        let n_back = peer.take_events().iter().filter(|event| *event == "PeerBack").count();
        assert_eq!(n_back, 1);
    }
    assert_features_cross(&mut world, 300..350);
}

#[test]
fn a_broken_link_is_replaced_by_a_new_one() {
    let mut world = connected_with_faces();
    assert_features_cross(&mut world, 0..50);
    world.break_links();
    world.run_for(secs(11));
    for peer in &mut world.peers {
        let events = peer.take_events();
        assert_eq!(events[..2], ["PeerLost", "PeerBack"], "{events:?}");
        assert_eq!((peer.n_links, peer.end.as_deref()), (2, None));
        assert!(peer.encoder_commands.ends_with(&[EncoderCommand::Start]));
    }
    assert_features_cross(&mut world, 350..400);
}

#[test]
fn links_that_break_again_and_again_are_replaced_each_time() {
    let mut world = connected_with_faces();
    for round in 1..6 {
        world.break_links();
        world.run_for(secs(15));
        assert_features_cross(&mut world, round * 400..round * 400 + 25);
        assert_eq!(world.peers[HOST].n_links as u64, round + 1);
    }
}

#[test]
fn a_peer_that_never_comes_back_ends_the_call_after_a_minute() {
    for (dead, left) in [(HOST, GUEST), (GUEST, HOST)] {
        let mut world = World::connected();
        world.kill(dead);
        let since = world.seconds();
        world.run_until(secs(70), |world| world.peers[left].end.is_some());
        assert_end(&world, left, "PeerVanished");
        assert_eq!(world.peers[left].take_events(), ["PeerLost"]);
        let silent_for = world.seconds() - since;
        assert!((58.0..=60.1).contains(&silent_for), "{silent_for}");
        let asked = (world.peers[left].n_links, world.peers[left].n_signals);
        assert!(asked.0 <= 6 && asked.1 <= 65, "links, signals: {asked:?}");
        assert_eq!(world.peers[left].session.poll_timeout(), None);
    }
}

#[test]
fn a_restarted_guest_takes_its_old_place_once_that_is_silent() {
    let mut world = connected_with_faces();
    world.kill(GUEST);
    world.run_for(secs(1));
    let face = Some(Bytes::from(face_file(7).public_bytes()));
    let again = world.add(SessionConfig { face, ..config(Role::Guest, 3) });
    world.run_for(secs(2));
    assert!(world.peers[HOST].events.is_empty(), "the old guest may still be there");
    world.run_for(secs(60));
    let events = world.peers[HOST].take_events();
    assert_eq!(events[..2], ["PeerLost", r#"Connected { peer_name: "Bob" }"#], "{events:?}");
    assert!(events.contains(&"ModelReady { layers: 3, of: 3 }".to_owned()), "{events:?}");
    assert_eq!(world.peers[HOST].face, Some(face_file(7).model.clone()), "it brings another face");
    assert!(has_event(&world.peers[again], "Connected"));
    world.nod_for(again, 0..25);
    assert!(!world.peers[HOST].features.is_empty());
    assert_eq!(world.peers[HOST].stats.decode_errors, 0);
}

#[test]
fn events_of_a_replaced_link_are_ignored() {
    let mut world = World::connected();
    world.break_links();
    world.run_for(secs(12));
    world.peers[HOST].take_events();
    let bye = Bytes::from(Control::Bye(Bye::HungUp).to_bytes());
    world.handle(HOST, Input::Link(LinkId(1), LinkEvent::Control(bye)));
    world.handle(HOST, Input::Link(LinkId(1), LinkEvent::Failed));
    assert!(world.peers[HOST].events.is_empty() && world.peers[HOST].end.is_none());
}

// Hellos.

#[test]
fn a_lost_hello_is_repeated_until_the_peer_answers() {
    for loser in [HOST, GUEST] {
        let mut world = World::of_two();
        let mut n_lost = 0;
        world.tamper = Box::new(move |from, message| {
            if from == loser && is_hello(&message) && n_lost < 1 {
                n_lost += 1;
                return vec![];
            }
            vec![message]
        });
        world.run_for(secs(10));
        let n_hellos: usize = world.peers.iter().map(world::Peer::hellos_sent).sum();
        assert!(n_hellos <= 4, "{n_hellos} hellos");
        assert!(world.peers.iter().all(|peer| has_event(peer, "Connected")));
    }
}

#[test]
fn duplicated_hellos_start_no_storm() {
    let mut world = World::of_two();
    world.tamper =
        Box::new(|_, message| vec![message.clone(); if is_hello(&message) { 3 } else { 1 }]);
    world.run_for(secs(60));
    for peer in &mut world.peers {
        assert_eq!(peer.hellos_sent(), 2, "its own and one answer");
        assert_eq!(peer.take_events().iter().filter(|e| e.starts_with("Connected")).count(), 1);
    }
}

#[test]
fn a_peer_that_repeats_its_hello_for_ever_is_answered_once_a_second() {
    for (heard, n_answers) in [(false, 9..=11), (true, 0..=0)] {
        let mut world = connected_with_faces();
        let hello = Control::Hello { heard, token: None, name: "again".into() }.to_bytes();
        let before = world.peers[HOST].control_sent.len();
        for _ in 0..1000 {
            world.handle_control(HOST, &hello);
            world.run_for(millis(10));
        }
        let answers = &world.peers[HOST].control_sent[before..];
        assert!(n_answers.contains(&answers.len()), "{} hellos in 10 s", answers.len());
        let is_answer = |message: &Control| matches!(message, Control::Hello { heard: true, .. });
        assert!(answers.iter().all(is_answer), "nothing but hellos: {answers:?}");
        assert!(world.peers[HOST].events.is_empty());
    }
}

#[test]
fn a_hello_that_arrives_before_the_channels_report_to_be_open_counts() {
    let mut world = World::new();
    world.add(config(Role::Host, 1));
    let mut guest = Seal::new(Secret::new([9; 16]), Role::Guest, [3; 16]);
    let sealed = Bytes::from(guest.seal(&Signal::Announce(VERSION).to_bytes()));
    world.handle(HOST, Input::Signaling(SignalingEvent::Sealed(sealed)));
    let hello = hello("early");
    world.handle_control(HOST, &hello.to_bytes());
    assert_eq!(world.peers[HOST].take_events(), [r#"Connected { peer_name: "early" }"#]);
    let sent = &world.peers[HOST].control_sent;
    let [Control::Hello { .. }, Control::Hello { .. }, Control::Admission(_), ..] = sent[..] else {
        panic!("{sent:?}");
    };
}

#[test]
fn no_name_or_message_of_a_peer_acts_on_a_terminal() {
    let mut world = World::new();
    world.add(config(Role::Host, 1));
    let name = "\u{1b}[2JEve\nAda".to_owned();
    world.add(SessionConfig { name, ..config(Role::Guest, 2) });
    world.run_for(secs(1));
    let connected = "Connected { peer_name: \"\u{fffd}[2JEve Ada\" }";
    assert!(has_event(&world.peers[HOST], connected), "{:?}", world.peers[HOST].events);
    world.command(GUEST, Command::SendChat("\u{1b}]52;c;aGk=\u{7}\u{202e}".to_owned()));
    world.run_for(secs(1));
    let chat = "Chat(\"\u{fffd}]52;c;aGk=\u{fffd}\u{fffd}\")";
    assert!(has_event(&world.peers[HOST], chat), "{:?}", world.peers[HOST].events);
}

#[test]
fn a_control_message_before_the_hello_is_counted_and_ignored() {
    let mut world = World::of_two();
    world.tamper = Box::new(|_, message| if is_hello(&message) { vec![] } else { vec![message] });
    world.run_for(millis(500));
    let hash = ContentHash([7; 32]);
    for message in [
        Control::Chat("hello?".into()),
        Control::Media { muted: true, camera_off: true, has_sound: true, has_face: true },
        Control::ModelOffer { n_bytes: 1000, hash },
        Control::ModelRequest { hash, from: 0 },
        Control::ModelChunk { offset: 0, bytes: vec![1] },
    ] {
        world.handle_control(HOST, &message.to_bytes());
    }
    world.run_for(secs(2));
    assert_eq!(world.peers[HOST].stats.bad_messages, 5);
    assert!(world.peers[HOST].events.is_empty() && world.peers[HOST].end.is_none());
}

#[test]
fn hostile_control_bytes_are_counted_and_the_call_goes_on() {
    let mut world = connected_with_faces();
    let hello = hello("Bob").to_bytes();
    let mut state = 1_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    for length in 0..2000 {
        let mut bytes: Vec<u8> = (0..length % 97).map(|_| random()).collect();
        // Every kind but hello and goodbye, which may end a call.
        if let Some(kind) = bytes.first_mut() {
            *kind = [1, 2, 3, 4, 5, 6, 7, 9, 200][length % 9];
        }
        world.handle_control(HOST, &bytes);
    }
    for end in 0..hello.len().min(3) {
        world.handle_control(HOST, &hello[..end]);
    }
    world.handle_control(HOST, &vec![6; 20_000]);
    world.run_for(secs(2));
    assert!(world.peers[HOST].stats.bad_messages > 500);
    assert!(world.peers.iter().all(|peer| peer.end.is_none()));
    world.command(GUEST, Command::SendChat("still there?".into()));
    world.run_for(secs(1));
    assert!(has_event(&world.peers[HOST], r#"Chat("still there?")"#));
}

// Features and face files.

#[test]
fn features_cross_and_are_acknowledged() {
    let mut world = connected_with_faces();
    assert_features_cross(&mut world, 0..200);
    world.run_for(secs(1));
    for peer in &world.peers {
        for feature in &peer.features {
            let frame = feature.time.as_micros() / 40_000;
            let error = feature.pose.rotation().x - nod(frame).pose.rotation().x;
            assert!(error.abs() < 0.02, "{error} at frame {frame}");
        }
        let stats = &peer.stats;
        assert_eq!((stats.decode_errors, stats.features_lost, stats.key_requests), (0, 0, 0));
        assert!(stats.features_in >= 99 && stats.payload_bytes_out > 0, "{stats:?}");
        let n_acknowledged = peer
            .encoder_commands
            .iter()
            .filter(|command| matches!(command, EncoderCommand::Acknowledge(_)))
            .count();
        assert!(n_acknowledged >= 90, "{n_acknowledged} of 100 units");
        assert!(peer.encoder_commands.contains(&EncoderCommand::Acknowledge(UnitNumber(0))));
    }
}

#[test]
fn units_that_arrive_before_the_face_are_decoded_with_it() {
    let mut world = World::new();
    let face = Some(Bytes::from(face_file(1).public_bytes()));
    world.add(SessionConfig { face, ..config(Role::Host, 1) });
    world.add(config(Role::Guest, 2));
    world.tamper = Box::new(move |_, message| match Control::parse(&message) {
        Ok(Control::ModelOffer { .. }) => vec![],
        _ => vec![message],
    });
    world.run_until(secs(2), |world| has_event(&world.peers[GUEST], "Connected"));
    world.nod_for(HOST, 0..50);
    assert!(world.peers[GUEST].features.is_empty());
    let bytes = face_file(1).public_bytes();
    let (n_bytes, hash) = (bytes.len() as u32, content_hash(&bytes));
    world.handle_control(GUEST, &Control::ModelOffer { n_bytes, hash }.to_bytes());
    world.run_for(secs(1));
    assert!(has_event(&world.peers[GUEST], "ModelReady { layers: 3, of: 3 }"));
    assert_eq!(world.peers[GUEST].features.first().map(|f| f.time), Some(nod(0).time));
    assert_eq!(world.peers[GUEST].stats.decode_errors, 0);
}

#[test]
fn a_face_file_crosses_with_all_its_layers() {
    let mut world = World::new();
    let face = face_file(1);
    let bytes = Some(Bytes::from(face.public_bytes()));
    world.add(SessionConfig { face: bytes, ..config(Role::Host, 1) });
    world.add(config(Role::Guest, 2));
    world.run_for(secs(2));
    let events = world.peers[GUEST].take_events();
    assert!(events.contains(&"ModelProgress(1.0)".to_owned()), "{events:?}");
    assert_eq!(events.last().unwrap(), "ModelReady { layers: 3, of: 3 }");
    assert_eq!(world.peers[GUEST].face, Some(face.model.clone()));
    let stats = &world.peers[GUEST].stats;
    assert_eq!((stats.model_layers, stats.model_layers_of), (3, 3));
    assert!(stats.model_whole_s.is_some_and(|s| s < 1.0), "{stats:?}");
}

#[test]
fn repeated_model_offers_and_chunks_do_no_harm() {
    let mut world = World::new();
    let face = face_file(1);
    let bytes = Some(Bytes::from(face.public_bytes()));
    let n_all = face.public_bytes().len().div_ceil(8192);
    world.add(SessionConfig { face: bytes, ..config(Role::Host, 1) });
    world.add(config(Role::Guest, 2));
    world.tamper = Box::new(|_, message| {
        let is_repeated = matches!(
            Control::parse(&message),
            Ok(Control::ModelOffer { .. }
                | Control::ModelChunk { .. }
                | Control::ModelRequest { .. })
        );
        vec![message; if is_repeated { 3 } else { 1 }]
    });
    world.run_for(secs(2));
    let hello = hello("Bob");
    world.handle_control(HOST, &hello.to_bytes());
    world.run_for(secs(2));
    assert_eq!(world.peers[GUEST].face, Some(face.model.clone()));
    assert!(!has_event(&world.peers[GUEST], "ModelRefused"), "{:?}", world.peers[GUEST].events);
    let n_chunks =
        world.peers[HOST].count_sent(|message| matches!(message, Control::ModelChunk { .. }));
    assert_eq!(n_chunks, n_all, "each was sent once");
}

#[test]
fn a_missing_chunk_of_a_face_does_not_end_its_transfer() {
    let mut world = World::connected();
    let bytes = face_file(1).public_bytes();
    let (n_bytes, hash) = (bytes.len() as u32, content_hash(&bytes));
    world.handle_control(GUEST, &Control::ModelOffer { n_bytes, hash }.to_bytes());
    let chunks = bytes.chunks(8192).enumerate();
    let chunks: Vec<_> = chunks.map(|(i, bytes)| (8192 * i as u32, bytes.to_vec())).collect();
    // The second comes too early, the first twice.
    for i in [1, 0, 0].into_iter().chain(1..chunks.len()) {
        let (offset, bytes) = chunks[i].clone();
        world.handle_control(GUEST, &Control::ModelChunk { offset, bytes }.to_bytes());
    }
    world.run_for(secs(1));
    assert!(!has_event(&world.peers[GUEST], "ModelRefused"));
    assert_eq!(world.peers[GUEST].face, Some(face_file(1).model.clone()));
}

/// Each request used to be answered with 32 KiB, and each offer with a request, without end.
#[test]
fn what_a_peer_may_ask_again_is_bounded() {
    let mut world = connected_with_faces();
    world.run_for(secs(1));
    let before = world.peers[HOST].control_sent.len();
    let hash = content_hash(&face_file(1).public_bytes());
    for i in 0..30_000_u32 {
        let message = match i % 3 {
            0 => Control::ModelRequest { hash, from: 1 },
            1 => Control::ModelRequest { hash, from: 0 },
            _ => Control::ModelOffer { n_bytes: 1000 + i, hash: ContentHash([i as u8; 32]) },
        };
        world.handle_control(HOST, &message.to_bytes());
        world.run_for(millis(1));
    }
    let answers = &world.peers[HOST].control_sent[before..];
    assert!(answers.len() <= 8, "{} answers to 30,000 messages", answers.len());
    let n_read = world.peers[HOST].take_events().len();
    assert!(n_read <= 8, "{n_read} events");
}

#[test]
fn a_transfer_that_breaks_off_resumes_on_the_next_link() {
    let mut world = World::new();
    let face = face_file(1);
    let bytes = Some(Bytes::from(face.public_bytes()));
    world.add(SessionConfig { face: bytes, ..config(Role::Host, 1) });
    world.add(config(Role::Guest, 2));
    let (mut n_chunks, n_all) = (0, face.public_bytes().len().div_ceil(8192));
    assert!(n_all > 1, "the file fits one chunk");
    world.tamper = Box::new(move |_, message| {
        let is_chunk = matches!(Control::parse(&message), Ok(Control::ModelChunk { .. }));
        n_chunks += usize::from(is_chunk);
        // Of the first link only the first chunk arrives.
        if is_chunk && (2..=n_all).contains(&n_chunks) { vec![] } else { vec![message] }
    });
    world.run_for(secs(2));
    world.break_links();
    world.run_for(secs(15));
    assert_eq!(world.peers[GUEST].face, Some(face.model.clone()));
}

#[test]
fn a_face_that_is_not_what_was_offered_is_refused_and_the_call_goes_on() {
    let mut world = World::connected();
    let damaged = vec![1; 100];
    let offer = Control::ModelOffer { n_bytes: 100, hash: ContentHash([7; 32]) };
    world.handle_control(GUEST, &offer.to_bytes());
    world.handle_control(GUEST, &Control::ModelChunk { offset: 0, bytes: damaged }.to_bytes());
    world.run_for(secs(1));
    world.handle_control(
        GUEST,
        &Control::ModelOffer { n_bytes: 0, hash: ContentHash([8; 32]) }.to_bytes(),
    );
    world.run_for(secs(1));
    let refusals =
        world.peers[GUEST].take_events().iter().filter(|e| e.starts_with("ModelRefused")).count();
    assert_eq!(refusals, 2);
    assert!(world.peers[GUEST].face.is_none() && world.peers[GUEST].end.is_none());
}

// Wishes of the user.

#[test]
fn mute_camera_and_rate_reach_encoder_peer_and_statistics() {
    let mut world = World::connected();
    for command in [
        Command::SetMuted(true),
        Command::SetCameraOn(false),
        Command::SetRate(Rate::Low),
        Command::SetCameraOn(true),
    ] {
        world.command(HOST, command);
    }
    world.run_for(millis(1500));
    let media = |muted, camera_off| format!("{:?}", Event::PeerMedia { muted, camera_off });
    let want = [media(true, false), media(true, true), media(true, false)];
    assert_eq!(world.peers[GUEST].take_events(), want);
    let host = &world.peers[HOST];
    let want = [
        EncoderCommand::SetCameraOn(false),
        EncoderCommand::SetRate(Rate::Low),
        EncoderCommand::SetCameraOn(true),
    ];
    assert!(host.encoder_commands.ends_with(&want), "{:?}", host.encoder_commands);
    assert_eq!(
        host.media,
        LocalMedia {
            muted: true,
            talks: false,
            camera_on: true,
            shows_face: true,
            rate: Rate::Low
        }
    );
    assert!(host.stats.muted && !host.stats.camera_off && host.stats.rate == Rate::Low);
}

#[test]
fn wishes_before_the_connection_reach_the_peer_with_it() {
    let mut world = World::of_two();
    world.command(HOST, Command::SetMuted(true));
    world.command(HOST, Command::SendChat("nobody hears this".into()));
    world.run_for(secs(1));
    let events = world.peers[GUEST].take_events();
    assert!(events.contains(&"PeerMedia { muted: true, camera_off: false }".to_owned()));
    assert!(!events.iter().any(|event| event.starts_with("Chat")), "{events:?}");
}

// The end.

#[test]
fn hanging_up_in_any_phase_ends_the_call_on_both_sides() {
    let connecting = || {
        let mut world = World::of_two();
        world.has_path = false;
        world.run_for(secs(3));
        world
    };
    let lost = || {
        let mut world = World::connected();
        world.network_is_up = false;
        world.run_for(secs(7));
        world
    };
    let phases: [(&str, &dyn Fn() -> World); 4] = [
        ("waiting", &World::of_two),
        ("connecting", &connecting),
        ("connected", &World::connected),
        ("lost", &lost),
    ];
    for (name, world) in phases {
        for (ours, theirs) in [(HOST, GUEST), (GUEST, HOST)] {
            let mut world = world();
            world.command(ours, Command::HangUp);
            assert_end(&world, ours, "HungUp");
            world.run_for(secs(1));
            if ["waiting", "connecting"].contains(&name) && ours == GUEST {
                assert_eq!(world.peers[HOST].end, None, "another guest may come");
                continue;
            }
            assert_end(&world, theirs, "PeerHungUp");
            let byes = world.peers[ours].count_sent(|message| matches!(message, Control::Bye(_)));
            assert_eq!(byes, usize::from(["connected", "lost"].contains(&name)), "{name}");
        }
    }
}

#[test]
fn nothing_happens_after_the_end() {
    let mut world = World::connected();
    world.command(HOST, Command::HangUp);
    // The world checks that no output follows the end.
    world.command(HOST, Command::HangUp);
    world.command(HOST, Command::SetMuted(true));
    world.handle_control(HOST, &Control::Chat("late".into()).to_bytes());
    world.handle(HOST, Input::NoSound("late".into()));
    world.send_feature(HOST, &nod(1));
    assert_eq!(world.peers[HOST].session.poll_timeout(), None);
    assert!(world.peers[HOST].stats.t_s > 0.0, "the last statistics come before the end");
}

#[test]
fn an_error_at_one_end_ends_the_call_at_the_other() {
    let mut world = World::connected();
    world.handle_control(HOST, &Control::Bye(Bye::Failed).to_bytes());
    assert_end(&world, HOST, "Failed(PeerFailed)");
}

#[test]
fn the_same_inputs_give_the_same_outputs() {
    let run = || {
        let mut world = connected_with_faces();
        world.log = Some(Vec::new());
        world.nod_for(HOST, 0..50);
        world.break_links();
        world.run_for(secs(12));
        world.command(GUEST, Command::HangUp);
        world.run_for(secs(1));
        // Times of arrival differ, because an `Instant` has no fixed beginning.
        let log = world.log.take().unwrap_or_default();
        log.into_iter().filter(|output| !output.contains("Instant")).collect::<Vec<_>>()
    };
    let (first, second) = (run(), run());
    assert!(first.len() > 100);
    assert_eq!(first, second);
}

#[test]
fn a_waiting_session_wakes_once_per_second() {
    let mut world = World::new();
    world.add(config(Role::Host, 1));
    let wakes = |world: &mut World, duration: Duration| {
        let (start, mut n_wakes) = (world.now, 0);
        while let Some(due) = world.peers[HOST].session.poll_timeout()
            && due < start + duration
        {
            world.now = world.now.max(due);
            world.handle(HOST, Input::Timeout);
            n_wakes += 1;
        }
        n_wakes
    };
    assert!((3590..=3600).contains(&wakes(&mut world, secs(3600))));
}
