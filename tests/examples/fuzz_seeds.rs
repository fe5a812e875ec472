//! Writes the seeds of the fuzz corpora, the genuine messages and files that fuzzing starts from,
//! into `tests/fuzz/corpus/`. Run it again when a format gets a new version: `cargo run -p tests
//! --example fuzz_seeds`.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use capture::ClipWriter;
use codec::{Encoder, Profile, Reference, Stream};
use face::{FaceFile, FaceModel, PackedModel, Sizes};
use tests::actor;
use transport::{
    Admission, Bye, ContentHash, Control, Invite, ManualAnswer, MeetingPoint, Packetizer,
    PacketizerSettings, RESUME_TOKEN_BYTES, Refusal, ResumeToken, Role, Seal, Secret, Signal,
    SoundPayload, VERSION,
};
use types::{Frame, MediaTime, Rate, Sound};
use voice::VoiceEncoder;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let token = ResumeToken([9; RESUME_TOKEN_BYTES]);
    for (name, message) in [
        ("hello", Control::Hello { heard: false, token: None, name: "Ada".into() }),
        ("hello_again", Control::Hello { heard: true, token: Some(token), name: "Ada".into() }),
        ("admission_wait", Control::Admission(Admission::Wait)),
        ("admitted", Control::Admission(Admission::Admitted(token))),
        ("turned_away", Control::Admission(Admission::TurnedAway)),
        ("model_offer", Control::ModelOffer { n_bytes: 200_000, hash: ContentHash([7; 32]) }),
        ("model_request", Control::ModelRequest { hash: ContentHash([7; 32]), from: 8192 }),
        ("model_chunk", Control::ModelChunk { offset: 8192, bytes: vec![1, 2, 3] }),
        (
            "media",
            Control::Media { muted: true, camera_off: false, has_sound: true, has_face: true },
        ),
        ("chat", Control::Chat("bonjour, ça va ?".into())),
        ("bye", Control::Bye(Bye::HungUp)),
    ] {
        write("control_message", name, &message.to_bytes())?;
    }
    let signals = [
        ("announce", Signal::Announce(VERSION)),
        ("offer", Signal::Offer { attempt: 3, sdp: "v=0\r\n".into() }),
        ("answer", Signal::Answer { attempt: 3, sdp: "v=0\r\n".into() }),
        (
            "candidate",
            Signal::Candidate {
                attempt: 3,
                line: "candidate:1 1 udp 1 127.0.0.1 9 typ host".into(),
            },
        ),
        ("leave", Signal::Leave),
        ("refuse_version", Signal::Refuse(Refusal::OtherVersion(VERSION))),
        ("refuse_guest", Signal::Refuse(Refusal::AnotherGuest)),
        ("refuse_link", Signal::Refuse(Refusal::LinkClosed)),
    ];
    for (name, signal) in &signals {
        write("signal", name, &signal.to_bytes())?;
    }
    sealed_messages(&signals.map(|(_, signal)| signal.to_bytes()))?;
    let secret = || Secret::new(std::array::from_fn(|i| i as u8 * 17));
    let rendezvous =
        MeetingPoint::Rendezvous { hosts: vec!["call.example:4433".into()], room: secret().room() };
    for (name, meeting_point) in
        [("rendezvous", rendezvous), ("manual", MeetingPoint::Manual { offer: vec![5; 60] })]
    {
        write("invite", name, Invite { meeting_point, secret: secret() }.to_string().as_bytes())?;
    }
    let challenge = std::array::from_fn(|i| i as u8);
    for (name, role) in [("host", Role::Host), ("guest", Role::Guest)] {
        write("seat_proof", name, &secret().room_key().prove_seat(role, &challenge))?;
    }
    write("manual_answer", "answer", ManualAnswer(vec![5; 60]).to_string().as_bytes())?;
    packets_and_units()?;
    voice_packets()?;
    write("codec_profile", "actor", &actor::profile().to_bytes())?;
    write("codec_profile", "default", &Profile::default().to_bytes())?;
    let file = FaceFile::new(
        PackedModel::new(&FaceModel::untrained(Sizes::tiny(), 1))?,
        vec![7; 20],
        Some(vec![9; 30]),
    )?;
    write("face_file", "whole", &file.to_bytes())?;
    let public = file.public_bytes();
    write("face_file", "without_last_layer", &public[..file.info().layers[1].bytes_to_here])?;
    write("face_file", "flat_head_box", &with_flat_head_box(file.to_bytes()))?;
    clips()?;
    for (name, seed) in [("random_1", 1_u32), ("random_2", 2), ("random_3", 3)] {
        let mut state = seed;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(400)
        .collect();
        write("encoder_channel_decoder", name, &bytes)?;
    }
    Ok(())
}

fn sealed_messages(messages: &[Vec<u8>]) -> std::io::Result<()> {
    write("sealed_message", "messages_to_seal", &length_prefixed(messages))?;
    let mut guest = Seal::new(Secret::new([9; 16]), Role::Guest, [2; transport::SALT_BYTES]);
    let sealed: Vec<_> = messages.iter().map(|message| guest.seal(message)).collect();
    write("sealed_message", "sealed_by_the_guest", &length_prefixed(&sealed))
}

#[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
fn packets_and_units() -> Result<(), Box<dyn std::error::Error>> {
    let features = actor::features();
    for rate in Rate::CODED {
        let mut encoder = Encoder::with_reference(actor::profile(), Reference::Previous);
        encoder.set_rate(rate);
        let mut packetizer = Packetizer::new(PacketizerSettings::default());
        let mut stream = Stream { face: *b"the face", units: Vec::new() };
        let (mut packets, mut now) = (Vec::new(), Instant::now());
        for feature in &features[..60] {
            now += Duration::from_millis(40);
            if let Some(encoded) = encoder.push(feature, false) {
                packetizer.push_unit(now, encoded.number, encoded.time, encoded.unit.as_bytes())?;
                stream.units.push((encoded.time, encoded.unit));
            }
            packets.extend(packetizer.poll_packet(now, None));
        }
        let units: Vec<_> = stream.units.iter().map(|(_, unit)| unit.as_bytes().to_vec()).collect();
        write("access_unit", rate.name(), &length_prefixed(&units[1..8]))?;
        write("stream_file", rate.name(), &stream.to_bytes())?;
        if rate == Rate::Low {
            // A short file of a long video.
            stream.units.truncate(3);
            for (day, (time, _)) in (0..).zip(&mut stream.units) {
                *time = MediaTime::from_micros(day * 86_400_000_000);
            }
            write("stream_file", "days", &stream.to_bytes())?;
        }
        write("packet", rate.name(), &length_prefixed(&packets[..6]))?;
        let payloads = packets[..6].iter().zip([&b"opus"[..], b""].into_iter().cycle());
        let payloads = payloads.map(|(features, opus)| {
            let [features, opus] = [&features[..], opus].map(Bytes::copy_from_slice);
            Ok(SoundPayload { features, opus, ..SoundPayload::default() }.to_bytes()?.to_vec())
        });
        let payloads = payloads.collect::<Result<Vec<_>, transport::SoundPayloadError>>()?;
        write("sound_payload", rate.name(), &length_prefixed(&payloads))?;
    }
    // The test vector of docs/TRANSPORT.md: a report, the loss of sound, and two units.
    let packet =
        b"\x72\x05\x02\x01\x03\x00\x07\x13\x33\x04\x03\x0c\x0b\x0a\x03new\x78\x01o".to_vec();
    Ok(write("packet", "test_vector", &length_prefixed(&[packet]))?)
}

/// Sound packets, each after the number of blocks of 10 ms until it arrives, its sequence number and
/// its timestamp.
fn voice_packets() -> Result<(), Box<dyn std::error::Error>> {
    for (rate, loss) in [(Rate::Low, 0.1), (Rate::Normal, 0.0), (Rate::High, 0.1)] {
        let mut encoder = VoiceEncoder::new(rate).ok_or("libopus")?;
        encoder.set_expected_loss(loss);
        let tone = |n: u32| (n as f32 * 0.02).sin() * (n as f32 * 5e-4).sin().powi(2) * 0.5;
        let sound = Sound { time: MediaTime::ZERO, samples: (0..48_000).map(tone).collect() };
        let blocks = (rate.parameters().opus_frame.as_millis() / 10) as u8;
        let packets: Vec<Vec<u8>> = (0_u16..)
            .zip(encoder.encode(&sound, false))
            // One is lost.
            .filter(|(sequence, _)| *sequence != 3)
            .take(12)
            .map(|(sequence, voice)| {
                let mut packet = vec![blocks];
                packet.extend(sequence.to_le_bytes());
                packet.extend(voice.timestamp().to_le_bytes());
                packet.extend(&voice.opus);
                packet
            })
            .collect();
        write("voice_packets", rate.name(), &length_prefixed(&packets))?;
    }
    Ok(())
}

/// Makes the head box of a face file with six sections a millimeter wide: a ray along it crosses any
/// number of cells. The fuzz target corrects the hashes.
fn with_flat_head_box(mut bytes: Vec<u8>) -> Vec<u8> {
    const HEAD_BOX: usize = 12 + 6 * 44 + 32 + 17 * 2;
    for (number, x) in [(0, -0.0005_f32), (3, 0.0005)] {
        bytes[HEAD_BOX + 4 * number..][..4].copy_from_slice(&x.to_le_bytes());
    }
    bytes
}

fn clips() -> Result<(), Box<dyn std::error::Error>> {
    for (chroma, bytes_per_pixel) in [("420jpeg", 1.5), ("422", 2.0), ("444", 3.0), ("mono", 1.0)] {
        let mut clip = format!("W4 H4 F25:1 Ip A1:1 C{chroma} XCOLORRANGE=LIMITED\n").into_bytes();
        for luma in [40, 90] {
            clip.extend(b"FRAME\n");
            clip.resize(clip.len() + (16.0 * bytes_per_pixel) as usize, luma);
        }
        write("y4m", chroma, &clip)?;
    }
    // A header that claims a large picture.
    write("y4m", "large_picture", b"W8192 H8192 F25:1 C444\nFRAME\n12345")?;
    let path = std::env::temp_dir().join(format!("feathercall-seed-{}.mp4", std::process::id()));
    let mut writer = ClipWriter::create(&path, 25)?;
    for i in 0..3_u8 {
        let rgb: Vec<u8> = (0..32 * 32 * 3).map(|at| (at % 200_u32) as u8 + i).collect();
        writer.push(&Frame::new(32, 32, MediaTime::of_frame(i.into(), 25), rgb)?)?;
    }
    for file in writer.finish()? {
        write("mp4", "own_writer", &fs::read(&file)?)?;
        fs::remove_file(file)?;
    }
    Ok(())
}

fn length_prefixed(messages: &[Vec<u8>]) -> Vec<u8> {
    let with_length =
        |message: &Vec<u8>| [&(message.len() as u16).to_le_bytes()[..], message].concat();
    messages.iter().flat_map(with_length).collect()
}

fn write(target: &str, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), bytes)
}
