//! Frames of MP4 clips with H.264 video.

use std::collections::BTreeMap;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rust_h264::decoder::{ChromaFormat, Decoder, Frame as Picture};
use rust_h264::nal::{NalUnit, NalUnitType, parse_avcc, parse_avcc_config, parse_sps_info};
use types::{Frame, MAX_FRAME_SIDE, MediaTime};

use crate::color::{Chroma, ColorMatrix, ColorSpace, Planes};
use crate::errors::ReadError;
use crate::mp4_reader::read_sample;
use crate::mp4_track::{Coding, Mp4Sample, Mp4Track};

/// Most decoded pictures held for reordering; H.264 allows no more.
const MAX_HELD: u32 = 16;
/// Most macroblocks of 16 x 16 pixels in all decoded pictures held together, and in a picture: those
/// of level 6.2, the highest (Rec. ITU-T H.264, table A-1).
const MAX_HELD_BLOCKS: u32 = 696_320;
const MAX_BLOCKS: u32 = 139_264;

/// Decoder of one video track, which returns pictures in presentation order.
///
/// The index gives every presentation time, so a picture is returned as soon as no earlier one is
/// missing. The first one has media time zero, whatever the edit list says.
pub(crate) struct Mp4Clip {
    file: File,
    samples: Vec<Mp4Sample>,
    /// Presentation times in units of the track, increasing.
    order: Vec<i64>,
    units_per_second: u32,
    n_length_bytes: usize,
    color: ColorSpace,
    chroma: Chroma,
    decoder: Decoder,
    n_fed: usize,
    /// Index of the sample that is being decoded.
    building: Option<usize>,
    /// Decoded pictures waiting for earlier ones, by presentation time and sample index.
    held: BTreeMap<(i64, usize), Picture>,
    /// Most pictures in `held`; fewer for large pictures.
    max_held: usize,
    n_shown: usize,
    flushed: bool,
    /// Error that ended decoding; reported after all complete pictures.
    broken: Option<ReadError>,
    bytes: Vec<u8>,
}

impl Mp4Clip {
    /// Opens a track; `None` if the decoder does not support its format.
    pub(crate) fn new(file: File, track: Mp4Track) -> Option<Self> {
        let Coding::Avc { avcc, matrix } = track.coding else { return None };
        let config = parse_avcc_config(&avcc).ok()?;
        let info = parse_sps_info(config.sps_nals.first()?).ok()?;
        let n_blocks = info.width.div_ceil(16).saturating_mul(info.height.div_ceil(16));
        let is_supported = info.chroma_format <= 2
            && matches!(info.bit_depth_luma, 8 | 10)
            && info.width.max(info.height) <= MAX_FRAME_SIDE
            && n_blocks <= MAX_BLOCKS;
        if !is_supported {
            return None;
        }
        let color = ColorSpace {
            matrix: ColorMatrix::from_h264(info.matrix.into()).or(matrix).unwrap_or_default(),
            full_range: info.full_range,
        };
        let center = matches!(info.chroma_location, 1 | 3 | 5);
        let mut decoder = Decoder::new();
        for nal in config.sps_nals.iter().chain(&config.pps_nals) {
            guarded(|| decoder.decode_nal(nal)).ok()?;
        }
        let mut order: Vec<i64> = track.samples.iter().map(|s| s.shown_at).collect();
        order.sort_unstable();
        Some(Self {
            file,
            samples: track.samples,
            order,
            units_per_second: track.units_per_second,
            n_length_bytes: config.length_size,
            color,
            chroma: if center { Chroma::HalfCenter } else { Chroma::HalfLeft },
            decoder,
            n_fed: 0,
            building: None,
            held: BTreeMap::new(),
            max_held: (MAX_HELD_BLOCKS / n_blocks.max(1)).min(MAX_HELD) as usize,
            n_shown: 0,
            flushed: false,
            broken: None,
            bytes: Vec::new(),
        })
    }

    /// Returns the number of frames in the index.
    pub(crate) fn n_frames(&self) -> u64 {
        self.samples.len() as u64
    }

    /// Returns the frame rate, frames per second, from the median interval.
    pub(crate) fn fps(&self) -> u32 {
        let mut steps: Vec<i64> =
            self.order.windows(2).map(|w| w[1].saturating_sub(w[0])).collect();
        steps.sort_unstable();
        let step = steps.get(steps.len() / 2).copied().unwrap_or(0).max(1);
        let units = i64::from(self.units_per_second);
        if steps.is_empty() { 25 } else { ((units + step / 2) / step).clamp(1, 1000) as u32 }
    }

    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, ReadError> {
        loop {
            if let Some((shown_at, picture)) = self.next_held() {
                self.n_shown += 1;
                return self.to_frame(shown_at, &picture).map(Some);
            }
            if self.n_fed < self.samples.len() && self.broken.is_none() {
                self.broken = self.feed().err();
            } else if self.flushed {
                return self.broken.take().map_or(Ok(None), Err);
            } else {
                self.flushed = true;
                if let Ok(Some(picture)) = guarded(|| Ok(self.decoder.flush())) {
                    self.hold(picture);
                }
            }
        }
    }

    /// Returns the next picture in presentation order, if it is decoded.
    fn next_held(&mut self) -> Option<(i64, Picture)> {
        let next = *self.order.get(self.n_shown)?;
        let due = self.held.first_key_value()?.0.0 <= next;
        (due || self.flushed || self.held.len() > self.max_held)
            .then(|| self.held.pop_first())?
            .map(|((shown_at, _), picture)| (shown_at, picture))
    }

    fn hold(&mut self, picture: Picture) {
        if let Some(sample_idx) = self.building.take() {
            self.held.insert((self.samples[sample_idx].shown_at, sample_idx), picture);
        }
    }

    /// Passes one sample to the decoder.
    fn feed(&mut self) -> Result<(), ReadError> {
        let sample_idx = self.n_fed;
        self.n_fed += 1;
        let at = self.n_fed as u64;
        let mut bytes = std::mem::take(&mut self.bytes);
        if !read_sample(&mut self.file, self.samples[sample_idx], &mut bytes)? {
            return Err(ReadError::Truncated { at, of: self.n_frames() });
        }
        let nals = parse_avcc(&bytes, self.n_length_bytes);
        if nals.is_empty() {
            return Err(ReadError::Corrupt { at });
        }
        for nal in &nals {
            self.feed_nal(nal, sample_idx).map_err(|()| ReadError::Corrupt { at })?;
        }
        drop(nals);
        self.bytes = bytes;
        Ok(())
    }

    fn feed_nal(&mut self, nal: &NalUnit<'_>, sample_idx: usize) -> Result<(), ()> {
        // The first slice of a picture completes the previous picture.
        if let Some(picture) = guarded(|| self.decoder.decode_nal(nal))? {
            self.hold(picture);
        }
        if matches!(nal.nal_unit_type, NalUnitType::Slice | NalUnitType::SliceIdr) {
            self.building.get_or_insert(sample_idx);
        }
        Ok(())
    }

    fn to_frame(&self, shown_at: i64, picture: &Picture) -> Result<Frame, ReadError> {
        let first = self.order.first().copied().unwrap_or(0);
        let time = media_time(shown_at.saturating_sub(first), self.units_per_second);
        let wide = [&picture.y, &picture.u, &picture.v].map(|plane| {
            // 10-bit samples are stored in two bytes each.
            (picture.bit_depth > 8).then(|| -> Vec<u8> {
                let samples = plane.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
                samples.map(|s| ((s + 2) >> 2).min(255) as u8).collect()
            })
        });
        let chroma = match picture.chroma_format {
            ChromaFormat::Yuv420 => self.chroma,
            ChromaFormat::Yuv422 => Chroma::HalfWidth,
        };
        let planes = Planes {
            width: picture.width as usize,
            height: picture.height as usize,
            chroma,
            color: self.color,
            y: wide[0].as_ref().unwrap_or(&picture.y),
            u: wide[1].as_ref().unwrap_or(&picture.u),
            v: wide[2].as_ref().unwrap_or(&picture.v),
            y_stride: picture.width as usize,
            uv_stride: picture.chroma_width() as usize,
        };
        Ok(Frame::new(picture.width, picture.height, time, planes.to_rgb())?)
    }
}

/// Converts units of a track to media time.
pub(crate) fn media_time(units: i64, units_per_second: u32) -> MediaTime {
    let micros = i128::from(units.max(0)) * 1_000_000 / i128::from(units_per_second.max(1));
    MediaTime::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

/// Runs the decoder on untrusted bytes; a panic inside it counts as a corrupt clip.
fn guarded<T>(decode: impl FnOnce() -> Result<T, rust_h264::error::DecodeError>) -> Result<T, ()> {
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_)) | Err(_) => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::test_clips::{Folder, all_frames, picture, read};
    use crate::{ClipWriter, OpenError, ReadError, Source, SourceSpec};

    /// Returns the bytes of a recording of 20 frames.
    fn recording(folder: &Folder) -> Vec<u8> {
        let mut writer = ClipWriter::create(&folder.join("whole.mp4"), 25).unwrap();
        for i in 0..20 {
            writer.push(&picture(i, 64, 64)).unwrap();
        }
        fs::read(&writer.finish().unwrap()[0]).unwrap()
    }

    /// Moves the index to the front, where files made for streaming have it.
    fn index_first(bytes: &[u8]) -> Vec<u8> {
        let at = bytes.windows(4).rposition(|w| w == b"moov").unwrap() - 4;
        let media = bytes.windows(4).position(|w| w == b"mdat").unwrap() - 4;
        let mut moov = bytes[at..].to_vec();
        let stco = moov.windows(4).position(|w| w == b"stco").unwrap() + 12;
        let shifted = u32::from_be_bytes(moov[stco..stco + 4].try_into().unwrap()) as usize;
        let shifted = (shifted + moov.len()) as u32;
        moov[stco..stco + 4].copy_from_slice(&shifted.to_be_bytes());
        [&bytes[..media], &moov, &bytes[media..at]].concat()
    }

    #[test]
    fn a_truncated_clip_yields_its_complete_frames_then_an_error() {
        let folder = Folder::new("cut");
        let whole = recording(&folder);
        let path = folder.join("cut.mp4");
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let error = Source::open(&SourceSpec::Clip(path.clone())).err();
        assert!(matches!(error, Some(OpenError::Truncated { .. })), "{error:?}");

        let first = index_first(&whole);
        fs::write(&path, &first).unwrap();
        assert_eq!(all_frames(&mut read(&path)).unwrap().len(), 20);
        fs::write(&path, &first[..first.len() - 10]).unwrap();
        let result = all_frames(&mut read(&path));
        assert!(
            matches!(result, Err((19, ReadError::Truncated { at: 20, of: 20 }))),
            "{:?}",
            result.map(|f| f.len())
        );
    }

    /// Found by fuzzing: the end of the box, plus the size of a header, overflowed.
    #[test]
    fn a_clip_with_a_box_of_the_largest_size_is_truncated() {
        let folder = Folder::new("largest");
        let path = folder.join("largest.mp4");
        let file_type = b"\0\0\0\x10ftypisom\0\0\0\0";
        fs::write(&path, [&file_type[..], b"\0\0\0\x01mdat", &[0xff; 8]].concat()).unwrap();
        let error = Source::open(&SourceSpec::Clip(path)).err();
        assert!(matches!(error, Some(OpenError::Truncated { .. })), "{error:?}");
    }

    #[test]
    fn a_file_that_is_not_a_clip_is_rejected_with_one_line() {
        let folder = Folder::new("refused");
        for (name, bytes) in [
            ("empty.mp4", &b""[..]),
            ("text.mp4", b"this is no clip at all"),
            ("box.mp4", b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x08moov"),
            ("header.y4m", b"YUV4MPEG2 W64 H64 F25:1\n"),
            ("header2.y4m", b"YUV4MPEG2 rubbish\n"),
        ] {
            fs::write(folder.join(name), bytes).unwrap();
            let error = Source::open(&SourceSpec::Clip(folder.join(name))).err().expect(name);
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
        for (path, want) in
            [(folder.join("none.mp4"), "no file"), (folder.join("."), "no pictures")]
        {
            for file in folder.names() {
                let _ = fs::remove_file(folder.join(&file));
            }
            let error = Source::open(&SourceSpec::Clip(path)).err().unwrap();
            assert!(error.to_string().contains(want), "{error}");
        }
    }

    #[test]
    fn damaged_clips_neither_panic_nor_yield_extra_frames() {
        let folder = Folder::new("damage");
        let whole = index_first(&recording(&folder));
        let path = folder.join("damaged.mp4");
        // A linear congruential generator, seed 1.
        let mut seed = 1_u32;
        let mut random = move || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as usize
        };
        for case in 0..150 {
            let mut bytes = whole.clone();
            // First the index, then the pictures.
            let range = if case < 100 { 24..1000 } else { 1000..bytes.len() };
            for _ in 0..=case % 4 {
                let at = range.start + random() % range.len();
                bytes[at] = random() as u8;
            }
            fs::write(&path, &bytes).unwrap();
            if let Ok(mut source) = Source::open(&SourceSpec::Clip(path.clone())) {
                let n = all_frames(&mut source).map_or_else(|(n, _)| n, |f| f.len());
                assert!(n <= 20, "case {case}: {n} frames");
            }
        }
    }
}
