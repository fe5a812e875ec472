use opusic_c::{Channels, Decoder, SampleRate};

use crate::packet::{MAX_PACKET, VoicePacket};

/// Audio samples in the longest Opus packet, 120 ms.
const MAX_SAMPLES: usize = 5760;
/// Longest gap that is concealed, in packets. A longer one is an outage.
const MAX_FILLED: u16 = 5;

/// Opus decoder that conceals gaps with the forward error correction of the next packet.
pub struct VoiceDecoder {
    opus: Decoder,
    /// Sequence number of the last packet.
    last: Option<u16>,
}

impl VoiceDecoder {
    /// Creates a decoder; `None` if libopus cannot be set up.
    pub fn new() -> Option<Self> {
        let opus = Decoder::new(Channels::Mono, SampleRate::Hz48000).ok()?;
        Some(Self { opus, last: None })
    }

    /// Decodes a packet to mono samples at 48 kHz. A late, repeated or damaged one gives none.
    pub fn decode(&mut self, packet: &VoicePacket) -> Vec<f32> {
        if packet.opus.is_empty() || packet.opus.len() > MAX_PACKET {
            return Vec::new();
        }
        let missing =
            self.last.map_or(0, |last| packet.sequence.wrapping_sub(last).wrapping_sub(1));
        if missing >= u16::MAX / 2 {
            return Vec::new();
        }
        self.last = Some(packet.sequence);
        let mut sound = Vec::new();
        if (1..=MAX_FILLED).contains(&missing) {
            self.append(&packet.opus, true, &mut sound);
        }
        self.append(&packet.opus, false, &mut sound);
        sound
    }

    /// Decodes a packet, or what it knows of the packet before (`is_correction`).
    fn append(&mut self, opus: &[u8], is_correction: bool, sound: &mut Vec<f32>) {
        let length = self.opus.get_nb_samples(opus).unwrap_or(0).min(MAX_SAMPLES);
        let mut out = vec![0.0; length];
        if let Ok(n) = self.opus.decode_float_to_slice(opus, &mut out, is_correction) {
            sound.extend_from_slice(&out[..n.min(length)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use types::{Rate, Sound};

    use super::*;
    use crate::VoiceEncoder;
    use types::MediaTime;

    /// One second of something like a voice. Its pitch varies; a steady tone would pass for noise.
    fn hum() -> Vec<Sound> {
        let sample = |n: u64| {
            let t = n as f32 / 48_000.0;
            let phase = std::f32::consts::TAU * 140.0 * t + 4.0 * (t * 25.0).sin();
            (1..6).map(|k| (phase * k as f32).sin() / k as f32).sum::<f32>() * 0.2
        };
        (0..50_u64)
            .map(|block| Sound {
                time: MediaTime::from_micros(block * 20_000),
                samples: (block * 960..(block + 1) * 960).map(sample).collect(),
            })
            .collect()
    }

    fn packets(rate: Rate) -> Vec<VoicePacket> {
        let mut encoder = VoiceEncoder::new(rate).unwrap();
        hum().iter().flat_map(|sound| encoder.encode(sound, false)).collect()
    }

    #[test]
    fn a_hum_keeps_its_loudness_in_few_packets() {
        for (rate, n) in [(Rate::Low, 8), (Rate::Normal, 16), (Rate::High, 50)] {
            let packets = packets(rate);
            assert_eq!(packets.len(), n);
            let mut decoder = VoiceDecoder::new().unwrap();
            let sound: Vec<f32> =
                packets.iter().flat_map(|packet| decoder.decode(packet)).collect();
            assert_eq!(sound.len(), n * rate.parameters().opus_frame.as_millis() as usize * 48);
            let power = |s: &[f32]| s.iter().map(|v| v * v).sum::<f32>() / s.len() as f32;
            let (decoded, original) = (power(&sound[24_000..]), power(&hum()[30].samples));
            assert!((0.3..2.0).contains(&(decoded / original)), "{rate:?}: {decoded}, {original}");
        }
    }

    #[test]
    fn a_lost_packet_is_concealed_and_a_late_one_ignored() {
        let packets = packets(Rate::Normal);
        let mut decoder = VoiceDecoder::new().unwrap();
        decoder.decode(&packets[0]);
        assert_eq!(decoder.decode(&packets[2]).len(), 2 * 2880);
        assert_eq!(decoder.decode(&packets[1]).len(), 0);
        assert_eq!(decoder.decode(&packets[3]).len(), 2880);
    }

    #[test]
    fn a_change_of_rate_changes_the_frames_and_loses_no_sound() {
        let mut encoder = VoiceEncoder::new(Rate::Normal).unwrap();
        let mut decoder = VoiceDecoder::new().unwrap();
        let mut sound = 0;
        for (i, block) in hum().iter().enumerate() {
            if i == 21 {
                encoder.set_rate(Rate::High);
            }
            for packet in encoder.encode(block, false) {
                let n = decoder.decode(&packet).len();
                assert_eq!(n, if i < 21 { 2880 } else { 960 }, "block {i}");
                assert_eq!(packet.timestamp, sound);
                sound += n as u32;
            }
        }
        assert_eq!(sound, 48_000);
    }

    #[test]
    fn nothing_is_sent_while_muted_but_time_goes_on() {
        let mut encoder = VoiceEncoder::new(Rate::Normal).unwrap();
        let sounds = hum();
        assert!(sounds[..30].iter().all(|sound| encoder.encode(sound, true).is_empty()));
        let packet = sounds.iter().find_map(|sound| encoder.encode(sound, false).pop()).unwrap();
        assert_eq!((packet.sequence, packet.timestamp), (0, 10 * 2880));
    }

    #[test]
    fn damaged_packets_decode_to_bounded_sound() {
        let mut decoder = VoiceDecoder::new().unwrap();
        for opus in [&b""[..], &[0xff; 3], &[0; 1300]] {
            let packet =
                VoicePacket { sequence: 1, timestamp: 0, opus: Bytes::copy_from_slice(opus) };
            assert!(decoder.decode(&packet).len() <= MAX_SAMPLES);
        }
    }
}
