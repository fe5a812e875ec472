//! Sound: Opus both ways, a microphone at one end and a speaker at the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use capture::{Microphone, Speaker};
use opusic_c::{Application, Bitrate, Channels, Decoder, Encoder, InbandFec, SampleRate};
use tokio::sync::mpsc;
use types::{Rate, RateParameters, Sound};

use crate::session::Input;

/// Largest Opus packet taken or made.
const MAX_PACKET: usize = 1275;
/// Audio samples in the longest packet Opus knows.
const MAX_SAMPLES: usize = 5760;
/// More packets missing in a row than this are an outage, not a gap to fill.
const MAX_FILLED: u16 = 5;
/// Packets that wait for the speaker's thread.
const WAITING: usize = 64;

/// One RTP packet's worth.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct SoundPacket {
    pub(crate) sequence: u16,
    /// In audio samples.
    pub(crate) timestamp: u32,
    pub(crate) opus: Bytes,
}

/// Returns the audio samples in an Opus frame and the bit rate in bit/s.
fn frame_and_bit_rate(rate: Rate) -> (usize, u32) {
    let RateParameters { opus_frame, opus_bits_per_s, .. } = rate.parameters();
    let samples = opus_frame.as_millis() as usize * Sound::RATE as usize / 1000;
    (samples, *opus_bits_per_s)
}

/// Sound in, packets out: mono, with forward error correction, and nothing for silence.
pub(crate) struct SoundEncoder {
    opus: Encoder,
    frame: usize,
    pending: Vec<f32>,
    sequence: u16,
    timestamp: u32,
}

impl SoundEncoder {
    /// `None` if the codec cannot be set up.
    pub(crate) fn new(rate: Rate) -> Option<Self> {
        let (frame, bits_per_s) = frame_and_bit_rate(rate);
        let mut opus = Encoder::new(Channels::Mono, SampleRate::Hz48000, Application::Voip).ok()?;
        opus.set_bitrate(Bitrate::Value(bits_per_s)).ok()?;
        opus.set_inband_fec(InbandFec::Mode1).ok()?;
        opus.set_packet_loss(10).ok()?;
        opus.set_dtx(true).ok()?;
        opus.set_complexity(6).ok()?;
        Some(Self { opus, frame, pending: Vec::new(), sequence: 0, timestamp: 0 })
    }

    /// Frames of another length from now on, at another bit rate.
    pub(crate) fn set_rate(&mut self, rate: Rate) {
        let (frame, bits_per_s) = frame_and_bit_rate(rate);
        if self.opus.set_bitrate(Bitrate::Value(bits_per_s)).is_ok() {
            self.frame = frame;
        }
    }

    /// Takes sound and gives the packets that are full; while `muted`, time passes and nothing is
    /// sent.
    pub(crate) fn encode(&mut self, sound: &Sound, muted: bool) -> Vec<SoundPacket> {
        self.pending.extend_from_slice(&sound.samples);
        let mut packets = Vec::new();
        while self.pending.len() >= self.frame {
            let frame: Vec<f32> = self.pending.drain(..self.frame).collect();
            let timestamp = self.timestamp;
            self.timestamp = timestamp.wrapping_add(self.frame as u32);
            if muted {
                continue;
            }
            let mut out = [0; MAX_PACKET];
            // Up to two bytes say that this is silence.
            if let Ok(length @ 3..) = self.opus.encode_float_to_slice(&frame, &mut out) {
                let opus = Bytes::copy_from_slice(&out[..length]);
                packets.push(SoundPacket { sequence: self.sequence, timestamp, opus });
                self.sequence = self.sequence.wrapping_add(1);
            }
        }
        packets
    }
}

/// Packets in, sound out: gaps are filled from what the next packet says of them.
pub(crate) struct SoundDecoder {
    opus: Decoder,
    last: Option<u16>,
}

impl SoundDecoder {
    pub(crate) fn new() -> Option<Self> {
        let opus = Decoder::new(Channels::Mono, SampleRate::Hz48000).ok()?;
        Some(Self { opus, last: None })
    }

    /// Takes a packet; one that is late, double or damaged gives nothing.
    pub(crate) fn decode(&mut self, packet: &SoundPacket) -> Vec<f32> {
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

    fn append(&mut self, opus: &[u8], correction: bool, sound: &mut Vec<f32>) {
        let length = self.opus.get_nb_samples(opus).unwrap_or(0).min(MAX_SAMPLES);
        let mut out = vec![0.0; length];
        if let Ok(n) = self.opus.decode_float_to_slice(opus, &mut out, correction) {
            sound.extend_from_slice(&out[..n.min(length)]);
        }
    }
}

/// The thread that plays what the peer says; it decodes even where there is no speaker.
pub(crate) struct Playing {
    packets: SyncSender<SoundPacket>,
    samples: Arc<AtomicU64>,
}

impl Playing {
    pub(crate) fn start(out: mpsc::Sender<Input>) -> std::io::Result<Self> {
        let (packets, receiver) = sync_channel(WAITING);
        let samples = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&samples);
        std::thread::Builder::new()
            .name("feathercall-play".to_owned())
            .spawn(move || play(&receiver, &counted, &out))?;
        Ok(Self { packets, samples })
    }

    /// Hands over a packet; one too many is lost.
    pub(crate) fn push(&self, packet: SoundPacket) {
        let _ = self.packets.try_send(packet);
    }

    /// Audio samples decoded so far.
    pub(crate) fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }
}

fn play(packets: &Receiver<SoundPacket>, samples: &AtomicU64, out: &mpsc::Sender<Input>) {
    let Some(mut decoder) = SoundDecoder::new() else { return };
    let Ok(first) = packets.recv() else { return };
    let mut speaker = match Speaker::open() {
        Ok(speaker) => Some(speaker),
        Err(error) => {
            let _ = out.blocking_send(Input::NoSound(error.to_string()));
            None
        }
    };
    let mut next = Some(first);
    while let Some(packet) = next {
        let sound = decoder.decode(&packet);
        samples.fetch_add(sound.len() as u64, Ordering::Relaxed);
        if let Some(speaker) = &mut speaker {
            speaker.push(&sound);
        }
        next = packets.recv().ok();
    }
}

/// The thread that listens to the microphone.
pub(crate) struct Listening {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listening {
    pub(crate) fn start(out: mpsc::Sender<Input>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread =
            std::thread::Builder::new().name("feathercall-listen".to_owned()).spawn(move || {
                let mut microphone = match Microphone::open() {
                    Ok(microphone) => microphone,
                    Err(error) => {
                        let _ = out.blocking_send(Input::NoSound(error.to_string()));
                        return;
                    }
                };
                while !stopped.load(Ordering::Relaxed) {
                    if let Some(sound) = microphone.next_sound(Duration::from_millis(100))
                        && out.blocking_send(Input::Sounds(vec![sound])).is_err()
                    {
                        return;
                    }
                }
            })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // The thread ends by itself; waiting for it here could wait for our own queue.
        drop(self.thread.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::MediaTime;

    /// One second of something like a voice: its pitch wanders, or it would pass for noise.
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

    fn packets(rate: Rate) -> Vec<SoundPacket> {
        let mut encoder = SoundEncoder::new(rate).unwrap();
        hum().iter().flat_map(|sound| encoder.encode(sound, false)).collect()
    }

    #[test]
    fn a_hum_comes_out_as_a_hum_in_a_few_packets() {
        for (rate, n) in [(Rate::Low, 8), (Rate::Normal, 16), (Rate::High, 50)] {
            let packets = packets(rate);
            assert_eq!(packets.len(), n);
            let mut decoder = SoundDecoder::new().unwrap();
            let sound: Vec<f32> =
                packets.iter().flat_map(|packet| decoder.decode(packet)).collect();
            assert_eq!(sound.len(), n * frame_and_bit_rate(rate).0);
            let power = |s: &[f32]| s.iter().map(|v| v * v).sum::<f32>() / s.len() as f32;
            let (heard, said) = (power(&sound[24_000..]), power(&hum()[30].samples));
            assert!((0.3..2.0).contains(&(heard / said)), "{rate:?}: {heard} of {said}");
        }
    }

    #[test]
    fn a_lost_packet_is_filled_and_a_late_one_ignored() {
        let packets = packets(Rate::Normal);
        let mut decoder = SoundDecoder::new().unwrap();
        decoder.decode(&packets[0]);
        assert_eq!(decoder.decode(&packets[2]).len(), 2 * 2880);
        assert_eq!(decoder.decode(&packets[1]).len(), 0);
        assert_eq!(decoder.decode(&packets[3]).len(), 2880);
    }

    #[test]
    fn another_rate_changes_the_frames_and_no_sound_is_lost() {
        let mut encoder = SoundEncoder::new(Rate::Normal).unwrap();
        let mut decoder = SoundDecoder::new().unwrap();
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
    fn nothing_is_sent_while_muted_and_time_goes_on() {
        let mut encoder = SoundEncoder::new(Rate::Normal).unwrap();
        let sounds = hum();
        assert!(sounds[..30].iter().all(|sound| encoder.encode(sound, true).is_empty()));
        let packet = sounds.iter().find_map(|sound| encoder.encode(sound, false).pop()).unwrap();
        assert_eq!((packet.sequence, packet.timestamp), (0, 10 * 2880));
    }

    #[test]
    fn damaged_packets_are_silence() {
        let mut decoder = SoundDecoder::new().unwrap();
        for opus in [&b""[..], &[0xff; 3], &[0; 1300]] {
            let packet =
                SoundPacket { sequence: 1, timestamp: 0, opus: Bytes::copy_from_slice(opus) };
            assert!(decoder.decode(&packet).len() <= MAX_SAMPLES);
        }
    }
}
