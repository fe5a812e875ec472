//! The layout of Opus packets (RFC 6716, section 3), as far as redundancy needs it.

use crate::packet::MAX_PACKET;

/// Number of the extension that carries deep redundancy (DRED).
const DRED_EXTENSION: u8 = 126;
/// Audio samples per SILK frame at 48 kHz, 20 ms.
const SILK_FRAME: usize = 960;

/// The parts of an Opus packet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct OpusPacket<'a> {
    /// Table-of-contents byte: configuration, channels, frame count code.
    toc: u8,
    frames: Vec<&'a [u8]>,
    padding: &'a [u8],
}

impl<'a> OpusPacket<'a> {
    /// Takes a packet apart; `None` if its lengths contradict each other.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() > MAX_PACKET {
            return None;
        }
        let (&toc, rest) = bytes.split_first()?;
        let (frames, padding) = match toc & 3 {
            0 => (vec![rest], &rest[..0]),
            1 => (equal_frames(rest, 2)?, &rest[..0]),
            2 => {
                let (length, rest) = split_length(rest)?;
                let (first, second) = rest.split_at_checked(length)?;
                (vec![first, second], &rest[..0])
            }
            _ => parse_many(rest)?,
        };
        let packet = Self { toc, frames, padding };
        (packet.samples() <= 5760).then_some(packet)
    }

    /// Returns the audio samples at 48 kHz.
    pub(crate) fn samples(&self) -> usize {
        self.frames.len() * self.frame_samples()
    }

    /// Returns whether the speaker was heard in any part of the packet, as far as it says so:
    /// packets of the music mode do not.
    pub(crate) fn is_speech(&self) -> bool {
        let n = self.silk_frames();
        !self.is_silk()
            || self
                .frames
                .iter()
                .any(|frame| frame.first().is_some_and(|first| first >> (8 - n) != 0))
    }

    /// Returns whether its audio frequencies end below 8 kHz.
    pub(crate) fn is_narrow_band(&self) -> bool {
        self.toc >> 3 < 8
    }

    /// Returns whether the packet repeats, in its first frame, the frame before it (in-band
    /// forward error correction).
    pub(crate) fn has_in_band_correction(&self) -> bool {
        let shift = 7 - self.silk_frames();
        self.is_silk()
            && self.frames.first().and_then(|f| f.first()).is_some_and(|f| f >> shift & 1 == 1)
    }

    /// Returns the deep redundancy in the packet: a description of the sound before it.
    pub(crate) fn history(&self) -> Option<&'a [u8]> {
        // Leading bytes of 1 are single bytes of padding.
        let start = self.padding.iter().position(|byte| *byte != 1)?;
        let (&first, rest) = self.padding[start..].split_first()?;
        let history = match (first >> 1, first & 1) {
            (DRED_EXTENSION, 0) => rest,
            (DRED_EXTENSION, _) => {
                let (length, rest) = split_extension_length(rest)?;
                rest.get(..length)?
            }
            _ => return None,
        };
        (!history.is_empty()).then_some(history)
    }

    /// Appends the frames of `next`; `None` if its frames are of another sort, or too many.
    pub(crate) fn join(mut self, next: Self) -> Option<Self> {
        self.frames.extend(next.frames);
        (self.toc & !3 == next.toc & !3 && self.samples() <= 5760).then_some(self)
    }

    /// Returns the bytes of this packet with `history`, or nothing, in place of its padding;
    /// `None` if that is too long for a packet.
    pub(crate) fn bytes(&self, history: Option<&[u8]>) -> Option<Vec<u8>> {
        let mut bytes = match (&self.frames[..], history) {
            ([frame], None) => {
                let mut bytes = vec![self.toc & !3];
                bytes.extend(*frame);
                bytes
            }
            ([first, second], None) => {
                let mut bytes = vec![self.toc & !3 | 2];
                push_length(&mut bytes, first.len());
                bytes.extend(first.iter().chain(*second));
                bytes
            }
            _ => self.many_frames(history)?,
        };
        if let Some(history) = history {
            bytes.push(DRED_EXTENSION << 1);
            bytes.extend(history);
        }
        (bytes.len() <= MAX_PACKET).then_some(bytes)
    }

    /// Code 3, without the padding itself.
    fn many_frames(&self, history: Option<&[u8]>) -> Option<Vec<u8>> {
        let is_equal = self.frames.iter().all(|frame| frame.len() == self.frames[0].len());
        let count = u8::try_from(self.frames.len()).ok()?;
        let flags = if history.is_some() { 0x40 } else { 0 } | if is_equal { 0 } else { 0x80 };
        let mut bytes = vec![self.toc | 3, count | flags];
        if let Some(history) = history {
            let mut padding = history.len() + 1;
            while padding >= 255 {
                bytes.push(255);
                padding -= 254;
            }
            bytes.push(padding as u8);
        }
        if !is_equal {
            for frame in &self.frames[..self.frames.len() - 1] {
                push_length(&mut bytes, frame.len());
            }
        }
        bytes.extend(self.frames.iter().flat_map(|frame| frame.iter()));
        Some(bytes)
    }

    /// Configurations below 16 have a SILK layer: speech.
    fn is_silk(&self) -> bool {
        self.toc >> 3 < 16
    }

    fn silk_frames(&self) -> usize {
        self.frame_samples().div_ceil(SILK_FRAME).clamp(1, 3)
    }

    /// Audio samples per frame at 48 kHz (RFC 6716, table 2).
    pub(crate) fn frame_samples(&self) -> usize {
        let config = usize::from(self.toc >> 3);
        match config {
            0..12 => [480, 960, 1920, 2880][config & 3],
            12..16 => [480, 960][config & 1],
            _ => [120, 240, 480, 960][config & 3],
        }
    }
}

/// Code 3: any number of frames, with padding.
fn parse_many(bytes: &[u8]) -> Option<(Vec<&[u8]>, &[u8])> {
    let (&head, mut rest) = bytes.split_first()?;
    let count = usize::from(head & 0x3f);
    let mut padding = 0;
    if head & 0x40 != 0 {
        loop {
            let (&byte, after) = rest.split_first()?;
            rest = after;
            padding += usize::from(byte).min(254);
            if byte != 255 {
                break;
            }
        }
    }
    if count == 0 || count > 48 {
        return None;
    }
    let (mut rest, padding) = rest.split_at_checked(rest.len().checked_sub(padding)?)?;
    if head & 0x80 == 0 {
        return Some((equal_frames(rest, count)?, padding));
    }
    let mut lengths = Vec::with_capacity(count);
    for _ in 1..count {
        let (length, after) = split_length(rest)?;
        lengths.push(length);
        rest = after;
    }
    let mut frames = Vec::with_capacity(count);
    for length in lengths {
        let (frame, after) = rest.split_at_checked(length)?;
        frames.push(frame);
        rest = after;
    }
    frames.push(rest);
    Some((frames, padding))
}

fn equal_frames(bytes: &[u8], count: usize) -> Option<Vec<&[u8]>> {
    let length = bytes.len() / count;
    let is_whole = bytes.len().is_multiple_of(count);
    is_whole.then(|| (0..count).map(|i| &bytes[i * length..(i + 1) * length]).collect())
}

/// Length of a frame (RFC 6716, section 3.2.1).
fn split_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    if first < 252 {
        return Some((usize::from(first), rest));
    }
    let (&second, rest) = rest.split_first()?;
    Some((usize::from(first) + 4 * usize::from(second), rest))
}

fn push_length(bytes: &mut Vec<u8>, length: usize) {
    if length < 252 {
        bytes.push(length as u8);
    } else {
        let first = 252 + (length & 3);
        bytes.extend([first as u8, ((length - first) / 4) as u8]);
    }
}

fn split_extension_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let n_full = bytes.iter().position(|byte| *byte != 255)?;
    Some((n_full * 255 + usize::from(bytes[n_full]), &bytes[n_full + 1..]))
}

#[cfg(test)]
mod tests {
    use opusic_c::dred::{DRED_PACKET_SIZE, dred_packet_size};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_history_is_carried_by_packets_of_every_layout() {
        let long = [7; 300];
        for bytes in [
            &[0x48, 1, 2, 3][..],
            &[0x59, 1, 2, 3, 4],
            &[0x5a, 1, 2, 3, 4],
            &[0x4b, 0x83, 1, 2, 9, 8, 8, 7, 7, 7],
            &[0x4b, 0x43, 2, 9, 8, 7, 0xff, 0xff],
        ] {
            let packet = OpusPacket::parse(bytes).unwrap();
            for history in [&[5][..], &[b'D', 12, 0, 255], &long] {
                let carrier = packet.bytes(Some(history)).unwrap();
                let parsed = OpusPacket::parse(&carrier).unwrap();
                assert_eq!(parsed.frames, packet.frames);
                assert_eq!(parsed.samples(), packet.samples());
                assert_eq!(parsed.history(), Some(history));
            }
            assert_eq!(packet.history(), None);
            let again = packet.bytes(None).unwrap();
            assert_eq!(OpusPacket::parse(&again).unwrap().frames, packet.frames);
        }
    }

    #[test]
    fn frames_of_one_sort_are_joined_up_to_120_ms() {
        // 60 ms of wide-band speech each; the third is of 20 ms.
        let [a, b, c] = [&[0x58, 1, 2][..], &[0x58, 3], &[0x48, 4]]
            .map(|bytes| OpusPacket::parse(bytes).unwrap());
        let joined = a.clone().join(b.clone()).unwrap();
        let bytes = joined.bytes(None).unwrap();
        let parsed = OpusPacket::parse(&bytes).unwrap();
        assert_eq!((parsed.samples(), parsed.frames.len()), (5760, 2));
        assert_eq!(parsed.clone().join(b), None);
        assert_eq!(a.join(c), None);
    }

    #[test]
    fn contradictory_lengths_are_no_packet() {
        for bytes in [
            &[][..],
            &[0x49, 1],
            &[0x4a],
            &[0x4a, 9, 1],
            &[0x4b],
            &[0x4b, 0],
            &[0x4b, 0x41],
            &[0x4b, 0x41, 255],
            &[0x4b, 0x41, 2, 1],
            &[0x4b, 0x83, 1, 9, 1],
            // 49 frames, and 180 ms of sound.
            &[0x83, 49],
            &[0x5b, 3, 1, 1, 1],
        ] {
            assert_eq!(OpusPacket::parse(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn the_binding_reserves_what_the_library_needs_for_a_history() {
        assert!(dred_packet_size() <= DRED_PACKET_SIZE);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused_and_agree_with_the_library(bytes: Vec<u8>) {
            let samples = OpusPacket::parse(&bytes).map(|packet| {
                let _ = (packet.is_speech(), packet.has_in_band_correction(), packet.history());
                packet.samples()
            });
            if let Some(samples) = samples {
                let library =
                    opusic_c::utils::get_nb_samples(&bytes, opusic_c::SampleRate::Hz48000);
                prop_assert_eq!(library.ok(), Some(samples));
            }
        }
    }
}
