use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use opusic_c::{Application, Bandwidth, Bitrate, Channels, Encoder, InbandFec, SampleRate, Signal};
use types::{Rate, Sound};

use crate::history::{History, HistoryEncoder, HistoryQuality};
use crate::opus_packet::OpusPacket;
use crate::packet::{EncodedVoice, MAX_PACKET, samples_of, time_of};

/// Largest difference between the capture clock and the count of samples that is corrected
/// smoothly, in samples at 48 kHz (40 ms). A larger one is a jump: a device was reopened.
const MAX_SMOOTH_DRIFT: i64 = 1920;
/// Difference from which a smooth correction is made, in samples at 48 kHz (5 ms).
const MIN_CORRECTION: f64 = 240.0;
/// Fraction of lost packets from which rate high repeats each packet in the next one.
const CORRECTION_FROM: f32 = 0.01;
/// Fraction of lost packets from which histories are finer at rate normal.
const FINE_HISTORY_FROM: f32 = 0.1;
/// Audio samples of the longest frame that libopus encodes in one piece, 60 ms.
const MAX_OPUS_FRAME: usize = 2880;
/// Weight of one block in the smoothed difference of the two clocks.
const DRIFT_WEIGHT: f64 = 0.02;

/// How a voice is encoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EncoderSettings {
    /// Duration of a packet.
    pub frame: Duration,
    /// Bit rate of Opus without redundancy, in bit/s.
    pub bits_per_s: u32,
    /// Redundancy by description of the past, in each packet.
    pub history: Option<History>,
    /// In-band forward error correction: each packet repeats the one before, more coarsely.
    pub in_band_correction: bool,
    /// Highest audio frequency: 8 kHz if set, else libopus chooses.
    pub is_wideband: bool,
}

impl EncoderSettings {
    /// Returns the settings of a rate while a fraction `loss` (0..=1) of the packets is lost.
    pub fn new(rate: Rate, loss: f32) -> Self {
        let parameters = rate.parameters();
        let settings = Self {
            frame: parameters.opus_frame,
            bits_per_s: parameters.opus_bits_per_s,
            history: None,
            in_band_correction: false,
            is_wideband: false,
        };
        match rate {
            Rate::Normal => {
                let is_lossy = loss >= FINE_HISTORY_FROM;
                let quality = if is_lossy { HistoryQuality::Fine } else { HistoryQuality::Coarse };
                let history = Some(History { tens_of_ms: 50, quality });
                Self { history, is_wideband: true, ..settings }
            }
            // Above 8 kHz, libopus drops the correction below 26 kbit/s.
            Rate::High if loss >= CORRECTION_FROM => {
                Self { in_band_correction: true, is_wideband: true, ..settings }
            }
            _ => settings,
        }
    }

    fn samples(&self) -> usize {
        self.frame.as_millis() as usize * (Sound::RATE as usize / 1000)
    }
}

/// Opus encoder: mono, with redundancy against loss, and no packets in silence.
pub struct VoiceEncoder {
    opus: Encoder,
    history: Option<HistoryEncoder>,
    settings: EncoderSettings,
    rate: Rate,
    /// Fraction of packets that is expected to be lost.
    loss: f32,
    /// Audio samples per packet.
    frame: usize,
    pending: VecDeque<f32>,
    /// How many samples at the start of `pending` were captured while not muted.
    n_spoken: usize,
    /// Whether what was encoded last does not directly precede the pending samples.
    is_after_pause: bool,
    /// Capture time of the first pending sample, in samples at 48 kHz; `None` before any sound.
    position: Option<u64>,
    /// Smoothed difference between capture times and `position`, in samples.
    drift: f64,
}

impl VoiceEncoder {
    /// Creates an encoder; `None` if libopus cannot be set up.
    pub fn new(rate: Rate) -> Option<Self> {
        let mut opus = Encoder::new(Channels::Mono, SampleRate::Hz48000, Application::Voip).ok()?;
        opus.set_dtx(true).ok()?;
        opus.set_signal(Signal::Voice).ok()?;
        opus.set_complexity(9).ok()?;
        let settings = EncoderSettings::new(rate, 0.0);
        let mut encoder = Self {
            opus,
            history: None,
            settings,
            rate,
            loss: 0.0,
            frame: settings.samples(),
            pending: VecDeque::new(),
            n_spoken: 0,
            is_after_pause: false,
            position: None,
            drift: 0.0,
        };
        encoder.configure(settings)?;
        Some(encoder)
    }

    /// Changes the rate, from the next packet on.
    pub fn set_rate(&mut self, rate: Rate) {
        self.rate = rate;
        self.set(EncoderSettings::new(rate, self.loss));
    }

    /// Changes the settings in detail, until the rate or the expected loss changes.
    pub fn set(&mut self, settings: EncoderSettings) {
        if settings != self.settings {
            // What libopus refuses stays as it was; every value here is within its limits.
            let _ = self.configure(settings);
        }
    }

    fn configure(&mut self, settings: EncoderSettings) -> Option<()> {
        self.opus.set_bitrate(Bitrate::Value(settings.bits_per_s)).ok()?;
        let bandwidth = if settings.is_wideband { Bandwidth::Wide } else { Bandwidth::Auto };
        self.opus.set_bandwidth(bandwidth).ok()?;
        let correction =
            if settings.in_band_correction { InbandFec::Mode1 } else { InbandFec::Off };
        self.opus.set_inband_fec(correction).ok()?;
        match (&mut self.history, settings.history) {
            (Some(encoder), Some(history)) => encoder.set(history),
            (encoder, history) => *encoder = history.and_then(HistoryEncoder::new),
        }
        self.frame = settings.samples();
        self.settings = settings;
        self.set_correction_strength()
    }

    /// Lets libopus spend more on in-band correction when more is lost.
    fn set_correction_strength(&mut self) -> Option<()> {
        let percent = if self.settings.in_band_correction {
            (self.loss.clamp(0.0, 1.0) * 100.0).round().max(5.0) as u8
        } else {
            0
        };
        self.opus.set_packet_loss(percent).ok()
    }

    /// Sets the fraction of packets that the network is expected to lose, in 0..=1. More
    /// redundancy is sent when more is lost.
    pub fn set_expected_loss(&mut self, fraction: f32) {
        self.loss = fraction;
        self.set(EncoderSettings::new(self.rate, fraction));
        let _ = self.set_correction_strength();
    }

    /// Forgets the past: the next packet contains and describes nothing that was captured before it.
    pub fn forget(&mut self) {
        self.pending.clear();
        (self.n_spoken, self.position, self.drift) = (0, None, 0.0);
        self.forget_history();
    }

    fn forget_history(&mut self) {
        // What libopus keeps of the last packet does not sound again.
        let _ = self.opus.reset();
        self.history = self.settings.history.and_then(HistoryEncoder::new);
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
            packets.extend(self.encode_packet());
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
                packets.extend(self.encode_packet());
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

    /// Encodes the first packet of the pending samples: usually one `EncodedVoice`, none in
    /// silence.
    fn encode_packet(&mut self) -> Vec<EncodedVoice> {
        let samples: Vec<f32> = self.pending.drain(..self.frame).collect();
        let Some(position) = self.position else { return Vec::new() };
        self.position = Some(position + self.frame as u64);
        let is_spoken = self.n_spoken > 0;
        self.n_spoken = self.n_spoken.saturating_sub(self.frame);
        if !is_spoken {
            self.is_after_pause = true;
            return Vec::new();
        }
        if std::mem::take(&mut self.is_after_pause) {
            self.forget_history();
        }
        // libopus falls back to narrow-band when it is asked for more than 60 ms at a low rate.
        let n_parts = self.frame.div_ceil(MAX_OPUS_FRAME);
        let length = self.frame / n_parts;
        let history: Vec<_> = samples
            .chunks_exact(length)
            .map(|part| self.history.as_mut().and_then(|encoder| encoder.encode(part)))
            .collect();
        let history = history.first().and_then(Option::as_deref);
        let parts: Vec<Vec<u8>> =
            samples.chunks_exact(length).filter_map(|part| encode(&mut self.opus, part)).collect();
        // Discontinuous transmission: a packet of at most two bytes means silence.
        if parts.iter().all(|part| part.len() <= 2) {
            return Vec::new();
        }
        let parts: Vec<OpusPacket<'_>> =
            parts.iter().filter_map(|part| OpusPacket::parse(part)).collect();
        let joined = parts.iter().cloned().map(Some).reduce(|a, b| a?.join(b?)).flatten();
        let packets = joined.map_or(parts, |joined| vec![joined]);
        let voice = |(i, packet): (usize, OpusPacket<'_>)| {
            let history = history.filter(|_| i == 0);
            let opus = Bytes::from(packet.bytes(history).or_else(|| packet.bytes(None))?);
            Some(EncodedVoice { time: time_of(position + (i * length) as u64), opus })
        };
        packets.into_iter().enumerate().filter_map(voice).collect()
    }
}

/// Encodes one Opus packet; `None` if libopus cannot.
fn encode(opus: &mut Encoder, samples: &[f32]) -> Option<Vec<u8>> {
    let mut out = [0; MAX_PACKET];
    let length = opus.encode_float_to_slice(samples, &mut out).ok()?;
    Some(out[..length].to_vec())
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

    /// Returns the packets of two seconds of speech while a fraction of them is lost.
    fn packets(rate: Rate, loss: f32) -> Vec<EncodedVoice> {
        let mut encoder = VoiceEncoder::new(rate).unwrap();
        encoder.set_expected_loss(loss);
        speech(2).iter().flat_map(|sound| encoder.encode(sound, false)).collect()
    }

    #[test]
    fn packets_repeat_the_one_before_at_rate_high_from_one_percent_of_loss_on() {
        for (rate, loss, is_expected) in [
            (Rate::High, 0.0, false),
            (Rate::High, 0.01, true),
            (Rate::High, 0.5, true),
            (Rate::Normal, 0.5, false),
            (Rate::Low, 0.5, false),
        ] {
            let packets = packets(rate, loss);
            let n = packets
                .iter()
                .filter(|voice| OpusPacket::parse(&voice.opus).unwrap().has_in_band_correction())
                .count();
            // libopus leaves out what is hardly heard: the pauses between syllables.
            let range = if is_expected { packets.len() / 2..=packets.len() } else { 0..=0 };
            assert!(range.contains(&n), "{rate} at {loss}: {n} of {}", packets.len());
        }
    }

    #[test]
    fn the_strength_of_the_correction_follows_the_loss() {
        let speak = |losses: &[f32]| {
            let mut encoder = VoiceEncoder::new(Rate::High).unwrap();
            for loss in losses {
                encoder.set_expected_loss(*loss);
            }
            speech(2).iter().flat_map(|sound| encoder.encode(sound, false)).collect::<Vec<_>>()
        };
        let (weak, strong) = (speak(&[0.02]), speak(&[0.3]));
        assert!(weak != strong);
        assert!(speak(&[0.02, 0.3]) == strong, "more loss");
        assert!(speak(&[0.3, 0.02]) == weak, "less loss");
    }

    #[test]
    fn packets_describe_the_past_at_rate_normal_and_more_finely_under_loss() {
        let bytes = |loss| {
            let packets = packets(Rate::Normal, loss);
            let bytes = |voice: &EncodedVoice| {
                OpusPacket::parse(&voice.opus).and_then(|packet| packet.history()).map(<[u8]>::len)
            };
            // The first ones have no past.
            let histories: Vec<usize> = packets[10..].iter().filter_map(bytes).collect();
            assert!(histories.len() >= packets.len() - 13, "{} histories", histories.len());
            histories.iter().sum::<usize>() / histories.len()
        };
        let (coarse, fine) = (bytes(0.0), bytes(0.3));
        assert!((8..30).contains(&coarse) && fine > coarse && fine < 50, "{coarse}, {fine}");
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

    /// A listener who comes later, or a recording of what was said with the sound off, must not get it.
    #[test]
    fn packets_say_nothing_of_what_was_before_a_pause_or_another_listener() {
        let rate = Rate::Normal;
        let sounds = speech(3);
        let (before, after) = sounds.split_at(sounds.len() / 2);
        let speak = |encoder: &mut VoiceEncoder| -> Vec<EncodedVoice> {
            after.iter().flat_map(|sound| encoder.encode(sound, false)).collect()
        };
        let want = speak(&mut VoiceEncoder::new(rate).unwrap());
        let mut encoder = VoiceEncoder::new(rate).unwrap();
        for sound in before {
            encoder.encode(sound, false);
        }
        encoder.forget();
        assert!(speak(&mut encoder) == want, "another listener");
        let mut encoder = VoiceEncoder::new(rate).unwrap();
        let early = MediaTime::from_micros(after[0].time.as_micros() - 300_000);
        let said = |sound: &Sound| sound.time < early;
        for sound in before {
            encoder.encode(sound, !said(sound));
        }
        assert!(speak(&mut encoder) == want, "a pause");
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
