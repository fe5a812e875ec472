use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use types::MediaTime;

use crate::decoder::VoiceDecoder;
use crate::delay::DelayEstimator;
use crate::packet::{VoicePacket, time_of};

/// Audio samples in a block of played sound, 10 ms at 48 kHz.
pub const BLOCK: usize = 480;
/// Packets that wait to be decoded. A sender cannot make the receiver hold more.
const MAX_PACKETS: usize = 200;
/// Packets of another timeline, in a row, after which that timeline is followed.
const RESTART_PACKETS: usize = 3;
/// Difference from the usual time in the network that makes a timestamp wild, in samples (2 s).
const MAX_TRANSIT_CHANGE: i64 = 96_000;
/// Gap between two packets that is no gap: the sender corrected its clock, in samples (10 ms).
const MAX_CORRECTION: i64 = 480;
/// Longest gap that is recovered from a later packet, in samples (1 s).
const MAX_RECOVERY: i64 = 48_000;
/// How long lost sound is concealed before only comfort noise is left, in samples (100 ms).
const MAX_CONCEALMENT: i64 = 4800;

/// How a block of played sound came to be.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum SoundKind {
    /// Decoded from its packet.
    Decoded,
    /// Its packet was lost; recovered from what a later one repeated.
    Recovered,
    /// Invented to continue the sound before it.
    Concealed,
    /// Background noise, while the peer is silent or after a longer loss.
    ComfortNoise,
    /// Nothing has been heard yet.
    #[default]
    Silence,
}

/// 10 ms of sound to be played.
#[derive(Clone, Debug)]
pub struct PlayedVoice {
    /// Mono at 48 kHz, in -1..=1.
    pub samples: [f32; BLOCK],
    /// The sender's capture time of the first sample, unwrapped near the newest packet; `None`
    /// before any sound.
    pub time: Option<MediaTime>,
    /// How the first sample came to be.
    pub kind: SoundKind,
}

/// Counts since the receiver was created, and its delay now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct VoiceStats {
    /// Packets received, with empty and damaged ones, without duplicates.
    pub received: u64,
    /// Packets of the sequence that had not arrived when they were due.
    pub lost: u64,
    /// Packets that arrived after they were due.
    pub late: u64,
    /// Packets that arrived twice or were replayed.
    pub duplicate: u64,
    /// Packets that are not Opus or whose timestamp belongs nowhere.
    pub damaged: u64,
    /// Blocks played, by [`SoundKind`].
    pub decoded_blocks: u64,
    /// Blocks recovered from later packets.
    pub recovered_blocks: u64,
    /// Blocks invented.
    pub concealed_blocks: u64,
    /// Blocks of comfort noise.
    pub noise_blocks: u64,
    /// How much later sound is played than the fastest packet of late could have been.
    pub delay: Duration,
    /// The delay that the receiver aims at.
    pub target_delay: Duration,
}

/// Jitter buffer and decoder of the peer's voice: takes RTP packets as they arrive, gives sound
/// in blocks of 10 ms.
///
/// # Examples
/// ```
/// # use std::time::{Duration, Instant};
/// # use voice::{SoundKind, VoiceEncoder, VoicePacket, VoiceReceiver};
/// # use types::{MediaTime, Rate, Sound};
/// # let now = Instant::now();
/// let samples = (0..2880).map(|n| 0.2 * (n as f32 * 0.03).sin()).collect();
/// let mut encoder = VoiceEncoder::new(Rate::Normal).expect("libopus");
/// let packets = encoder.encode(&Sound { time: MediaTime::ZERO, samples }, false);
/// let mut receiver = VoiceReceiver::new().expect("libopus");
/// for (sequence, voice) in (0..).zip(packets) {
///     let timestamp = voice.timestamp();
///     receiver.insert(now, VoicePacket { sequence, timestamp, opus: voice.opus });
/// }
/// let block = receiver.pull(now + Duration::from_millis(100));
/// assert_eq!(block.kind, SoundKind::Decoded);
/// ```
pub struct VoiceReceiver {
    decoder: VoiceDecoder,
    delay: DelayEstimator,
    /// When the first packet arrived: zero of the local clock in samples.
    start: Option<Instant>,
    /// By unwrapped timestamp.
    waiting: BTreeMap<i64, Waiting>,
    /// Newest unwrapped timestamp.
    newest: i64,
    /// Sequence number up to which packets were played or given up.
    played: Option<u16>,
    /// Packets since then that carried no sound.
    n_empty: u16,
    /// Latest packets of a timeline that is not ours: arrival minus timestamp.
    strangers: Vec<i64>,
    /// Decoded sound that has not been played.
    sound: VecDeque<f32>,
    /// How the samples in `sound` came to be: counts and kinds, in order.
    kinds: VecDeque<(usize, SoundKind)>,
    /// Media time at the end of `sound`, in samples; `None` before the first sound is due.
    position: Option<i64>,
    /// Samples invented since the last real sound.
    invented: i64,
    stats: VoiceStats,
}

struct Waiting {
    sequence: u16,
    samples: i64,
    opus: Bytes,
}

impl VoiceReceiver {
    /// Creates a receiver; `None` if libopus cannot be set up.
    pub fn new() -> Option<Self> {
        Some(Self {
            decoder: VoiceDecoder::new()?,
            delay: DelayEstimator::default(),
            start: None,
            waiting: BTreeMap::new(),
            newest: 0,
            played: None,
            n_empty: 0,
            strangers: Vec::new(),
            sound: VecDeque::new(),
            kinds: VecDeque::new(),
            position: None,
            invented: 0,
            stats: VoiceStats::default(),
        })
    }

    /// Takes a packet that arrived at `now`.
    pub fn insert(&mut self, now: Instant, packet: VoicePacket) {
        let arrival = self.local(now);
        self.stats.received += 1;
        if packet.opus.is_empty() {
            self.n_empty = self.n_empty.saturating_add(1);
            return;
        }
        let Some(samples) = self.decoder.samples(&packet.opus) else {
            self.stats.damaged += 1;
            return;
        };
        let Some(timestamp) = self.place(arrival, packet.timestamp) else {
            self.stats.damaged += 1;
            return;
        };
        self.delay.insert(arrival - timestamp);
        self.newest = self.newest.max(timestamp);
        if self.waiting.contains_key(&timestamp) {
            self.stats.duplicate += 1;
            self.stats.received -= 1;
        } else if self.position.is_some_and(|position| timestamp + samples as i64 <= position) {
            self.stats.late += 1;
        } else {
            if self.waiting.len() == MAX_PACKETS {
                self.waiting.pop_first();
            }
            let VoicePacket { sequence, opus, .. } = packet;
            self.waiting.insert(timestamp, Waiting { sequence, samples: samples as i64, opus });
        }
    }

    /// Returns the next 10 ms of sound.
    pub fn pull(&mut self, now: Instant) -> PlayedVoice {
        let now = self.local(now);
        let due = now - self.delay.playout();
        if self.position.is_none() {
            let first = self.waiting.first_key_value().map(|(timestamp, _)| *timestamp);
            if first.is_none_or(|timestamp| timestamp > due) {
                return PlayedVoice { samples: [0.0; BLOCK], time: None, kind: SoundKind::Silence };
            }
            self.position = first;
        }
        let mut position = self.position.unwrap_or(due);
        while self.sound.len() < BLOCK {
            self.produce(&mut position);
        }
        let time = position - self.sound.len() as i64;
        self.position = Some(position);
        let kind = self.take_kind();
        let mut samples = [0.0; BLOCK];
        for (sample, decoded) in samples.iter_mut().zip(self.sound.drain(..BLOCK)) {
            *sample = decoded.clamp(-1.0, 1.0);
        }
        match kind {
            SoundKind::Decoded => self.stats.decoded_blocks += 1,
            SoundKind::Recovered => self.stats.recovered_blocks += 1,
            SoundKind::Concealed => self.stats.concealed_blocks += 1,
            SoundKind::ComfortNoise | SoundKind::Silence => self.stats.noise_blocks += 1,
        }
        self.stats.delay = duration_of(now - time - self.delay.fastest());
        self.stats.target_delay = duration_of(self.delay.playout() - self.delay.fastest());
        PlayedVoice { samples, time: Some(time_of(time.max(0) as u64)), kind }
    }

    /// Sets the least delay above the fastest packet of late, for lip sync.
    pub fn set_min_delay(&mut self, delay: Duration) {
        self.delay.set_min(samples_in(delay));
    }

    /// Returns counts and delays.
    pub fn stats(&self) -> VoiceStats {
        self.stats
    }

    /// Appends sound at `position`, and moves it to the end of that sound.
    fn produce(&mut self, position: &mut i64) {
        let Some((&timestamp, packet)) = self.waiting.first_key_value() else {
            let (n, kind) = if self.invented < MAX_CONCEALMENT {
                (self.decoder.conceal(BLOCK), SoundKind::Concealed)
            } else {
                (vec![0.0; BLOCK], SoundKind::ComfortNoise)
            };
            self.invented += BLOCK as i64;
            *position += BLOCK as i64;
            self.append(&n, kind);
            return;
        };
        let gap = timestamp - *position;
        if gap > MAX_CORRECTION {
            let n_missing = self.played.map_or(0, |played| {
                packet.sequence.wrapping_sub(played).wrapping_sub(1).wrapping_sub(self.n_empty)
            });
            let is_loss = (1..u16::MAX / 2).contains(&n_missing);
            if is_loss && gap <= MAX_RECOVERY {
                let opus = packet.opus.clone();
                let recovered = self.decoder.recover(&opus, gap as usize);
                self.append(&recovered, SoundKind::Recovered);
                *position = timestamp;
                self.invented = 0;
            } else {
                let n = gap.min(BLOCK as i64);
                self.append(&vec![0.0; n as usize], SoundKind::ComfortNoise);
                *position += n;
            }
            return;
        }
        let Some((timestamp, packet)) = self.waiting.pop_first() else { return };
        let n_missing = self.played.map_or(0, |played| {
            packet.sequence.wrapping_sub(played).wrapping_sub(1).wrapping_sub(self.n_empty)
        });
        if n_missing < u16::MAX / 2 {
            self.stats.lost += u64::from(n_missing);
        }
        self.played = Some(packet.sequence);
        self.n_empty = 0;
        let Some(decoded) = self.decoder.decode(&packet.opus) else {
            self.stats.damaged += 1;
            return;
        };
        let overlap = (*position - timestamp - MAX_CORRECTION).clamp(0, decoded.len() as i64);
        self.append(&decoded[overlap as usize..], SoundKind::Decoded);
        *position = (timestamp + packet.samples).max(*position - MAX_CORRECTION);
        self.invented = 0;
    }

    fn append(&mut self, samples: &[f32], kind: SoundKind) {
        self.sound.extend(samples);
        match self.kinds.back_mut() {
            Some((n, last)) if *last == kind => *n += samples.len(),
            _ => self.kinds.push_back((samples.len(), kind)),
        }
    }

    /// Removes one block from `kinds` and returns the kind of its first sample.
    fn take_kind(&mut self) -> SoundKind {
        let mut first = None;
        let mut left = BLOCK;
        while left > 0
            && let Some((n, kind)) = self.kinds.front_mut()
        {
            if *n > 0 {
                first.get_or_insert(*kind);
            }
            let taken = left.min(*n);
            *n -= taken;
            left -= taken;
            if *n == 0 {
                self.kinds.pop_front();
            }
        }
        first.unwrap_or_default()
    }

    /// Unwraps a timestamp; `None` if it is on another timeline than the packets so far. A few
    /// packets in a row on one other timeline make it ours.
    fn place(&mut self, arrival: i64, timestamp: u32) -> Option<i64> {
        let unwrapped =
            self.newest + i64::from(timestamp.wrapping_sub(self.newest as u32).cast_signed());
        let transit = arrival - unwrapped;
        if self.delay.is_empty() || (transit - self.delay.fastest()).abs() <= MAX_TRANSIT_CHANGE {
            self.strangers.clear();
            return Some(unwrapped);
        }
        if self.strangers.first().is_some_and(|first| (first - transit).abs() > MAX_TRANSIT_CHANGE)
        {
            self.strangers.clear();
        }
        self.strangers.push(transit);
        if self.strangers.len() < RESTART_PACKETS {
            return None;
        }
        self.strangers.clear();
        self.waiting.clear();
        self.delay.clear();
        self.position = None;
        self.played = None;
        self.newest = unwrapped;
        Some(unwrapped)
    }

    /// Converts a moment of the local clock to samples since the first one.
    fn local(&mut self, now: Instant) -> i64 {
        let start = *self.start.get_or_insert(now);
        samples_in(now.saturating_duration_since(start))
    }
}

fn samples_in(duration: Duration) -> i64 {
    (duration.as_micros().min(1 << 52) * 48 / 1000) as i64
}

fn duration_of(samples: i64) -> Duration {
    Duration::from_micros(samples.max(0) as u64 * 1000 / 48)
}

#[cfg(test)]
mod tests {
    use types::Rate;

    use super::*;
    use crate::VoiceEncoder;
    use crate::speech::{power, speech};

    const SECOND: Duration = Duration::from_secs(1);

    /// Packets of `seconds` of speech, each with the time at which it can be sent.
    fn packets(rate: Rate, seconds: usize) -> Vec<(Duration, VoicePacket)> {
        let mut encoder = VoiceEncoder::new(rate).unwrap();
        let voices =
            speech(seconds).iter().flat_map(|s| encoder.encode(s, false)).collect::<Vec<_>>();
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
                let step = second.saturating_since(first).as_micros();
                assert!((9_000..=11_000).contains(&step), "{step}");
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
}
