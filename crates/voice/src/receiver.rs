use std::time::{Duration, Instant};

use crate::arrivals::{Arrival, Arrivals, MAX_CORRECTION};
use crate::decoder::{DecoderEffort, VoiceDecoder};
use crate::noise::ComfortNoise;
use crate::opus_packet::OpusPacket;
use crate::packet::{VoicePacket, time_of};
use crate::played::{BLOCK, PlayedVoice, SoundKind, VoiceStats};
use crate::sequence::Sequence;
use crate::sound_queue::SoundQueue;
use crate::stretch;

/// Longest gap that is recovered from a later packet, in samples at 48 kHz, as all lengths here
/// (1 s).
const MAX_RECOVERY: i64 = 48_000;
/// How long lost speech is concealed before only comfort noise is left (100 ms).
const MAX_CONCEALMENT: i64 = 4800;
/// Most of a late packet that is played anyway, after what was invented in its place (120 ms).
const MAX_LATENESS: i64 = 5760;
/// How much more than the target the delay must be for sound to be shortened (10 ms).
const SHORTEN_FROM: i64 = 480;
/// How much less it must be for sound to be lengthened (2.5 ms).
const LENGTHEN_FROM: i64 = 120;
/// Difference from which it is stretched at the cost of artefacts (60 ms).
const URGENT: i64 = 2880;
/// Difference from which sound is left out: the machine slept (0.5 s).
const SKIP_FROM: i64 = 24_000;
/// Similarity of two pitch periods from which one may replace both.
const SIMILARITY: f32 = 0.85;
/// The same, if it is urgent.
const URGENT_SIMILARITY: f32 = 0.5;
/// Weight of one block in the smoothed delay: about 0.2 s.
const DELAY_WEIGHT: f64 = 0.05;

/// Jitter buffer and decoder of the peer's voice: takes RTP packets as they arrive, gives sound
/// in blocks of 10 ms as it is due.
///
/// Sound is delayed as much as packets arrive unevenly; pitch periods are removed or repeated to
/// reach that delay. What is lost is recovered from what later packets repeat, else concealed
/// for 100 ms; then, as in pauses of speech, comfort noise is heard.
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
    arrivals: Arrivals,
    sequence: Sequence,
    noise: ComfortNoise,
    queue: SoundQueue,
    /// When the first packet arrived or block was pulled: zero of the local clock.
    start: Option<Instant>,
    /// Media time at the end of `queue`; `None` before the first sound is due.
    position: Option<i64>,
    /// Local clock minus media time of what is played, smoothed; `None` in pauses.
    delay: Option<f64>,
    /// Samples invented since the last real sound.
    invented: i64,
    /// Whether the last sound at the end of `queue` is comfort noise.
    is_noise: bool,
    /// Whether somebody spoke in the last decoded packet.
    is_speech: bool,
    /// Samples to be played before sound is stretched again.
    unstretched: usize,
    stats: VoiceStats,
}

impl VoiceReceiver {
    /// Creates a receiver; `None` if libopus cannot be set up.
    pub fn new() -> Option<Self> {
        Some(Self {
            decoder: VoiceDecoder::new(DecoderEffort::default())?,
            arrivals: Arrivals::default(),
            sequence: Sequence::default(),
            noise: ComfortNoise::default(),
            queue: SoundQueue::default(),
            start: None,
            position: None,
            delay: None,
            invented: 0,
            is_noise: false,
            is_speech: true,
            unstretched: 0,
            stats: VoiceStats::default(),
        })
    }

    /// Sets how much work the decoder does for a better sound.
    pub fn set_effort(&mut self, effort: DecoderEffort) {
        self.decoder.set_effort(effort);
    }

    /// Sets the least delay above the fastest packet of late, for lip sync; at most 1 s.
    pub fn set_min_delay(&mut self, delay: Duration) {
        self.arrivals.delay_mut().set_min(samples_in(delay));
    }

    /// Returns counts and delays.
    pub fn stats(&self) -> VoiceStats {
        self.stats
    }

    /// Takes a packet that arrived at `now`.
    pub fn insert(&mut self, now: Instant, packet: VoicePacket) {
        let arrival = self.local(now);
        self.stats.received += 1;
        if packet.opus.is_empty() {
            self.sequence.note_silent(packet.sequence);
            self.arrivals.note_silent(packet.sequence);
            return;
        }
        // Sound that was invented may still be replaced by what was meant to be there.
        let played = self.position.map(|position| position - self.replaceable());
        match self.arrivals.insert(arrival, packet, played) {
            Arrival::Waits => {}
            Arrival::Repeated => {
                self.stats.received -= 1;
                self.stats.repeated += 1;
            }
            Arrival::Late => self.stats.late += 1,
            Arrival::Damaged => self.stats.damaged += 1,
            Arrival::Restart => {
                self.sequence = Sequence::default();
                self.decoder.reset();
                self.position = None;
                self.delay = None;
            }
        }
    }

    /// Returns the next 10 ms of sound.
    pub fn pull(&mut self, now: Instant) -> PlayedVoice {
        let now = self.local(now);
        let due = now - self.arrivals.delay().playout();
        if self.position.is_none() {
            let first = self.arrivals.first().map(|(timestamp, _)| timestamp);
            if first.is_none_or(|timestamp| timestamp > due) && self.queue.len() == 0 {
                return PlayedVoice { samples: [0.0; BLOCK], time: None, kind: SoundKind::Silence };
            }
            self.position = first;
            self.invented = 0;
        }
        let mut position = self.position.unwrap_or(due);
        self.control_delay(now, due, &mut position);
        while self.queue.len() < BLOCK {
            self.produce(due, &mut position);
        }
        self.position = Some(position);
        let time = position - self.queue.len() as i64;
        self.stats.delay = duration_of(now - time - self.arrivals.delay().fastest());
        self.stats.target_delay = duration_of(now - due - self.arrivals.delay().fastest());
        let (samples, kind) = self.queue.take_block();
        self.unstretched = self.unstretched.saturating_sub(BLOCK);
        self.stats.count_block(kind);
        PlayedVoice { samples, time: Some(time_of(time.max(0) as u64)), kind }
    }

    /// Brings the delay nearer to its target: stretches sound, or leaves out what is far too old.
    fn control_delay(&mut self, now: i64, due: i64, position: &mut i64) {
        if self.is_noise {
            // Pauses take the time they need.
            self.delay = None;
            return;
        }
        let delay = now - (*position - self.queue.len() as i64);
        let smoothed = self.delay.get_or_insert(delay as f64);
        *smoothed += DELAY_WEIGHT * (delay as f64 - *smoothed);
        let excess = *smoothed as i64 - (now - due);
        if delay - (now - due) > SKIP_FROM {
            self.queue.clear();
            self.arrivals.skip_to(due);
            *position = due;
            self.delay = None;
            return;
        }
        if (-LENGTHEN_FROM..=SHORTEN_FROM).contains(&excess) || self.unstretched > 0 {
            return;
        }
        while self.queue.len() < stretch::WINDOW && self.next_is_there(*position) {
            self.produce(due, position);
        }
        let similarity = if excess.abs() > URGENT { URGENT_SIMILARITY } else { SIMILARITY };
        let n = if excess > 0 {
            let n = self.queue.stretch(|sound| stretch::shorten(sound, similarity));
            self.stats.removed_samples += n as u64;
            -(n as i64)
        } else {
            let n = self.queue.stretch(|sound| stretch::lengthen(sound, similarity));
            self.stats.added_samples += n as u64;
            n as i64
        };
        if let Some(smoothed) = &mut self.delay {
            *smoothed += n as f64;
        }
        if n != 0 {
            self.unstretched = stretch::WINDOW;
        }
    }

    /// Returns whether the packet that continues the sound has arrived.
    fn next_is_there(&self, position: i64) -> bool {
        self.arrivals.first().is_some_and(|(timestamp, _)| timestamp <= position + MAX_CORRECTION)
    }

    /// Returns how much of the sound before the end of the queue was invented because nothing
    /// had arrived, as far as late packets may replace it.
    fn replaceable(&self) -> i64 {
        self.invented.min(MAX_LATENESS)
    }

    /// Appends sound at `position`, and moves it to the end of that sound. `due` is the media
    /// time that should be played now.
    fn produce(&mut self, due: i64, position: &mut i64) {
        let due = due + self.queue.len() as i64;
        let Some((timestamp, packet)) = self.arrivals.first() else {
            return self.produce_without_packet(BLOCK, due, position);
        };
        let gap = timestamp - *position;
        let is_loss = self.sequence.missing_before(packet.sequence) > 0;
        let is_pause = self.is_noise && !self.is_speech;
        if gap > MAX_CORRECTION && is_loss && gap <= MAX_RECOVERY && !is_pause {
            let packet = packet.opus.clone();
            return self.recover(&packet, gap, position);
        }
        if (gap > MAX_CORRECTION || self.is_noise) && timestamp > due {
            let n = (timestamp - due).min(BLOCK as i64) as usize;
            return self.produce_without_packet(n, due, position);
        }
        self.decode_first(position);
    }

    /// Fills the `gap` before a packet: its end with what that packet repeats, the rest with
    /// invented sound.
    fn recover(&mut self, next: &[u8], gap: i64, position: &mut i64) {
        let n_known = self.decoder.count_repeated(next, gap as usize);
        let mut n_unknown = gap as usize - n_known;
        while n_unknown > 0 {
            let n = n_unknown.min(BLOCK);
            self.invent(n);
            n_unknown -= n;
        }
        *position += gap;
        if n_known == 0 {
            return;
        }
        let mut sound = self.decoder.recover(next, n_known);
        if self.is_noise {
            fade_in(&mut sound, &self.noise.next_block());
        }
        self.queue.append(&sound, SoundKind::Recovered);
        self.invented = 0;
        self.is_noise = false;
    }

    /// Decodes the first packet that waits.
    fn decode_first(&mut self, position: &mut i64) {
        let Some((timestamp, packet)) = self.arrivals.take_first() else { return };
        let n_missing = self.sequence.missing_before(packet.sequence);
        let Some(mut sound) = self.decoder.decode(&packet.opus) else {
            self.stats.damaged += 1;
            return;
        };
        self.stats.lost += u64::from(n_missing);
        self.sequence.take(packet.sequence);
        self.is_speech = OpusPacket::parse(&packet.opus).is_none_or(|packet| packet.is_speech());
        if !self.is_speech {
            self.noise.learn(&sound);
        }
        // What is behind `position` was invented, is played all the same and delays the rest;
        // or it was decoded from another packet and is left out.
        let overlap = *position - timestamp;
        let stale = if overlap > MAX_CORRECTION { overlap - self.replaceable() } else { 0 };
        let stale = stale.clamp(0, sound.len() as i64) as usize;
        sound.drain(..stale);
        if self.is_noise {
            fade_in(&mut sound, &self.noise.next_block());
        }
        self.queue.append(&sound, SoundKind::Decoded);
        *position = timestamp + packet.samples as i64;
        self.invented = 0;
        self.is_noise = false;
    }

    /// Conceals the next 10 ms; or, in a pause, adds up to 10 ms of comfort noise (`n` samples).
    fn produce_without_packet(&mut self, n: usize, due: i64, position: &mut i64) {
        if self.is_concealing() {
            self.invent(BLOCK);
            *position += BLOCK as i64;
        } else {
            self.invent(n);
            *position = (*position).max(due + n as i64);
        }
    }

    /// Returns whether lost speech is concealed still.
    fn is_concealing(&self) -> bool {
        self.is_speech && self.invented < MAX_CONCEALMENT && !self.is_noise
    }

    /// Appends up to 10 ms of sound that no packet holds: lost speech is concealed for a while, then
    /// comfort noise is heard.
    fn invent(&mut self, n: usize) {
        if self.is_concealing() {
            let sound = self.decoder.conceal(n);
            self.queue.append(&sound, SoundKind::Concealed);
        } else {
            let mut noise = self.noise.next_block();
            if !self.is_noise {
                fade_in(&mut noise, &self.decoder.conceal(BLOCK));
                self.is_noise = true;
            }
            self.queue.append(&noise[..n], SoundKind::ComfortNoise);
        }
        self.invented += n as i64;
    }

    /// Converts a moment of the local clock to samples since the first one.
    fn local(&mut self, now: Instant) -> i64 {
        let start = *self.start.get_or_insert(now);
        samples_in(now.saturating_duration_since(start))
    }
}

/// Fades `sound` in while `before` fades out.
fn fade_in(sound: &mut [f32], before: &[f32]) {
    let n = sound.len().min(before.len());
    for (i, (sample, before)) in sound.iter_mut().zip(before).enumerate() {
        let weight = (i as f32 + 0.5) / n as f32;
        *sample = weight * *sample + (1.0 - weight) * before;
    }
}

fn samples_in(duration: Duration) -> i64 {
    (duration.as_micros().min(1 << 52) * 48 / 1000) as i64
}

fn duration_of(samples: i64) -> Duration {
    Duration::from_micros(samples.max(0) as u64 * 1000 / 48)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any moment serves as zero of the clock")]
mod tests;
