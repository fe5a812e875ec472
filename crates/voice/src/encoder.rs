use std::collections::VecDeque;

use bytes::Bytes;
use opusic_c::{Application, Bitrate, Channels, Encoder, InbandFec, SampleRate};
use types::{Rate, Sound};

use crate::packet::{EncodedVoice, MAX_PACKET, samples_of, time_of};

/// Largest difference between the capture clock and the count of samples that is corrected
/// smoothly, in samples at 48 kHz (40 ms). A larger one is a jump: a device was reopened.
const MAX_SMOOTH_DRIFT: i64 = 1920;
/// Difference from which a smooth correction is made, in samples at 48 kHz (5 ms).
const MIN_CORRECTION: f64 = 240.0;
/// Weight of one block in the smoothed difference of the two clocks.
const DRIFT_WEIGHT: f64 = 0.02;

/// Opus encoder: mono, with redundancy against loss, and no packets in silence.
pub struct VoiceEncoder {
    opus: Encoder,
    /// Audio samples per packet.
    frame: usize,
    pending: VecDeque<f32>,
    /// How many samples at the start of `pending` were captured while not muted.
    n_spoken: usize,
    /// Capture time of the first pending sample, in samples at 48 kHz; `None` before any sound.
    position: Option<u64>,
    /// Smoothed difference between capture times and `position`, in samples.
    drift: f64,
}

impl VoiceEncoder {
    /// Creates an encoder; `None` if libopus cannot be set up.
    pub fn new(rate: Rate) -> Option<Self> {
        let mut opus = Encoder::new(Channels::Mono, SampleRate::Hz48000, Application::Voip).ok()?;
        opus.set_inband_fec(InbandFec::Mode1).ok()?;
        opus.set_packet_loss(10).ok()?;
        opus.set_dtx(true).ok()?;
        opus.set_complexity(6).ok()?;
        opus.set_bitrate(Bitrate::Value(rate.parameters().opus_bits_per_s)).ok()?;
        Some(Self {
            opus,
            frame: frame_samples(rate),
            pending: VecDeque::new(),
            n_spoken: 0,
            position: None,
            drift: 0.0,
        })
    }

    /// Changes frame length and bit rate, from the next packet on.
    pub fn set_rate(&mut self, rate: Rate) {
        let bits_per_s = Bitrate::Value(rate.parameters().opus_bits_per_s);
        if self.opus.set_bitrate(bits_per_s).is_ok() {
            self.frame = frame_samples(rate);
        }
    }

    /// Sets the fraction of packets that the network is expected to lose, in 0..=1. More
    /// redundancy is sent when more is lost.
    pub fn set_expected_loss(&mut self, fraction: f32) {
        let percent = (fraction.clamp(0.0, 1.0) * 100.0).round() as u8;
        let _ = self.opus.set_packet_loss(percent);
    }

    /// Appends audio samples and returns the packets that are full. While `muted`, time passes
    /// but nothing is encoded: no sample captured while muted leaves this function.
    ///
    /// Times follow the capture times of `sound`: small differences (clocks that drift, jitter of
    /// the capture times) are smoothed, jumps are followed at once.
    pub fn encode(&mut self, sound: &Sound, muted: bool) -> Vec<EncodedVoice> {
        let mut packets = Vec::new();
        self.follow_clock(sound, &mut packets);
        if muted {
            self.pending.resize(self.pending.len() + sound.samples.len(), 0.0);
        } else {
            self.pending.extend(&sound.samples);
            self.n_spoken = self.pending.len();
        }
        while self.pending.len() >= self.frame {
            packets.extend(self.encode_frame());
        }
        packets
    }

    /// Compares the capture time of `sound` with the time that follows from the samples so far.
    fn follow_clock(&mut self, sound: &Sound, packets: &mut Vec<EncodedVoice>) {
        let captured = samples_of(sound.time);
        let Some(position) = self.position else {
            self.position = Some(captured);
            return;
        };
        let difference = captured.wrapping_sub(position + self.pending.len() as u64) as i64;
        if difference.abs() > MAX_SMOOTH_DRIFT {
            self.pending.resize(self.pending.len().next_multiple_of(self.frame), 0.0);
            while !self.pending.is_empty() {
                packets.extend(self.encode_frame());
            }
            self.position = Some(captured);
            self.drift = 0.0;
            return;
        }
        self.drift += DRIFT_WEIGHT * (difference as f64 - self.drift);
        if self.drift.abs() > MIN_CORRECTION {
            self.position = Some(position.saturating_add_signed(self.drift as i64));
            self.drift = 0.0;
        }
    }

    /// Encodes the first frame of the pending samples; `None` in silence.
    fn encode_frame(&mut self) -> Option<EncodedVoice> {
        let frame: Vec<f32> = self.pending.drain(..self.frame).collect();
        let position = self.position?;
        self.position = Some(position + self.frame as u64);
        let is_spoken = self.n_spoken > 0;
        self.n_spoken = self.n_spoken.saturating_sub(self.frame);
        if !is_spoken {
            return None;
        }
        let mut out = [0; MAX_PACKET];
        // Discontinuous transmission: a packet of at most two bytes means silence.
        let length = self.opus.encode_float_to_slice(&frame, &mut out).ok().filter(|n| *n > 2)?;
        let opus = Bytes::copy_from_slice(&out[..length]);
        Some(EncodedVoice { time: time_of(position), opus })
    }
}

/// Returns the audio samples per packet at a rate.
fn frame_samples(rate: Rate) -> usize {
    let milliseconds = rate.parameters().opus_frame.as_millis() as usize;
    milliseconds * (Sound::RATE as usize / 1000)
}

#[cfg(test)]
mod tests {
    use types::MediaTime;

    use super::*;
    use crate::speech::speech;

    #[test]
    fn a_second_of_speech_takes_few_packets() {
        for (rate, n) in [(Rate::Low, 8), (Rate::Normal, 16), (Rate::High, 50)] {
            let mut encoder = VoiceEncoder::new(rate).unwrap();
            let packets: Vec<_> =
                speech(1).iter().flat_map(|sound| encoder.encode(sound, false)).collect();
            assert_eq!(packets.len(), n, "{rate}");
        }
    }

    #[test]
    fn a_change_of_rate_changes_the_frames_and_loses_no_sound() {
        let mut encoder = VoiceEncoder::new(Rate::Normal).unwrap();
        let mut next = MediaTime::ZERO;
        for (i, block) in speech(1).iter().enumerate() {
            if i == 21 {
                encoder.set_rate(Rate::High);
            }
            for packet in encoder.encode(block, false) {
                assert_eq!(packet.time, next, "block {i}");
                next =
                    next + if i < 21 { Rate::Normal } else { Rate::High }.parameters().opus_frame;
            }
        }
        assert_eq!(next.as_micros(), 1_000_000);
    }

    #[test]
    fn nothing_is_sent_while_muted_but_time_goes_on() {
        let mut encoder = VoiceEncoder::new(Rate::Normal).unwrap();
        let sounds = speech(1);
        assert!(sounds[..30].iter().all(|sound| encoder.encode(sound, true).is_empty()));
        let packet =
            sounds[30..].iter().find_map(|sound| encoder.encode(sound, false).pop()).unwrap();
        assert_eq!(packet.time.as_micros(), 600_000);
        assert_eq!(packet.timestamp(), 10 * 2880);
    }

    #[test]
    fn a_pause_of_the_microphone_moves_the_times_with_it() {
        let mut encoder = VoiceEncoder::new(Rate::High).unwrap();
        let mut times = Vec::new();
        for (i, block) in speech(1).into_iter().enumerate() {
            // From the tenth block on, everything is captured half a second later.
            let time = block.time + std::time::Duration::from_millis(if i < 10 { 0 } else { 500 });
            times.extend(encoder.encode(&Sound { time, ..block }, false));
        }
        assert_eq!(times[9].time.as_micros(), 180_000);
        assert_eq!(times[10].time.as_micros(), 700_000);
    }

    #[test]
    fn a_clock_that_drifts_is_followed_in_small_steps() {
        let mut encoder = VoiceEncoder::new(Rate::High).unwrap();
        let mut last = MediaTime::ZERO;
        for (i, block) in speech(10).into_iter().enumerate() {
            // The device delivers 0.2 % too few samples, with 3 ms of jitter in its times.
            let micros = i as u64 * 20_040 + (i as u64 * 7919) % 3000;
            let time = MediaTime::from_micros(micros);
            for packet in encoder.encode(&Sound { time, ..block }, false) {
                let step = packet.time.saturating_since(last).as_micros();
                assert!(i == 0 || (19_900..=26_000).contains(&step), "{step}");
                assert!(packet.time.as_micros().abs_diff(micros) < 12_000, "block {i}");
                last = packet.time;
            }
        }
    }
}
