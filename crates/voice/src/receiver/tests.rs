use bytes::Bytes;
use types::Rate;

use super::*;
use crate::VoiceEncoder;
use crate::speech::{power, speech};

const SECOND: Duration = Duration::from_secs(1);

/// Packets of `seconds` of speech, each with the time at which it can be sent.
fn packets(rate: Rate, seconds: usize) -> Vec<(Duration, VoicePacket)> {
    let mut encoder = VoiceEncoder::new(rate).unwrap();
    let voices = speech(seconds).iter().flat_map(|s| encoder.encode(s, false)).collect::<Vec<_>>();
    let frame = rate.parameters().opus_frame;
    (0..)
        .zip(voices)
        .map(|(sequence, voice)| {
            let sent = Duration::from_micros(voice.time.as_micros()) + frame;
            let timestamp = voice.timestamp();
            (sent, VoicePacket { sequence, timestamp, opus: voice.opus })
        })
        .collect()
}

/// Plays packets that arrive at given times, for `seconds`.
fn play(
    receiver: &mut VoiceReceiver,
    mut arrivals: Vec<(Duration, VoicePacket)>,
    seconds: usize,
) -> Vec<PlayedVoice> {
    let start = Instant::now();
    arrivals.sort_by_key(|(arrival, _)| *arrival);
    let mut arrivals = arrivals.into_iter().peekable();
    (0..100 * seconds as u32)
        .map(|block| {
            let now = block * Duration::from_millis(10);
            while let Some((_, packet)) = arrivals.next_if(|(arrival, _)| *arrival <= now) {
                receiver.insert(start + now, packet);
            }
            receiver.pull(start + now)
        })
        .collect()
}

fn count(played: &[PlayedVoice], kind: SoundKind) -> usize {
    played.iter().filter(|block| block.kind == kind).count()
}

#[test]
fn speech_on_a_good_line_is_played_whole_at_every_rate() {
    for rate in Rate::ALL {
        let mut receiver = VoiceReceiver::new().unwrap();
        let played = play(&mut receiver, packets(rate, 3), 3);
        assert_eq!(count(&played, SoundKind::Concealed), 0, "{rate}");
        let heard: Vec<f32> = played.iter().flat_map(|block| block.samples).collect();
        let spoken: Vec<f32> = speech(3).into_iter().flat_map(|s| s.samples).collect();
        let ratio = power(&heard[48_000..]) / power(&spoken[48_000..]);
        assert!((0.3..2.0).contains(&ratio), "{rate}: {ratio}");
        assert!(
            receiver.stats().delay < Duration::from_millis(60),
            "{rate}: {:?}",
            receiver.stats()
        );
    }
}

#[test]
fn a_block_has_the_capture_time_of_its_first_sample() {
    let mut receiver = VoiceReceiver::new().unwrap();
    let played = play(&mut receiver, packets(Rate::Normal, 2), 2);
    for pair in played.windows(2) {
        if let (Some(first), Some(second)) = (pair[0].time, pair[1].time) {
            // A pitch period more where the delay was shortened.
            let step = second.saturating_since(first).as_micros();
            assert!((9_000..=26_000).contains(&step), "{step}");
        }
    }
    assert!(played[50].time.is_some());
}

#[test]
fn repeated_and_reordered_packets_change_nothing() {
    let mut arrivals = packets(Rate::High, 2);
    let mut again = arrivals.clone();
    again.iter_mut().for_each(|(arrival, _)| *arrival += Duration::from_millis(5));
    arrivals.extend(again);
    for pair in arrivals.chunks_exact_mut(2).skip(2) {
        pair[0].0 = pair[1].0;
    }
    let mut receiver = VoiceReceiver::new().unwrap();
    let played = play(&mut receiver, arrivals, 2);
    assert_eq!(count(&played, SoundKind::Concealed), 0);
    assert_eq!(receiver.stats().lost, 0);
}

#[test]
fn a_sender_that_restarts_is_heard_again_within_a_second() {
    let mut arrivals = packets(Rate::Low, 2);
    let restarted = packets(Rate::Low, 2);
    arrivals.extend(restarted.into_iter().map(|(sent, mut packet)| {
        packet.timestamp = packet.timestamp.wrapping_add(3_000_000_000);
        packet.sequence = packet.sequence.wrapping_add(40_000);
        (sent + 2 * SECOND, packet)
    }));
    let mut receiver = VoiceReceiver::new().unwrap();
    let played = play(&mut receiver, arrivals, 4);
    assert!(count(&played[300..], SoundKind::Decoded) > 90);
}

#[test]
fn damaged_packets_are_counted_and_skipped() {
    let mut receiver = VoiceReceiver::new().unwrap();
    let now = Instant::now();
    for (sequence, opus) in [&[0xff_u8; 3][..], &[0; 1300], &[3]].into_iter().enumerate() {
        let opus = Bytes::copy_from_slice(opus);
        receiver.insert(now, VoicePacket { sequence: sequence as u16, timestamp: 0, opus });
    }
    assert_eq!(receiver.stats().damaged, 3);
    assert_eq!(receiver.pull(now + SECOND).kind, SoundKind::Silence);
}
