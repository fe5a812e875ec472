//! Frames of MP4 clips with H.264 video.

use std::collections::BTreeMap;
use std::fs::File;

use rust_h264::decoder::{ChromaFormat, Decoder, Frame as Picture};
use rust_h264::nal::{NalUnit, NalUnitType, parse_avcc, parse_avcc_config, parse_sps_info};
use types::{Frame, MAX_FRAME_SIDE, MediaTime};

use crate::contained::contain;
use crate::errors::{ReadError, UnsupportedVideo};
use crate::mp4::h264_vui::VideoUsability;
use crate::mp4::reader::read_sample;
use crate::mp4::timeline::{Step, steps};
use crate::mp4::track::{Coding, Mp4Sample, Mp4Track, TrackEnding};
use crate::picture::Geometry;
use crate::picture::{Chroma, Planes};
use crate::picture::{ColorSpace, ColorTags};

/// Most decoded pictures held for reordering; H.264 allows no more.
const MAX_HELD: u32 = 16;
/// Most macroblocks of 16 x 16 pixels in all decoded pictures held together, and in a picture: those
/// of level 6.2, the highest (Rec. ITU-T H.264, table A-1).
const MAX_HELD_BLOCKS: u32 = 696_320;
const MAX_BLOCKS: u32 = 139_264;

/// Decoder of one video track, which returns pictures in presentation order, turned and stretched as
/// they are to be shown.
///
/// The index gives every presentation time, so a picture is returned as soon as no earlier one is
/// missing. Media time zero is the start of the presentation, which sound shares; the first picture
/// may come later.
pub(crate) struct Mp4Clip {
    file: File,
    samples: Vec<Mp4Sample>,
    steps: Vec<Step>,
    /// Presentation times of the shown pictures in units of the track, increasing.
    order: Vec<i64>,
    units_per_second: u32,
    /// The `avcC` box.
    avcc: Vec<u8>,
    n_length_bytes: usize,
    color: ColorSpace,
    chroma: Chroma,
    geometry: Geometry,
    is_interlaced: bool,
    decoder: Decoder,
    n_fed: usize,
    /// Steps to shown pictures among those that were fed.
    n_fed_shown: u64,
    /// Index of the step that is being decoded.
    building: Option<usize>,
    /// Decoded pictures waiting for earlier ones, by presentation time and step index.
    held: BTreeMap<(i64, usize), Picture>,
    /// Most pictures in `held`; fewer for large pictures.
    max_held: usize,
    n_shown: usize,
    flushed: bool,
    /// Error that ended decoding; reported after all complete pictures.
    broken: Option<ReadError>,
    /// Whether the file is cut short behind the last sample.
    ends_early: bool,
    bytes: Vec<u8>,
}

impl Mp4Clip {
    /// Opens a track and decodes the beginning of its first picture.
    ///
    /// # Errors
    /// Why the decoder does not support the track.
    pub(crate) fn new(file: File, track: Mp4Track) -> Result<Self, UnsupportedVideo> {
        let steps = steps(&track).ok_or(UnsupportedVideo::EditList)?;
        let ends_early = track.ending == TrackEnding::Early;
        let avcc = match track.coding {
            Coding::Avc { avcc } => avcc,
            Coding::Aac { .. } => return Err(UnsupportedVideo::Codec { name: *b"mp4a" }),
            Coding::Opus => return Err(UnsupportedVideo::Codec { name: *b"Opus" }),
            Coding::Other { name } => return Err(UnsupportedVideo::Codec { name }),
            Coding::Several => return Err(UnsupportedVideo::Several),
        };
        let config = parse_avcc_config(&avcc).map_err(|_| UnsupportedVideo::Parameters)?;
        let sequence = config.sps_nals.first().ok_or(UnsupportedVideo::Parameters)?;
        let info = parse_sps_info(sequence).map_err(|_| UnsupportedVideo::Parameters)?;
        let n_blocks = info.width.div_ceil(16).saturating_mul(info.height.div_ceil(16));
        if info.chroma_format > 2 {
            return Err(UnsupportedVideo::FullChroma);
        }
        if !matches!(info.bit_depth_luma, 8 | 10) || info.bit_depth_chroma != info.bit_depth_luma {
            let (luma, chroma) = (info.bit_depth_luma, info.bit_depth_chroma);
            return Err(UnsupportedVideo::Depth { luma, chroma });
        }
        if info.width.max(info.height) > MAX_FRAME_SIDE || n_blocks > MAX_BLOCKS {
            return Err(UnsupportedVideo::Size { width: info.width, height: info.height });
        }
        let usability = VideoUsability::parse(&sequence.rbsp);
        let tags = ColorTags {
            primaries: info.primaries,
            transfer: info.transfer,
            matrix: info.matrix,
            full_range: usability.full_range,
        };
        let mut geometry = track.presentation.geometry;
        geometry.pixel_aspect = geometry.pixel_aspect.or(usability.pixel_aspect);
        let center = matches!(info.chroma_location, 1 | 3 | 5);
        let mut order: Vec<i64> =
            steps.iter().filter(|step| step.is_shown).map(|step| step.shown_at).collect();
        order.sort_unstable();
        let mut clip = Self {
            file,
            samples: track.samples,
            steps,
            order,
            units_per_second: track.units_per_second,
            n_length_bytes: config.length_size,
            color: tags.or(track.presentation.color).space(info.width, info.height),
            chroma: if center { Chroma::HalfCenter } else { Chroma::HalfLeft },
            geometry,
            is_interlaced: !info.progressive,
            decoder: Decoder::new(),
            n_fed: 0,
            n_fed_shown: 0,
            building: None,
            held: BTreeMap::new(),
            max_held: (MAX_HELD_BLOCKS / n_blocks.max(1)).min(MAX_HELD) as usize,
            n_shown: 0,
            flushed: false,
            broken: None,
            ends_early,
            bytes: Vec::new(),
            avcc,
        };
        clip.start_decoder().map_err(|()| UnsupportedVideo::Parameters)?;
        if !clip.steps.is_empty() {
            match clip.feed() {
                Err(ReadError::Corrupt { .. }) => return Err(UnsupportedVideo::FirstPicture),
                fed => clip.broken = fed.err(),
            }
        }
        Ok(clip)
    }

    /// Returns whether pictures may consist of two fields taken at different times, which are not blended
    /// here.
    pub(crate) fn is_interlaced(&self) -> bool {
        self.is_interlaced
    }

    /// Returns the number of frames that the index shows.
    pub(crate) fn n_frames(&self) -> u64 {
        self.order.len() as u64
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
            if self.n_fed < self.steps.len() && self.broken.is_none() {
                self.broken = self.feed().err();
            } else if self.flushed {
                let is_cut = std::mem::take(&mut self.ends_early);
                let cut = is_cut.then_some(ReadError::EndsEarly);
                return self.broken.take().or(cut).map_or(Ok(None), Err);
            } else {
                self.flushed = true;
                self.finish_picture();
            }
        }
    }

    /// Returns the time of the last key picture shown at or before `time`, or of the first one; `None` if
    /// there is none.
    pub(crate) fn entry_before(&self, time: MediaTime) -> Option<MediaTime> {
        let entries = || (0..self.steps.len()).filter(|&at| self.is_entry(at));
        let shown_at = |at: usize| media_time(self.steps[at].shown_at, self.units_per_second);
        entries()
            .map(shown_at)
            .filter(|shown_at| *shown_at <= time)
            .max()
            .or_else(|| entries().map(shown_at).next())
    }

    /// Continues with the key picture at a time that [`Mp4Clip::entry_before`] has returned.
    pub(crate) fn seek(&mut self, entry: MediaTime) {
        let is_there = |at: &usize| {
            let shown_at = media_time(self.steps[*at].shown_at, self.units_per_second);
            self.is_entry(*at) && shown_at == entry
        };
        let Some(at) = (0..self.steps.len()).find(is_there) else { return };
        let shown_at = self.steps[at].shown_at;
        self.held.clear();
        (self.building, self.flushed) = (None, false);
        self.n_fed = at;
        self.n_fed_shown = self.steps[..at].iter().filter(|step| step.is_shown).count() as u64;
        self.n_shown = self.order.partition_point(|shown| *shown < shown_at);
        let at = self.n_fed_shown + 1;
        self.broken = self.start_decoder().err().map(|()| ReadError::Corrupt { at });
    }

    /// Returns whether a step shows a key picture, before which nothing is needed.
    fn is_entry(&self, step_idx: usize) -> bool {
        let Step { sample_idx, is_shown, .. } = self.steps[step_idx];
        is_shown && self.samples[sample_idx as usize].is_key
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
        if let Some(step_idx) = self.building.take() {
            let step = self.steps[step_idx];
            if step.is_shown {
                self.held.insert((step.shown_at, step_idx), picture);
            }
        }
    }

    /// Takes the last picture from the decoder.
    fn finish_picture(&mut self) {
        if let Ok(Some(picture)) = guarded(|| Ok(self.decoder.flush())) {
            self.hold(picture);
        }
    }

    /// Replaces the decoder by one that begins here.
    fn start_decoder(&mut self) -> Result<(), ()> {
        let config = parse_avcc_config(&self.avcc).map_err(|_| ())?;
        self.decoder = Decoder::new();
        for nal in config.sps_nals.iter().chain(&config.pps_nals) {
            guarded(|| self.decoder.decode_nal(nal))?;
        }
        Ok(())
    }

    /// Passes the sample of the next step to the decoder.
    fn feed(&mut self) -> Result<(), ReadError> {
        let step_idx = self.n_fed;
        let step = self.steps[step_idx];
        self.n_fed += 1;
        self.n_fed_shown += u64::from(step.is_shown);
        let at = self.n_fed_shown.max(1);
        let before = step_idx.checked_sub(1).map(|before| self.steps[before].sample_idx);
        if before.is_some_and(|before| before + 1 != step.sample_idx) {
            self.finish_picture();
            self.start_decoder().map_err(|()| ReadError::Corrupt { at })?;
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        let sample = self.samples[step.sample_idx as usize];
        if !read_sample(&mut self.file, sample, &mut bytes)? {
            return Err(ReadError::Truncated { at, of: self.n_frames() });
        }
        if !self.is_interlaced {
            // The picture before is complete. If this one is damaged, the decoder would drop it. Of two
            // fields, the second may still follow.
            self.finish_picture();
        }
        let nals = parse_avcc(&bytes, self.n_length_bytes);
        if nals.is_empty() {
            return Err(ReadError::Corrupt { at });
        }
        for nal in &nals {
            let fed = self.feed_nal(nal, step_idx);
            // After a cut, pictures that are not shown may refer to some that are missing.
            if fed.is_err() && step.is_shown {
                return Err(ReadError::Corrupt { at });
            }
        }
        drop(nals);
        self.bytes = bytes;
        Ok(())
    }

    fn feed_nal(&mut self, nal: &NalUnit<'_>, step_idx: usize) -> Result<(), ()> {
        // The first slice of a picture completes the previous picture.
        if let Some(picture) = guarded(|| self.decoder.decode_nal(nal))? {
            self.hold(picture);
        }
        if matches!(nal.nal_unit_type, NalUnitType::Slice | NalUnitType::SliceIdr) {
            self.building.get_or_insert(step_idx);
        }
        Ok(())
    }

    fn to_frame(&self, shown_at: i64, picture: &Picture) -> Result<Frame, ReadError> {
        let time = media_time(shown_at, self.units_per_second);
        let chroma = match picture.chroma_format {
            ChromaFormat::Yuv420 => self.chroma,
            ChromaFormat::Yuv422 => Chroma::HalfWidth,
        };
        let planes = Planes {
            width: picture.width as usize,
            height: picture.height as usize,
            chroma,
            color: self.color,
            depth: picture.bit_depth.into(),
            y: &picture.y,
            u: &picture.u,
            v: &picture.v,
            y_stride: picture.width as usize * picture.bytes_per_sample(),
            uv_stride: picture.chroma_width() as usize * picture.bytes_per_sample(),
        };
        let frame = Frame::new(picture.width, picture.height, time, planes.to_rgb())?;
        Ok(self.geometry.apply(frame)?)
    }
}

/// Converts units of a track to media time.
pub(crate) fn media_time(units: i64, units_per_second: u32) -> MediaTime {
    let micros = i128::from(units.max(0)) * 1_000_000 / i128::from(units_per_second.max(1));
    MediaTime::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

/// Runs the decoder on untrusted bytes; a panic inside it counts as a corrupt clip.
fn guarded<T>(decode: impl FnOnce() -> Result<T, rust_h264::error::DecodeError>) -> Result<T, ()> {
    contain(decode).ok_or(())?.map_err(|_| ())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use types::MediaTime;

    use crate::mp4::reader::read_tracks;
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
            matches!(&result, Err((19, ReadError::Incomplete { n_frames: 19, source }))
                if matches!(**source, ReadError::Truncated { at: 20, of: 20 })),
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
    fn every_frame_before_a_damaged_one_is_read() {
        let folder = Folder::new("damaged-frame");
        let whole = recording(&folder);
        let path = folder.join("whole.mp4");
        let tracks = read_tracks(&mut File::open(&path).unwrap()).unwrap();
        for n_good in [1, 7, 18] {
            let sample = tracks[0].samples[n_good];
            let at = sample.offset as usize;
            let mut bytes = whole.clone();
            // Behind the length and the header of the first NAL unit.
            bytes[at + 5..at + sample.size as usize].fill(0xA5);
            fs::write(&path, &bytes).unwrap();
            let result = all_frames(&mut read(&path));
            let Err((n_read, ReadError::Incomplete { source, .. })) = &result else {
                panic!("{n_good} good frames: {:?}", result.map(|frames| frames.len()));
            };
            assert_eq!(*n_read, n_good, "{source}");
        }
    }

    #[test]
    fn a_clip_is_read_from_any_key_frame_as_from_the_start() {
        let folder = Folder::new("entries");
        let path = folder.join("long.mp4");
        let mut writer = ClipWriter::create(&path, 25).unwrap();
        for i in 0..130 {
            writer.push(&picture(i % 30, 64, 64).at(MediaTime::of_frame(i, 25))).unwrap();
        }
        writer.finish().unwrap();
        let whole = all_frames(&mut read(&path)).unwrap();
        let mut source = read(&path);
        let mut entries = Vec::new();
        // Backwards, and from a source that has been read to its end.
        for i in [129, 70, 40, 5] {
            let asked = MediaTime::of_frame(i, 25);
            let entry = source.entry_before(asked).unwrap();
            assert!(entry <= asked);
            source.seek(entry);
            let rest = all_frames(&mut source).unwrap();
            let same: Vec<_> = whole.iter().filter(|frame| frame.time() >= entry).collect();
            assert!(rest.iter().eq(same), "from {entry:?}");
            entries.push(entry);
        }
        entries.dedup();
        assert!(entries.len() >= 2 && entries.last() == Some(&MediaTime::ZERO), "{entries:?}");
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
            let source = Source::open(&SourceSpec::Clip(path.clone()));
            // ffmpeg, which reads on if the first picture is damaged, does not know the number.
            if let Some(mut source) = source.ok().filter(|source| source.n_frames().is_some()) {
                let n = all_frames(&mut source).map_or_else(|(n, _)| n, |f| f.len());
                assert!(n <= 20, "case {case}: {n} frames");
            }
        }
    }
}
