use bytes::Bytes;
use proptest::prelude::*;
use types::Rate;

use super::*;
use crate::speech::{power, speech};
use crate::{EncoderSettings, History, HistoryQuality, VoiceEncoder};

const SECOND: Duration = Duration::from_secs(1);

/// Packets of `seconds` of speech, each with the time at which it can be sent.
fn packets(rate: Rate, seconds: usize) -> Vec<(Duration, VoicePacket)> {
    sent_by(&mut VoiceEncoder::new(rate).unwrap(), rate, seconds)
}

fn sent_by(encoder: &mut VoiceEncoder, rate: Rate, seconds: usize) -> Vec<(Duration, VoicePacket)> {
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
    for (arrival, _) in &mut again {
        *arrival += Duration::from_millis(5);
    }
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
fn the_delay_follows_the_jitter_up_and_down_and_nothing_is_lost_by_it() {
    // 2 s on an even line, 6 s with 60 ms of jitter, then even again.
    let mut arrivals = packets(Rate::High, 20);
    let mut random = Random(3);
    for (sent, _) in &mut arrivals {
        if (2..8).contains(&sent.as_secs()) {
            *sent += Duration::from_millis(60).mul_f32(random.next());
        }
    }
    let mut receiver = VoiceReceiver::new().unwrap();
    let start = Instant::now();
    let mut delays = Vec::new();
    let mut arrivals = arrivals.into_iter().peekable();
    let mut waiting: Vec<(Duration, VoicePacket)> = Vec::new();
    for block in 0..1950_u32 {
        let now = block * Duration::from_millis(10);
        waiting.extend(std::iter::from_fn(|| {
            arrivals.next_if(|(sent, _)| *sent <= now + Duration::from_millis(100))
        }));
        waiting.sort_by_key(|(arrival, _)| *arrival);
        while waiting.first().is_some_and(|(arrival, _)| *arrival <= now) {
            receiver.insert(start + now, waiting.remove(0).1);
        }
        receiver.pull(start + now);
        delays.push(receiver.stats().delay.as_millis());
    }
    let stats = receiver.stats();
    assert!((8..50).contains(&delays[190]), "{}", delays[190]);
    assert!((45..100).contains(&delays[790]), "{}", delays[790]);
    assert!((5..35).contains(&delays[1940]), "{}", delays[1940]);
    // The first late packets are not foreseen.
    assert!(stats.concealed_blocks < 15, "{stats:?}");
    assert!(stats.removed_samples > 1000, "{stats:?}");
}

#[test]
fn lip_sync_can_ask_for_more_delay() {
    let mut receiver = VoiceReceiver::new().unwrap();
    receiver.set_min_delay(Duration::from_millis(200));
    let played = play(&mut receiver, packets(Rate::High, 3), 3);
    assert_eq!(count(&played, SoundKind::Concealed), 0);
    assert!((190..215).contains(&receiver.stats().delay.as_millis()), "{:?}", receiver.stats());
}

#[test]
fn a_loss_is_recovered_from_one_packet_as_far_as_its_history_goes() {
    // Coarse histories describe about 0.2 s, fine ones 0.5 s.
    for (loss, n_recovered, n_concealed) in [(0.0, 12..=24, 10..=10), (0.3, 40..=48, 0..=8)] {
        let mut encoder = VoiceEncoder::new(Rate::Normal).unwrap();
        encoder.set_expected_loss(loss);
        let mut receiver = VoiceReceiver::new().unwrap();
        receiver.set_min_delay(Duration::from_millis(600));
        let arrivals = sent_by(&mut encoder, Rate::Normal, 4)
            .into_iter()
            .filter(|(_, packet)| !(40..48).contains(&packet.sequence))
            .collect();
        let played = play(&mut receiver, arrivals, 4);
        let stats = receiver.stats();
        assert!(n_recovered.contains(&count(&played, SoundKind::Recovered)), "{stats:?}");
        assert!(n_concealed.contains(&count(&played, SoundKind::Concealed)), "{stats:?}");
        assert_eq!(stats.lost, 8);
        let heard = |kind| -> Vec<f32> {
            let blocks = played.iter().filter(|block| block.kind == kind);
            blocks.flat_map(|block| block.samples).collect()
        };
        let decoded = power(&heard(SoundKind::Decoded));
        // Something like a syllable each.
        for (i, piece) in heard(SoundKind::Recovered).chunks_exact(9600).enumerate() {
            let ratio = power(piece) / decoded;
            assert!((0.2..3.0).contains(&ratio), "{loss}, {i}: {ratio}");
        }
    }
}

/// A history of a later version, or rubbish.
#[test]
fn a_history_that_cannot_be_read_recovers_nothing() {
    let mut arrivals = packets(Rate::Normal, 4);
    arrivals.retain(|(_, packet)| !(40..43).contains(&packet.sequence));
    for (_, packet) in &mut arrivals {
        let parsed = OpusPacket::parse(&packet.opus).unwrap();
        packet.opus = Bytes::from(parsed.bytes(Some(&[b'D', 255, 1, 2, 3])).unwrap());
    }
    let mut receiver = VoiceReceiver::new().unwrap();
    receiver.set_min_delay(Duration::from_millis(600));
    let played = play(&mut receiver, arrivals, 4);
    assert_eq!(count(&played, SoundKind::Recovered), 0);
    assert_eq!(count(&played, SoundKind::Concealed), 10);
}

#[test]
fn narrow_band_packets_are_recovered_from_their_histories_too() {
    let mut encoder = VoiceEncoder::new(Rate::Low).unwrap();
    let history = Some(History { tens_of_ms: 50, quality: HistoryQuality::Fine });
    encoder.set(EncoderSettings {
        history,
        is_wideband: false,
        ..EncoderSettings::new(Rate::Low, 0.0)
    });
    let mut receiver = VoiceReceiver::new().unwrap();
    receiver.set_min_delay(Duration::from_millis(600));
    let arrivals = sent_by(&mut encoder, Rate::Low, 4)
        .into_iter()
        .filter(|(_, packet)| !(15..18).contains(&packet.sequence))
        .collect();
    let played = play(&mut receiver, arrivals, 4);
    assert!(count(&played, SoundKind::Recovered) >= 34, "{:?}", receiver.stats());
    let heard = |kind| -> Vec<f32> {
        played.iter().filter(|block| block.kind == kind).flat_map(|block| block.samples).collect()
    };
    let ratio = power(&heard(SoundKind::Recovered)) / power(&heard(SoundKind::Decoded));
    assert!((0.2..3.0).contains(&ratio), "{ratio}");
}

#[test]
fn packets_that_repeat_the_one_before_cover_single_losses_at_rate_high() {
    let mut encoder = VoiceEncoder::new(Rate::High).unwrap();
    encoder.set_expected_loss(0.1);
    let arrivals: Vec<_> = sent_by(&mut encoder, Rate::High, 4)
        .into_iter()
        .filter(|(_, packet)| packet.sequence % 10 != 9)
        .collect();
    let mut receiver = VoiceReceiver::new().unwrap();
    let played = play(&mut receiver, arrivals, 4);
    // libopus repeats what is loud, and the first losses are not foreseen.
    let (recovered, concealed) =
        (count(&played, SoundKind::Recovered), count(&played, SoundKind::Concealed));
    assert!(recovered >= 20 && concealed < recovered, "{:?}", receiver.stats());
}

#[test]
fn a_pause_of_the_sender_is_filled_with_noise_and_no_loss() {
    let mut arrivals = packets(Rate::High, 4);
    arrivals.retain(|(_, packet)| !(50..150).contains(&packet.sequence));
    for (number, (_, packet)) in (0..).zip(&mut arrivals) {
        packet.sequence = number;
    }
    let mut receiver = VoiceReceiver::new().unwrap();
    let played = play(&mut receiver, arrivals, 4);
    assert_eq!(receiver.stats().lost, 0);
    assert_eq!(count(&played, SoundKind::Recovered), 0);
    assert!(count(&played, SoundKind::Concealed) <= 12, "{:?}", receiver.stats());
    assert!(count(&played, SoundKind::ComfortNoise) > 180);
    assert!(played[380].time.unwrap().as_micros().abs_diff(3_760_000) < 60_000);
}

#[test]
fn a_packet_without_sound_counts_as_received() {
    let mut receiver = VoiceReceiver::new().unwrap();
    let mut arrivals = packets(Rate::High, 1);
    for (number, (_, packet)) in (0..).zip(&mut arrivals) {
        packet.sequence = 2 * number;
    }
    let silent = arrivals.clone().into_iter().map(|(sent, mut packet)| {
        packet.sequence += 1;
        packet.opus = Bytes::new();
        (sent, packet)
    });
    arrivals.extend(silent.collect::<Vec<_>>());
    play(&mut receiver, arrivals, 1);
    let stats = receiver.stats();
    assert_eq!((stats.lost, stats.damaged), (0, 0), "{stats:?}");
}

#[test]
fn a_pause_of_many_packets_without_sound_is_no_loss_and_adds_no_delay() {
    let mut arrivals = packets(Rate::High, 6);
    for (_, packet) in &mut arrivals {
        if (100..250).contains(&packet.sequence) {
            packet.opus = Bytes::new();
        }
    }
    let mut receiver = VoiceReceiver::new().unwrap();
    let played = play(&mut receiver, arrivals, 6);
    let stats = receiver.stats();
    assert_eq!((stats.lost, count(&played, SoundKind::Recovered)), (0, 0), "{stats:?}");
    assert!(stats.target_delay < Duration::from_millis(60), "{stats:?}");
}

#[test]
fn a_line_that_is_suddenly_much_slower_is_heard_again_within_a_second() {
    for (rate, step) in [(Rate::Low, 1100), (Rate::High, 1500), (Rate::Low, 1900)] {
        let mut arrivals = packets(rate, 4);
        for (arrival, _) in arrivals.iter_mut().filter(|(sent, _)| *sent >= 2 * SECOND) {
            *arrival += Duration::from_millis(step);
        }
        let mut receiver = VoiceReceiver::new().unwrap();
        let played = play(&mut receiver, arrivals, 7);
        let last_second = &played[300 + step as usize / 10..];
        assert!(count(last_second, SoundKind::Decoded) > 80, "{rate}: {:?}", receiver.stats());
    }
}

/// Else one pull would decode every packet that waits.
#[test]
fn a_packet_whose_sound_has_mostly_arrived_is_refused() {
    let start = Instant::now();
    let long = packets(Rate::Low, 1).swap_remove(2).1.opus;
    // Ten milliseconds of silence.
    let short = Bytes::from_static(&[0xf0]);
    for opus in [long, short] {
        let mut receiver = VoiceReceiver::new().unwrap();
        for n in 0..200 {
            let packet = VoicePacket { sequence: n, timestamp: u32::from(n), opus: opus.clone() };
            receiver.insert(start, packet);
        }
        assert_eq!(receiver.stats().damaged, 199);
    }
}

#[test]
fn a_sender_that_corrects_its_clock_loses_nothing() {
    let mut arrivals = packets(Rate::High, 3);
    for (n, (_, packet)) in (0..).zip(&mut arrivals) {
        packet.timestamp -= n / 10 * 240;
    }
    let mut receiver = VoiceReceiver::new().unwrap();
    let played = play(&mut receiver, arrivals, 3);
    assert_eq!(count(&played, SoundKind::Concealed), 0);
    assert_eq!(receiver.stats().damaged, 0);
}

#[test]
fn what_no_packet_repeats_is_not_called_recovered_and_ends_in_noise() {
    let mut encoder = VoiceEncoder::new(Rate::High).unwrap();
    encoder.set_expected_loss(0.1);
    let mut arrivals = sent_by(&mut encoder, Rate::High, 4);
    // 300 ms are lost up to a syllable, of which the last 20 ms are repeated.
    arrivals.retain(|(_, packet)| !(92..107).contains(&packet.sequence));
    let mut receiver = VoiceReceiver::new().unwrap();
    receiver.set_min_delay(Duration::from_millis(600));
    let played = play(&mut receiver, arrivals, 4);
    assert!(count(&played, SoundKind::Recovered) <= 3, "{:?}", receiver.stats());
    assert!(count(&played, SoundKind::Concealed) <= 10, "{:?}", receiver.stats());
    assert!(count(&played, SoundKind::ComfortNoise) >= 17, "{:?}", receiver.stats());
    assert_eq!(receiver.stats().lost, 15);
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

/// A linear congruential generator.
struct Random(u32);

impl Random {
    /// Returns a number in 0..1.
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as f32 / 16_777_216.0
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Genuine and random Opus under any numbers, times and order: work and sound stay bounded.
    #[test]
    fn any_packets_give_bounded_sound(
        arrivals: Vec<(u16, u32, Option<u8>, Vec<u8>, bool)>,
    ) {
        let genuine = packets(Rate::Normal, 3);
        let mut receiver = VoiceReceiver::new().unwrap();
        let start = Instant::now();
        let mut now = Duration::ZERO;
        for (sequence, timestamp, index, bytes, is_near) in arrivals {
            let packet = index.map(|index| &genuine[usize::from(index) % genuine.len()].1);
            let opus = packet.map_or_else(|| Bytes::from(bytes), |packet| packet.opus.clone());
            let timestamp = if is_near { timestamp % 200_000 } else { timestamp };
            receiver.insert(start + now, VoicePacket { sequence, timestamp, opus });
            for _ in 0..timestamp % 8 {
                now += Duration::from_millis(10);
                let block = receiver.pull(start + now);
                prop_assert!(block.samples.iter().all(|v| (-1.0..=1.0).contains(v)));
            }
        }
    }
}
