//! Bodies of the fuzz targets: each function accepts arbitrary bytes and panics only on a bug.
//!
//! The programs in `tests/fuzz/` pass fuzzer input to these functions; the test module
//! `fuzz_corpora` passes every file of the checked-in corpora to them. This module is compiled
//! twice: in the test harness, and in the fuzz package, which builds without the rest of the
//! workspace.

#![expect(clippy::missing_panics_doc, reason = "each panic here is a finding of the fuzzer")]

mod one_way_call;
mod voice_packets;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use capture::{Source, SourceSpec};
use codec::{AccessUnit, Decoder, EncodedUnit, Encoder, Profile, Reference, Stream};
use face::FaceFile;
use sha2::{Digest, Sha256};
use transport::{
    Control, Invite, JitterBuffer, ManualAnswer, MeetingPoint, Packetizer, PacketizerSettings,
    Role, Seal, Secret, Signal, SoundPayload, verify_seat_proof,
};
use types::{FeatureTimeline, MediaTime, Rate, UnitNumber};

use crate::actor;

use one_way_call::{OneWayCall, Operation};
pub use voice_packets::voice_packets;

/// Frames per second of the synthetic camera.
const FPS: u32 = 25;
/// Longest clip that is decoded, in frames; a longer one teaches the fuzzer nothing new.
const MAX_CLIP_FRAMES: usize = 8;

/// A fuzz target: its name in the fuzz package and in the corpus folder, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All fuzz targets.
pub const TARGETS: [Target; 16] = [
    ("packet", packet),
    ("sound_payload", sound_payload),
    ("voice_packets", voice_packets),
    ("control_message", control_message),
    ("signal", signal),
    ("sealed_message", sealed_message),
    ("invite", invite),
    ("manual_answer", manual_answer),
    ("seat_proof", seat_proof),
    ("access_unit", access_unit),
    ("stream_file", stream_file),
    ("codec_profile", codec_profile),
    ("face_file", face_file),
    ("mp4", mp4),
    ("y4m", y4m),
    ("encoder_channel_decoder", encoder_channel_decoder),
];

/// Delivers packets to a jitter buffer and their reports to a packetizer.
///
/// Input: packets, each preceded by its length (see `length_prefixed`).
#[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
pub fn packet(bytes: &[u8]) {
    let mut jitter_buffer = JitterBuffer::new();
    let mut packetizer = Packetizer::new(PacketizerSettings::default());
    let mut now = Instant::now();
    let mut last = None;
    for (packet, number) in length_prefixed(bytes).zip(0..) {
        now += Duration::from_millis(20);
        let unit = packetizer.push_unit(now, UnitNumber(number), MediaTime::ZERO, b"unit");
        unit.expect("four bytes are within the limits of a unit");
        let report = jitter_buffer.poll_report(now, packetizer.is_due(now));
        let _ = packetizer.poll_packet(now, report);
        if let Ok(Some(report)) = jitter_buffer.handle_packet(now, packet) {
            packetizer.handle_report(now, &report);
        }
        while let Some(unit) = jitter_buffer.poll_unit(now) {
            assert!(last < Some(unit.number), "units leave the jitter buffer in order, once each");
            last = Some(unit.number);
            jitter_buffer.confirm_decoded(unit.number);
        }
        while packetizer.poll_confirmed().is_some() {}
    }
}

/// Takes payloads of sound packets apart, as they come and with the length of the features corrected.
///
/// Input: payloads, each preceded by its length.
#[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
pub fn sound_payload(bytes: &[u8]) {
    let (mut jitter_buffer, now) = (JitterBuffer::new(), Instant::now());
    for (payload, sequence) in length_prefixed(bytes).zip(0_u16..) {
        let mut bounded = payload.to_vec();
        if let Some((stated, rest)) = bounded.split_first_mut() {
            *stated = (*stated).min(u8::try_from(rest.len()).unwrap_or(u8::MAX));
        }
        for bytes in [Bytes::copy_from_slice(payload), Bytes::from(bounded)] {
            jitter_buffer.count_sound(sequence.wrapping_mul(7919));
            for is_pair in [false, true] {
                let Ok(parsed) = SoundPayload::parse(&bytes, is_pair) else { continue };
                assert_eq!(parsed.to_bytes().as_ref(), Ok(&bytes), "the encoding is unique");
                let _ = jitter_buffer.handle_packet(now, &parsed.features);
            }
        }
        while jitter_buffer.poll_unit(now).is_some() {}
        let _ = jitter_buffer.poll_report(now + Duration::from_secs(3), true);
    }
}

/// Parses one message of the reliable channel.
pub fn control_message(bytes: &[u8]) {
    if let Ok(message) = Control::parse(bytes) {
        assert_eq!(message.to_bytes(), bytes, "the encoding of a message is unique");
    }
}

/// Parses one opened signaling message.
pub fn signal(bytes: &[u8]) {
    if let Ok(signal) = Signal::parse(bytes) {
        assert_eq!(signal.to_bytes(), bytes, "the encoding of a signal is unique");
    }
}

/// Opens forged messages, and opens genuine ones that were altered or replayed.
///
/// Input: messages, each preceded by its length. Each is opened as it is; then it is sealed, and
/// opened with one byte changed, unchanged, and a second time.
pub fn sealed_message(bytes: &[u8]) {
    let secret = || Secret::new([9; transport::SECRET_BYTES]);
    let mut host = Seal::new(secret(), Role::Host, [1; transport::SALT_BYTES]);
    let mut guest = Seal::new(secret(), Role::Guest, [2; transport::SALT_BYTES]);
    for (i, message) in length_prefixed(bytes).enumerate() {
        // A corpus may contain genuine messages, so either result is fine.
        let _ = host.open(message);
        let Some(byte) = message.first() else { continue };
        let (from, to) = if i % 2 == 0 { (&mut guest, &mut host) } else { (&mut host, &mut guest) };
        let message = &message[..message.len().min(1024)];
        let sealed = from.seal(message);
        let mut altered = sealed.clone();
        altered[usize::from(*byte) % sealed.len()] ^= 1;
        assert!(to.open(&altered).is_err(), "an altered message must not open");
        if let Ok(opened) = to.open(&sealed) {
            assert_eq!(opened, message, "an opened message equals the sealed one");
        }
        assert!(to.open(&sealed).is_err(), "a replayed message must not open");
    }
}

/// Parses an invite link, searches for one, and parses a well-formed link to an arbitrary meeting point.
pub fn invite(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let found = Invite::find(text);
    if let Ok(invite) = text.parse::<Invite>() {
        assert_eq!(found.as_ref(), Ok(&invite), "a link that is intact is found");
        assert_eq!(invite.to_string().parse(), Ok(invite), "a link survives printing");
    }
    // Without this the checksum would keep the fuzzer away from the host and the room.
    let secret = Secret::new([7; transport::SECRET_BYTES]);
    let (host, room) = text.split_once('/').unwrap_or((text, "room"));
    let meeting_point =
        MeetingPoint::Rendezvous { hosts: vec![host.to_owned()], room: room.to_owned() };
    let link = Invite { meeting_point, secret: secret.clone() };
    let _ = link.to_string().parse::<Invite>();
    let link = Invite { meeting_point: MeetingPoint::Manual { offer: bytes.to_vec() }, secret };
    if let Ok(parsed) = link.to_string().parse::<Invite>() {
        assert_eq!(parsed, link, "a manual link survives printing");
    }
}

/// Checks a proof for a seat at a rendezvous service.
pub fn seat_proof(bytes: &[u8]) {
    let key = Secret::new(std::array::from_fn(|i| i as u8 * 17)).room_key();
    let challenge = std::array::from_fn(|i| i as u8);
    if let Ok(role) = verify_seat_proof(bytes, &key.room(), &challenge) {
        assert_eq!(bytes, key.prove_seat(role, &challenge), "no proof but our own is accepted");
    }
}

/// Parses the answer of a manual call, searches for one, and parses a well-formed answer with arbitrary content.
pub fn manual_answer(bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let found = ManualAnswer::find(text);
    if let Ok(answer) = text.parse::<ManualAnswer>() {
        assert_eq!(found.as_ref(), Ok(&answer), "an answer that is intact is found");
        assert_eq!(answer.to_string().parse(), Ok(answer), "an answer survives printing");
    }
    let answer = ManualAnswer(bytes.to_vec());
    if let Ok(parsed) = answer.to_string().parse::<ManualAnswer>() {
        assert_eq!(parsed, answer, "an answer survives printing");
    }
}

/// Decodes units after a genuine key unit.
///
/// Input: units, each preceded by its length.
pub fn access_unit(bytes: &[u8]) {
    static KEY_UNIT: LazyLock<EncodedUnit> = LazyLock::new(|| {
        let key_unit = Encoder::new(actor::profile()).push(&actor::features()[0], false);
        key_unit.expect("the first feature becomes a unit")
    });
    let mut decoder = Decoder::new(actor::profile());
    decoder.decode(KEY_UNIT.number, &KEY_UNIT.unit).expect("a key unit decodes");
    let mut timeline = FeatureTimeline::new();
    for (bytes, frame) in length_prefixed(bytes).zip(1..) {
        let (number, time) = (UnitNumber(frame), MediaTime::of_frame(frame, FPS));
        let Ok(unit) = AccessUnit::parse(bytes) else { continue };
        if let Ok(decoded) = decoder.decode(number, &unit) {
            timeline.extend(decoded.features(timeline.newest_time(), time));
            let again = decoder.decode(number, &unit);
            assert_eq!(again.map(|again| again.at(time)), Ok(decoded.at(time)), "decoding repeats");
        }
    }
    let is_sorted = timeline.iter().is_sorted_by(|a, b| a.time < b.time);
    assert!(is_sorted, "features are in order of time");
}

/// Parses a stream file and decodes its units.
pub fn stream_file(bytes: &[u8]) {
    let Ok(stream) = Stream::parse(bytes) else { return };
    assert_eq!(
        Stream::parse(&stream.to_bytes()).as_ref(),
        Ok(&stream),
        "a stream survives its bytes"
    );
    let mut decoder = Decoder::new(actor::profile());
    let mut timeline = FeatureTimeline::new();
    for (number, time, unit) in stream.numbered() {
        if let Ok(decoded) = decoder.decode(number, unit) {
            timeline.extend(decoded.features(timeline.newest_time(), time));
        }
    }
}

/// Parses a codec profile, and codes a few features with it.
pub fn codec_profile(bytes: &[u8]) {
    let Ok(profile) = Profile::parse(bytes) else { return };
    assert_eq!(profile.to_bytes(), bytes, "the encoding of a profile is unique");
    let mut encoder = Encoder::with_reference(profile.clone(), Reference::Previous);
    let mut decoder = Decoder::new(profile);
    for (feature, rate) in actor::features().iter().take(24).zip(Rate::ALL.into_iter().cycle()) {
        encoder.set_rate(rate);
        if let Some(encoded) = encoder.push(feature, false) {
            let decoded = decoder.decode(encoded.number, &encoded.unit);
            assert_eq!(decoded, Ok(encoded.decoded), "the decoder follows the encoder");
        }
    }
}

/// Parses a face file; then parses it again with corrected hashes, so that the sections are
/// reached.
pub fn face_file(bytes: &[u8]) {
    for bytes in [bytes.to_vec(), with_correct_hashes(bytes)] {
        let progress = FaceFile::progress(&bytes);
        if let Ok(file) = FaceFile::parse(&bytes) {
            assert!(
                progress.is_ok_and(|progress| progress.is_some()),
                "a file that parses has layers"
            );
            let again = FaceFile::parse(&file.to_bytes()).expect("a file that was written parses");
            assert_eq!(again.content_hash(), file.content_hash(), "a file survives its bytes");
            let _ = file.info();
        }
    }
}

/// Reads the frames and the sound of an MP4 file.
pub fn mp4(bytes: &[u8]) {
    read_clip("mp4", bytes);
}

/// Reads the frames of a Y4M file.
///
/// Input: the file without its first word, which is always the same.
pub fn y4m(bytes: &[u8]) {
    read_clip("y4m", &[b"YUV4MPEG2 ", bytes].concat());
}

fn read_clip(extension: &str, bytes: &[u8]) {
    let name = format!("feathercall-fuzz-{}.{extension}", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, bytes).expect("the folder for temporary files is writable");
    if let Ok(mut source) = Source::open(&SourceSpec::Clip(path.clone())) {
        let mut last = None;
        for _ in 0..MAX_CLIP_FRAMES {
            let Ok(Some(frame)) = source.next_frame() else { break };
            assert!(last <= Some(frame.time()), "media time never runs backwards");
            last = Some(frame.time());
        }
        for _ in 0..MAX_CLIP_FRAMES {
            if !matches!(source.next_sound(), Ok(Some(_))) {
                break;
            }
        }
    }
    std::fs::remove_file(&path).expect("the clip is still there");
}

/// Sends features through encoder, packetizer, a lossy channel, jitter buffer and decoder.
///
/// Whatever the channel does, each decoded unit equals the encoder's reconstruction of it; and
/// after a key request has been served, the next unit that arrives decodes.
///
/// Input: a list of operations in the encoding of the crate `arbitrary`.
pub fn encoder_channel_decoder(bytes: &[u8]) {
    let operations = Vec::<Operation>::arbitrary_take_rest(Unstructured::new(bytes));
    let mut call = OneWayCall::new();
    for operation in operations.unwrap_or_default() {
        call.apply(operation);
    }
    call.recover();
}

/// Splits the input into messages: a length (u16, little endian), then as many bytes or what is
/// left.
fn length_prefixed(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (&length, tail) = rest.split_first_chunk()?;
        let message;
        (message, rest) = tail.split_at(usize::from(u16::from_le_bytes(length)).min(tail.len()));
        Some(message)
    })
}

/// Corrects the hash of each section that the table of a face file names, and the hash of the
/// table.
fn with_correct_hashes(bytes: &[u8]) -> Vec<u8> {
    const TABLE: usize = 12;
    const ENTRY: usize = 44;
    const HASH: usize = 32;
    let mut bytes = bytes.to_vec();
    let n_sections = bytes.get(10).copied().map_or(0, usize::from);
    let table_end = TABLE + n_sections * ENTRY;
    let mut section = table_end + HASH;
    if bytes.len() < section {
        return bytes;
    }
    for entry in (TABLE..table_end).step_by(ENTRY) {
        let length = bytes[entry + 8..entry + 12].try_into().map_or(0, u32::from_le_bytes);
        let end = section.saturating_add(length as usize).min(bytes.len());
        let hash = Sha256::digest(&bytes[section.min(end)..end]);
        bytes[entry + 12..entry + ENTRY].copy_from_slice(&hash);
        section = end;
    }
    let hash = Sha256::digest(&bytes[..table_end]);
    bytes[table_end..table_end + HASH].copy_from_slice(&hash);
    bytes
}
