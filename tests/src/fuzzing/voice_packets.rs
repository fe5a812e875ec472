use std::time::{Duration, Instant};

use bytes::Bytes;
use voice::{VoicePacket, VoiceReceiver};

use super::length_prefixed;

/// Longest time that passes between two packets, in blocks of 10 ms.
const MAX_BLOCKS: u8 = 40;

/// Plays sound packets of a hostile peer.
///
/// Input: packets, each preceded by its length: blocks of 10 ms until it arrives (u8), sequence
/// number (u16), timestamp (u32), Opus.
#[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
pub fn voice_packets(bytes: &[u8]) {
    let Some(mut receiver) = VoiceReceiver::new() else { return };
    let mut now = Instant::now();
    for packet in length_prefixed(bytes) {
        let [blocks, s0, s1, t0, t1, t2, t3, opus @ ..] = packet else { continue };
        for _ in 0..blocks % MAX_BLOCKS {
            now += Duration::from_millis(10);
            let played = receiver.pull(now);
            assert!(played.samples.iter().all(|sample| (-1.0..=1.0).contains(sample)));
        }
        let packet = VoicePacket {
            sequence: u16::from_le_bytes([*s0, *s1]),
            timestamp: u32::from_le_bytes([*t0, *t1, *t2, *t3]),
            opus: Bytes::copy_from_slice(opus),
        };
        receiver.insert(now, packet);
    }
}
