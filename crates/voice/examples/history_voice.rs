//! Deep redundancy (DRED) as the only voice: every second packet of 60 ms describes the 120 ms
//! before it and the 120 ms before those, and all that is heard is synthesized from that.
//!
//! ```sh
//! cargo run --release -p voice --example history_voice -- speech.f32 OUT
//! ```
//! Prints the table that `speech_quality.py` reads.

#![expect(clippy::disallowed_methods, reason = "a program that reads files and measures time")]
#![expect(clippy::print_stdout, reason = "its output")]

use std::path::Path;
use std::time::Instant;

use opusic_c::dred::Dred;
use opusic_c::{Application, Bandwidth, Bitrate, Channels, Decoder, Encoder, SampleRate, Signal};

/// Samples per Opus packet, 60 ms.
const FRAME: usize = 2880;
/// Bytes of headers per packet: IPv4, UDP, RTP, tag of SRTP, and the length of features.
const HEADER_BYTES: usize = 20 + 8 + 12 + 10 + 1;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, folder] = &arguments[..] else {
        return Err("usage: history_voice SPEECH.f32 FOLDER".into());
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
    // libopus derives the quantizer from the logarithm of the rate above 12 kbit/s.
    for (quantizer, bits_per_s) in [(15, 16_095), (12, 20_191), (9, 28_383), (6, 44_767)] {
        for tens_of_ms in [12, 24] {
            let name = format!("history-q{quantizer}-{tens_of_ms}0ms");
            let heard = run(&name, bits_per_s, tens_of_ms, &samples).map_err(|e| e.message())?;
            let bytes: Vec<u8> = heard.iter().flat_map(|v| v.to_le_bytes()).collect();
            std::fs::write(Path::new(folder).join(format!("{name}.f32")), bytes)?;
        }
    }
    Ok(())
}

fn run(
    name: &str,
    bits_per_s: u32,
    tens_of_ms: u8,
    samples: &[f32],
) -> Result<Vec<f32>, opusic_c::ErrorCode> {
    let mut encoder = Encoder::new(Channels::Mono, SampleRate::Hz48000, Application::Voip)?;
    encoder.set_bandwidth(Bandwidth::Wide)?;
    encoder.set_signal(Signal::Voice)?;
    encoder.set_bitrate(Bitrate::Value(bits_per_s))?;
    encoder.set_packet_loss(100)?;
    encoder.set_complexity(0)?;
    encoder.set_dred_duration(tens_of_ms)?;
    let mut decoder = Dred::new(Decoder::new(Channels::Mono, SampleRate::Hz48000)?)?;
    // The decoder is in wide-band from a packet of silence on.
    let mut packet = [0; 1275];
    let length = Encoder::new(Channels::Mono, SampleRate::Hz48000, Application::Voip).and_then(
        |mut silent| {
            silent.set_bandwidth(Bandwidth::Wide)?;
            silent.set_signal(Signal::Voice)?;
            silent.set_bitrate(Bitrate::Value(16_000))?;
            silent.encode_float_to_slice(&[0.0; 960], &mut packet)
        },
    )?;
    decoder.decoder_mut().decode_float_to_slice(&packet[..length], &mut [0.0; 960], false)?;
    let (mut bytes, mut n_packets, mut heard) = (0, 0, Vec::new());
    let begin = Instant::now();
    let mut decode_s = 0.0;
    for (i, frame) in samples.chunks_exact(FRAME).enumerate() {
        let length = encoder.encode_float_to_slice(frame, &mut packet)?;
        if i % 2 == 1 {
            continue;
        }
        let n = history_bytes(&packet[..length]);
        if n > 0 {
            bytes += n;
            n_packets += 1;
        }
        let begin = Instant::now();
        let mut sound = vec![0.0; 2 * FRAME];
        decoder.decode_float_to_slice(&packet[..length], &mut sound)?;
        decode_s += begin.elapsed().as_secs_f64();
        if n == 0 {
            sound.fill(0.0);
        }
        heard.extend(sound);
    }
    let seconds = samples.len() as f64 / 48_000.0;
    let kbit_s = |bytes: usize| bytes as f64 * 8e-3 / seconds;
    println!(
        "{name},{:.2},{:.2},{:.1},120,0,100,0,0,{:.2},{:.2}",
        kbit_s(bytes),
        kbit_s(bytes + n_packets * HEADER_BYTES),
        f64::from(n_packets as u32) / seconds,
        1000.0 * (begin.elapsed().as_secs_f64() - decode_s) / seconds,
        1000.0 * decode_s / seconds,
    );
    // Of 120 ms before the first packet, there was nothing to hear.
    Ok(heard)
}

/// Returns the bytes of the description in a packet of one frame.
fn history_bytes(packet: &[u8]) -> usize {
    match packet {
        [toc, count, length, ..] if toc & 3 == 3 && count & 0x40 != 0 => {
            usize::from(*length).saturating_sub(1)
        }
        _ => 0,
    }
}
