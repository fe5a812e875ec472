//! Sends speech over simulated lines and writes what is heard at the other end, to be compared
//! with the original by a measure of speech quality (`speech_quality.py` beside this file).
//!
//! ```sh
//! ffmpeg -i CLIP -ac 1 -ar 48000 -f f32le speech.f32
//! cargo run --release -p voice --example lossy_line -- speech.f32 OUT FILTER
//! ```
//! `FILTER` selects the conditions whose names contain it. One line of values per condition goes
//! to standard output.

#![expect(clippy::disallowed_methods, reason = "a program that reads files and measures time")]
#![expect(clippy::print_stdout, reason = "its output")]

use std::path::Path;
use std::time::{Duration, Instant};

use types::{MediaTime, Rate, Sound};
use voice::{
    BLOCK, DecoderEffort, EncoderSettings, History, HistoryQuality, VoiceEncoder, VoicePacket,
    VoiceReceiver,
};

/// Bytes of headers per packet: IPv4, UDP, RTP, tag of SRTP, and the length of features.
const HEADER_BYTES: usize = 20 + 8 + 12 + 10 + 1;

struct Condition {
    name: String,
    settings: EncoderSettings,
    rate: Rate,
    effort: DecoderEffort,
    loss: Loss,
    jitter: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Loss {
    /// Fraction of packets, each by itself.
    Random(f32),
    /// Outages of this duration, every two seconds on average.
    Bursts(Duration),
}

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, folder, filter] = &arguments[..] else {
        return Err(std::io::Error::other("usage: lossy_line SPEECH.f32 FOLDER FILTER"));
    };
    let samples: Vec<f32> = std::fs::read(input)?
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        .collect();
    std::fs::create_dir_all(folder)?;
    println!(
        "name,kbit_s_opus,kbit_s_wire,packets_s,delay_ms,decoded,recovered,concealed,noise,\
         encode_ms_s,decode_ms_s"
    );
    for condition in conditions() {
        if condition.name.contains(filter.as_str()) {
            let heard = run(&condition, &samples);
            let bytes: Vec<u8> = heard.iter().flat_map(|v| v.to_le_bytes()).collect();
            std::fs::write(Path::new(folder).join(format!("{}.f32", condition.name)), bytes)?;
        }
    }
    Ok(())
}

fn conditions() -> Vec<Condition> {
    let losses = [
        ("0", Loss::Random(0.0)),
        ("10", Loss::Random(0.1)),
        ("30", Loss::Random(0.3)),
        ("50", Loss::Random(0.5)),
        ("bursts", Loss::Bursts(Duration::from_millis(200))),
    ];
    let mut conditions = Vec::new();
    for rate in Rate::ALL {
        for (loss_name, loss) in losses {
            for jitter_ms in [0, 60] {
                for (effort_name, effort) in [
                    ("least", DecoderEffort::Least),
                    ("less", DecoderEffort::Less),
                    ("lace", DecoderEffort::Medium),
                    ("nolace", DecoderEffort::Most),
                ] {
                    for (variant, settings) in variants(rate, loss) {
                        conditions.push(Condition {
                            name: format!(
                                "{rate}-{variant}-{effort_name}-l{loss_name}-j{jitter_ms}"
                            ),
                            settings,
                            rate,
                            effort,
                            loss,
                            jitter: Duration::from_millis(jitter_ms),
                        });
                    }
                }
            }
        }
    }
    conditions
}

fn variants(rate: Rate, loss: Loss) -> Vec<(String, EncoderSettings)> {
    let expected = match loss {
        Loss::Random(fraction) => fraction,
        Loss::Bursts(_) => 0.1,
    };
    let chosen = EncoderSettings::new(rate, expected);
    let plain = EncoderSettings { history: None, in_band_correction: false, ..chosen };
    let with = |tens_of_ms, quality| EncoderSettings {
        history: Some(History { tens_of_ms, quality }),
        ..plain
    };
    let mut variants = vec![
        ("chosen".to_owned(), chosen),
        ("plain".to_owned(), plain),
        ("auto".to_owned(), EncoderSettings { is_wideband: false, ..plain }),
        ("fec".to_owned(), EncoderSettings { in_band_correction: true, ..plain }),
        ("dredcoarse".to_owned(), with(50, HistoryQuality::Coarse)),
        ("dredmedium".to_owned(), with(50, HistoryQuality::Medium)),
        ("dredfine".to_owned(), with(50, HistoryQuality::Fine)),
        ("dredfinest".to_owned(), with(50, HistoryQuality::Finest)),
    ];
    for quality in [HistoryQuality::Coarse, HistoryQuality::Medium, HistoryQuality::Fine] {
        for tens_of_ms in [30, 50, 100] {
            let history = Some(History { tens_of_ms, quality });
            let settings = EncoderSettings { history, is_wideband: false, ..plain };
            variants.push((format!("nb{quality:?}{tens_of_ms}"), settings));
            let settings = EncoderSettings { is_wideband: true, bits_per_s: 8000, ..settings };
            variants.push((format!("wb8{quality:?}{tens_of_ms}"), settings));
        }
    }
    for kbit in [5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24, 28, 32] {
        for ms in [20, 40, 60, 80, 100, 120] {
            let settings = EncoderSettings {
                bits_per_s: kbit * 1000,
                frame: Duration::from_millis(ms),
                ..plain
            };
            variants.push((format!("k{kbit}f{ms}w"), settings));
            let settings = EncoderSettings { is_wideband: false, ..settings };
            variants.push((format!("k{kbit}f{ms}a"), settings));
        }
    }
    variants
}

fn run(condition: &Condition, samples: &[f32]) -> Vec<f32> {
    let mut encoder = VoiceEncoder::new(condition.rate).expect("libopus");
    encoder.set(condition.settings);
    let begin = Instant::now();
    let voices: Vec<_> = samples
        .chunks_exact(BLOCK)
        .enumerate()
        .flat_map(|(i, block)| {
            let time = MediaTime::from_micros(i as u64 * 10_000);
            encoder.encode(&Sound { time, samples: block.to_vec() }, false)
        })
        .collect();
    let encode_time = begin.elapsed();
    let seconds = samples.len() as f64 / 48_000.0;
    let opus_bytes: usize = voices.iter().map(|voice| voice.opus.len()).sum();
    let n_packets = voices.len();
    let mut random = Random(12_345);
    let mut arrivals = Vec::new();
    let mut burst_until = 0.0;
    for (sequence, voice) in (0_u32..).zip(voices) {
        let sent = Duration::from_micros(voice.time.as_micros()) + condition.settings.frame;
        let is_lost = match condition.loss {
            Loss::Random(fraction) => random.next() < fraction,
            Loss::Bursts(duration) => {
                let now = sent.as_secs_f64();
                let chance = condition.settings.frame.as_secs_f32() / 2.0;
                if now >= burst_until && random.next() < chance {
                    burst_until = now + duration.as_secs_f64();
                }
                now < burst_until
            }
        };
        let jitter = condition.jitter.mul_f32(random.next());
        if !is_lost {
            let packet = VoicePacket {
                sequence: sequence as u16,
                timestamp: voice.timestamp(),
                opus: voice.opus,
            };
            arrivals.push((sent + jitter, packet));
        }
    }
    arrivals.sort_by_key(|(arrival, _)| *arrival);
    let mut arrivals = arrivals.into_iter().peekable();
    let mut receiver = VoiceReceiver::new().expect("libopus");
    receiver.set_effort(condition.effort);
    let start = Instant::now();
    let begin = start;
    let mut heard = Vec::with_capacity(samples.len());
    let mut delay = 0.0;
    let n_blocks = samples.len() / BLOCK;
    for block in 0..n_blocks as u32 {
        let now = block * Duration::from_millis(10);
        while let Some((arrival, packet)) = arrivals.next_if(|(arrival, _)| *arrival <= now) {
            receiver.insert(start + arrival, packet);
        }
        let played = receiver.pull(start + now);
        if let Some(time) = played.time {
            delay += now.as_secs_f64() - time.as_secs_f64();
        }
        heard.extend(played.samples);
    }
    let decode_time = begin.elapsed();
    let stats = receiver.stats();
    let share = |n: u64| 100.0 * n as f64 / n_blocks as f64;
    println!(
        "{},{:.2},{:.2},{:.1},{:.0},{:.1},{:.1},{:.1},{:.1},{:.2},{:.2}",
        condition.name,
        opus_bytes as f64 * 8e-3 / seconds,
        (opus_bytes + n_packets * HEADER_BYTES) as f64 * 8e-3 / seconds,
        n_packets as f64 / seconds,
        1000.0 * delay / n_blocks as f64,
        share(stats.decoded_blocks),
        share(stats.recovered_blocks),
        share(stats.concealed_blocks),
        share(stats.noise_blocks),
        1000.0 * encode_time.as_secs_f64() / seconds,
        1000.0 * decode_time.as_secs_f64() / seconds,
    );
    heard
}

/// A linear congruential generator: the same losses in every run.
struct Random(u32);

impl Random {
    /// Returns a number in 0..1.
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as f32 / 16_777_216.0
    }
}
