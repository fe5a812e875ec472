//! Sound, and feature packets that travel in its packets.

use bytes::Bytes;
use codec::AccessUnit;
use transport::Role;
use types::Rate;

use super::world::{GUEST, HOST, World, config, face_file, millis, nod, secs};
use crate::event::Command;
use crate::session::{
    Input, LinkEvent, LinkId, SessionConfig, SoundPacket, TrackedFrame, VoiceCommand,
};

/// Two peers who are connected, with or without a sound track, that send at a rate.
fn connected(has_sound: [bool; 2], rate: Rate) -> World {
    let mut world = World::new();
    for (role, has_sound) in [Role::Host, Role::Guest].into_iter().zip(has_sound) {
        let index = world.peers.len();
        let face = Some(Bytes::from(face_file(index).public_bytes()));
        world.add(SessionConfig { face, has_sound, ..config(role, 1 + index as u8) });
        world.command(index, Command::SetRate(rate));
    }
    world.run_for(secs(2));
    for peer in &mut world.peers {
        assert!(peer.face.is_some());
        peer.voice_commands.clear();
        peer.n_feature_messages = 0;
    }
    world
}

/// The host moves for 8 s, and speaks if `speaks`.
fn talk(world: &mut World, speaks: bool, rate: Rate) {
    let (start, frame) = (world.now, rate.parameters().opus_frame);
    let mut n_frames = 0;
    for frame_idx in 0..200 {
        world.send_feature(HOST, &nod(frame_idx));
        world.run_for(millis(40));
        while speaks && start + n_frames * frame <= world.now {
            world.speak(HOST, u64::from(n_frames) * frame.as_millis() as u64);
            n_frames += 1;
        }
    }
    world.run_for(secs(1));
}

/// Sound packets with and without sound that a peer has received.
fn heard(world: &World, index: usize) -> (usize, usize) {
    let with_sound = world.peers[index].heard.iter().filter(|packet| !packet.opus.is_empty());
    let n = with_sound.count();
    (n, world.peers[index].heard.len() - n)
}

#[test]
fn sound_is_sent_to_a_connected_peer_unless_muted() {
    let mut world = World::new();
    world.add(SessionConfig { has_sound: true, ..config(Role::Host, 1) });
    let speak = |world: &mut World| {
        (0..10).for_each(|i| world.speak(HOST, i * 60));
        world.run_for(millis(1100));
        world.peers[HOST].stats.sound_packets_out
    };
    assert_eq!(speak(&mut world), 0, "nobody is there");
    world.add(SessionConfig { has_sound: true, ..config(Role::Guest, 2) });
    world.run_for(secs(1));
    assert_eq!(speak(&mut world), 10);
    assert_eq!(world.peers[GUEST].stats.sound_packets_in, 10);
    world.command(HOST, Command::SetMuted(true));
    assert_eq!(speak(&mut world), 10);
    assert_eq!(world.peers[HOST].voice_commands, [VoiceCommand::Mute(true)]);
}

#[test]
fn the_timestamp_of_sound_is_its_capture_time_in_samples() {
    let mut world = connected([true; 2], Rate::High);
    for ms in [0, 20, 89_478_480] {
        world.speak(HOST, ms);
    }
    world.run_for(secs(1));
    let heard = &world.peers[GUEST].heard;
    let stamps: Vec<_> = heard.iter().map(|packet| (packet.sequence, packet.timestamp)).collect();
    // 2^32 samples are 89,478,485.3 ms.
    assert_eq!(stamps, [(0, 0), (1, 960), (2, u32::MAX - 255)]);
}

#[test]
fn features_travel_with_sound_where_both_ends_have_it_and_the_rate_wants_it() {
    for rate in Rate::ALL {
        for has_sound in [[true, true], [true, false], [false, true]] {
            let mut world = connected(has_sound, rate);
            talk(&mut world, has_sound[HOST], rate);
            let in_sound = has_sound == [true, true] && rate.parameters().features_in_sound;
            let n_units = world.peers[GUEST].stats.features_in;
            let [host, guest] = &world.peers[..] else { unreachable!() };
            assert!(n_units >= 38, "{rate}, {has_sound:?}: {n_units} units");
            if in_sound {
                let (with_sound, alone) = heard(&world, GUEST);
                assert_eq!(host.n_feature_messages, 0, "{rate}");
                assert_eq!(guest.n_feature_messages, 0, "{rate}: reports travel likewise");
                // When the head stops to move, nothing is said any more, so the last ones are alone.
                let n_frames = 8000 / rate.parameters().opus_frame.as_millis() as usize;
                assert!(with_sound >= n_frames && alone < 4, "{rate}: {with_sound}, {alone}");
            } else {
                assert!(host.n_feature_messages >= 38, "{rate}: {}", host.n_feature_messages);
            }
        }
    }
}

#[test]
fn features_wait_for_sound_for_no_longer_than_one_opus_frame() {
    for rate in [Rate::Satellite, Rate::Low, Rate::Normal] {
        let mut world = connected([true; 2], rate);
        world.speak(HOST, 0);
        let said = world.now;
        world.send_feature(HOST, &nod(0));
        world.run_until(secs(1), |world| !world.peers[GUEST].features.is_empty());
        let waited = world.now - said;
        let frame = rate.parameters().opus_frame;
        assert!(waited > frame && waited < frame + millis(80), "{rate}: {waited:?}");
    }
}

#[test]
fn in_a_pause_of_speech_features_travel_alone_and_at_once() {
    let mut world = connected([true; 2], Rate::Low);
    talk(&mut world, false, Rate::Low);
    let (with_sound, alone) = heard(&world, GUEST);
    assert_eq!((with_sound, world.peers[HOST].n_feature_messages), (0, 0));
    assert!(alone >= 50, "{alone}");
    world.peers[GUEST].features.clear();
    let moved = world.now;
    world.send_feature(HOST, &nod(225));
    world.run_until(secs(1), |world| !world.peers[GUEST].features.is_empty());
    assert!(world.now - moved < millis(80), "{:?}", world.now - moved);
}

#[test]
fn feature_packets_too_long_for_a_sound_packet_use_the_data_channel() {
    let mut world = connected([true; 2], Rate::Low);
    let mut unit = world.peers[HOST].encoder.push(&nod(0), false).expect("the first one is due");
    for (length, n_messages) in [(245, 0), (250, 1)] {
        unit.unit = AccessUnit::parse(&vec![7; length]).unwrap();
        unit.number = unit.number.offset(1);
        let frame = TrackedFrame { face_found: true, unit: Some(unit.clone()), took: millis(3) };
        world.handle(HOST, Input::Frame(Box::new(frame)));
        assert_eq!(world.peers[HOST].n_feature_messages, n_messages, "{length} bytes");
    }
}

#[test]
fn hostile_payloads_are_counted_and_skipped() {
    let mut world = connected([true; 2], Rate::Low);
    let long = vec![1; 1500];
    let hostile = [
        (&[][..], false),
        (&[0], false),
        (&[200, 1, 2], false),
        (&long, false),
        (&[0, 9, 1], true),
    ];
    for (sequence, (payload, is_pair)) in (0..).zip(hostile) {
        let packet = SoundPacket {
            sequence,
            timestamp: 0,
            is_pair,
            payload: Bytes::copy_from_slice(payload),
        };
        world.handle(GUEST, Input::Link(LinkId(1), LinkEvent::Sound(packet)));
    }
    // A feature packet that is none, beside sound that is fine.
    let payload = Bytes::from_static(&[2, 0xff, 0xff, 1, 2, 3]);
    let packet = SoundPacket { sequence: 5, timestamp: 0, is_pair: false, payload };
    world.handle(GUEST, Input::Link(LinkId(1), LinkEvent::Sound(packet)));
    world.run_for(millis(1500));
    assert_eq!(world.peers[GUEST].stats.bad_messages, 6);
    assert_eq!(heard(&world, GUEST).0, 1, "the sound is fine");
    talk(&mut world, true, Rate::Low);
    assert!(world.peers[GUEST].stats.features_in > 40);
}

#[test]
fn two_opus_packets_share_a_packet_at_the_satellite_rate() {
    let mut world = connected([true; 2], Rate::Satellite);
    let speak = |world: &mut World, times: &[u64]| {
        world.peers[GUEST].heard.clear();
        for ms in times {
            world.speak(HOST, *ms);
            world.run_for(millis(120));
        }
        world.run_for(millis(200));
        let heard = world.peers[GUEST].heard.iter().filter(|packet| !packet.opus.is_empty());
        heard.map(|packet| (packet.sequence, packet.timestamp / 48)).collect::<Vec<_>>()
    };
    let before = world.peers[HOST].stats.sound_packets_out;
    let heard = speak(&mut world, &[0, 120, 240, 360, 480]);
    let stamps: Vec<_> = heard.iter().map(|(_, ms)| *ms).collect();
    assert_eq!(stamps, [0, 120, 240, 360, 480]);
    assert!(heard[0].0 == heard[1].0 && heard[2].0 == heard[3].0 && heard[3].0 != heard[4].0);
    // A pause: the first one goes alone, once it is clear that none follows.
    let heard = speak(&mut world, &[5000, 9000, 9120]);
    assert!(heard[0].0 != heard[1].0 && heard[1].0 == heard[2].0, "{heard:?}");
    world.run_for(secs(1));
    assert_eq!(world.peers[HOST].stats.sound_packets_out - before, 5);
    // At another rate nothing is held back.
    world.command(HOST, Command::SetRate(Rate::Low));
    assert_eq!(speak(&mut world, &[10_000]).len(), 1);
}

#[test]
fn the_speaker_learns_how_much_of_its_sound_is_lost_though_nobody_shows_a_face() {
    let mut world = connected([true; 2], Rate::Normal);
    for i in 0..400 {
        world.network_is_up = i % 4 != 0;
        world.speak(HOST, i * 60);
        world.run_for(millis(60));
    }
    world.network_is_up = true;
    world.run_for(secs(3));
    let loss = world.peers[HOST].voice_commands.iter().rev().find_map(|command| match command {
        VoiceCommand::ExpectLoss(loss) => Some(*loss),
        _ => None,
    });
    assert!(loss.is_some_and(|loss| (loss - 0.25).abs() < 0.05), "{loss:?}");
    assert!((world.peers[HOST].stats.sound_loss_out - 0.25).abs() < 0.05);
}

/// What a host said while nobody was there, or to its last guest, used to reach the next one.
#[test]
fn the_next_guest_hears_nothing_that_was_said_before() {
    let mut world = World::new();
    let with_sound = |role, salt| SessionConfig { has_sound: true, ..config(role, salt) };
    world.add(SessionConfig { keep_link: true, ..with_sound(Role::Host, 1) });
    world.add(with_sound(Role::Guest, 2));
    world.run_for(secs(2));
    assert_eq!(world.peers[HOST].voice_commands, [], "the microphone begins without pause");
    world.command(GUEST, Command::HangUp);
    world.run_for(secs(2));
    let commands = std::mem::take(&mut world.peers[HOST].voice_commands);
    assert_eq!(commands, [VoiceCommand::NewListener(2), VoiceCommand::Pause(true)]);
    let next = world.add(with_sound(Role::Guest, 3));
    world.run_for(secs(2));
    assert_eq!(world.peers[HOST].voice_commands, [VoiceCommand::Pause(false)]);
    world.speak_to(HOST, 0, 1);
    world.run_for(secs(1));
    assert_eq!(heard(&world, next).0, 0);
    world.speak_to(HOST, 60, 2);
    world.run_for(secs(1));
    assert_eq!(heard(&world, next).0, 1);
}

/// Packets that never arrived used to count as a sign of life, so nothing else was sent, and the peer
/// believed every five seconds that we were lost.
#[test]
fn nothing_is_said_to_a_peer_without_sound_which_hears_of_us_nevertheless() {
    let mut world = connected([false, true], Rate::Normal);
    for i in 0..300 {
        world.speak(GUEST, i * 60);
        world.run_for(millis(60));
    }
    assert_eq!(world.peers[GUEST].stats.sound_packets_out, 0);
    assert!(world.peers[HOST].heard.is_empty());
    assert!(!world.peers[HOST].take_events().iter().any(|event| event.starts_with("PeerLost")));
}
