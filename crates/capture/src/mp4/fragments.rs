//! Movie fragments (ISO/IEC 14496-12, section 8.8): the index of a file that grows while it is
//! recorded comes piece by piece, in a `moof` box before each piece.

use crate::mp4::boxes::{Boxes, ByteReader, child};
use crate::mp4::track::{Coding, MAX_SAMPLES, Mp4Sample, Mp4Track};

/// Least bytes of a file for each sample of its fragments. Bounds the memory that a file can claim.
const MIN_SAMPLE_BYTES: u64 = 4;
/// Flag of a sample that decoding cannot begin with.
const NOT_A_KEY: u32 = 0x1_0000;

/// Tracks of a fragmented file.
pub(crate) struct FragmentedMovie {
    pub(crate) tracks: Vec<Mp4Track>,
    pub(crate) defaults: Vec<TrackDefaults>,
}

/// What holds for the samples of a track where its fragments say nothing else (`trex`).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TrackDefaults {
    track: u32,
    description: u32,
    /// In units of the track.
    duration: u32,
    /// In bytes.
    size: u32,
    flags: u32,
}

/// Reads the defaults of all tracks from the `mvex` box.
pub(crate) fn parse_defaults(mvex: &[u8]) -> Vec<TrackDefaults> {
    let parse = |trex: &[u8]| {
        let [_, track, description, duration, size, flags] = ByteReader(trex).words()?;
        Some(TrackDefaults { track, description, duration, size, flags })
    };
    let trex = Boxes(mvex).filter(|(kind, _)| kind == b"trex");
    trex.filter_map(|(_, body)| parse(body)).collect()
}

impl FragmentedMovie {
    /// Adds the samples of a `moof` box, which begins at `moof_at` of the file, to their tracks; those
    /// of other tracks are passed over. A sample that the file ends before, as after a crash, is left
    /// out with all that follow it. Returns `None` if there is such a sample, or the box contradicts
    /// itself; samples before that are added.
    pub(crate) fn parse_fragment(
        &mut self,
        moof: &[u8],
        moof_at: u64,
        file_length: u64,
    ) -> Option<()> {
        let n_samples = self.tracks.iter().map(|track| track.samples.len() as u64).sum();
        let mut n_left =
            (file_length / MIN_SAMPLE_BYTES).min(2 * MAX_SAMPLES as u64).checked_sub(n_samples)?;
        // Without a base of its own, a track continues where the one before it ends.
        let mut data_end = moof_at;
        for (_, traf) in Boxes(moof).filter(|(kind, _)| kind == b"traf") {
            let header = FragmentHeader::parse(child(traf, *b"tfhd")?, &self.defaults)?;
            let base = match header.base {
                Base::At(offset) => offset,
                Base::Fragment => moof_at,
                Base::Previous => data_end,
            };
            let mut track = self
                .tracks
                .iter_mut()
                .find(|track| track.id == header.samples.track && track.has_samples());
            if let Some(track) = &mut track {
                if let Some(tfdt) = child(traf, *b"tfdt") {
                    track.end = parse_decode_time(tfdt)?;
                }
                if header.samples.description > 1 {
                    track.coding = Coding::Several;
                }
            }
            data_end = base;
            for (_, trun) in Boxes(traf).filter(|(kind, _)| kind == b"trun") {
                let run = Run { defaults: header.samples, base, file_length };
                data_end = match &mut track {
                    Some(track) => run.parse(trun, data_end, track, &mut n_left)?,
                    None => run.pass_over(trun, data_end)?,
                };
            }
        }
        Some(())
    }
}

/// Decoding time of a fragment's first sample (`tfdt`).
fn parse_decode_time(tfdt: &[u8]) -> Option<i64> {
    let is_wide = *tfdt.first()? == 1;
    let mut reader = ByteReader(tfdt.get(4..)?);
    let time = if is_wide { reader.u64()? } else { u64::from(reader.u32()?) };
    i64::try_from(time).ok()
}

/// Where the offsets of a track's samples count from.
enum Base {
    At(u64),
    Fragment,
    Previous,
}

/// A `tfhd` box.
struct FragmentHeader {
    base: Base,
    samples: TrackDefaults,
}

impl FragmentHeader {
    fn parse(tfhd: &[u8], defaults: &[TrackDefaults]) -> Option<Self> {
        let mut reader = ByteReader(tfhd);
        let flags = reader.u32()? & 0xFF_FFFF;
        let track = reader.u32()?;
        let base = if flags & 1 != 0 {
            Base::At(reader.u64()?)
        } else if flags & 0x2_0000 != 0 {
            Base::Fragment
        } else {
            Base::Previous
        };
        let defaults = defaults.iter().find(|defaults| defaults.track == track).copied();
        let defaults = defaults.unwrap_or(TrackDefaults { track, ..TrackDefaults::default() });
        let mut field =
            |flag, default| if flags & flag != 0 { reader.u32() } else { Some(default) };
        let samples = TrackDefaults {
            track,
            description: field(2, defaults.description)?,
            duration: field(8, defaults.duration)?,
            size: field(0x10, defaults.size)?,
            flags: field(0x20, defaults.flags)?,
        };
        Some(Self { base, samples })
    }
}

/// What a run of samples needs to know.
struct Run {
    defaults: TrackDefaults,
    base: u64,
    file_length: u64,
}

impl Run {
    /// Adds the samples of a `trun` box, which begin at `offset` unless the box says otherwise.
    /// Returns the offset after them.
    fn parse(
        &self,
        trun: &[u8],
        offset: u64,
        track: &mut Mp4Track,
        n_left: &mut u64,
    ) -> Option<u64> {
        let mut reader = ByteReader(trun);
        let RunStart { flags, n_samples, mut offset, mut first_flags } =
            self.parse_start(&mut reader, offset)?;
        for _ in 0..n_samples {
            let mut field =
                |flag, default| if flags & flag != 0 { reader.u32() } else { Some(default) };
            let duration = field(0x100, self.defaults.duration)?;
            let size = field(0x200, self.defaults.size)?;
            let default_flags = first_flags.take().unwrap_or(self.defaults.flags);
            let sample_flags = field(0x400, default_flags)?;
            // Version 0 is unsigned by the standard, but many writers store negative numbers in it.
            let shift = field(0x800, 0)? as i32;
            *n_left = n_left.checked_sub(1)?;
            let shown_at = track.end.checked_add(i64::from(shift))?;
            let end = offset.checked_add(u64::from(size))?;
            if end > self.file_length {
                return None;
            }
            let is_key = sample_flags & NOT_A_KEY == 0;
            track.samples.push(Mp4Sample { offset, size, is_key, shown_at });
            track.end = track.end.checked_add(i64::from(duration))?;
            offset = end;
        }
        Some(offset)
    }

    /// Returns the offset after the samples of a `trun` box, which begin at `offset` unless the box
    /// says otherwise.
    fn pass_over(&self, trun: &[u8], offset: u64) -> Option<u64> {
        let mut reader = ByteReader(trun);
        let RunStart { flags, n_samples, mut offset, .. } =
            self.parse_start(&mut reader, offset)?;
        if flags & 0x200 == 0 {
            return offset.checked_add(u64::from(n_samples) * u64::from(self.defaults.size));
        }
        let n_bytes_after = 4 * (flags & 0xC00).count_ones() as usize;
        for _ in 0..n_samples {
            if flags & 0x100 != 0 {
                reader.skip(4)?;
            }
            offset = offset.checked_add(u64::from(reader.u32()?))?;
            reader.skip(n_bytes_after)?;
        }
        Some(offset)
    }

    /// Parses what a `trun` box says about all its samples.
    fn parse_start(&self, reader: &mut ByteReader<'_>, mut offset: u64) -> Option<RunStart> {
        let flags = reader.u32()? & 0xFF_FFFF;
        let n_samples = reader.u32()?;
        if flags & 1 != 0 {
            offset = self.base.checked_add_signed(i64::from(reader.u32()? as i32))?;
        }
        let first_flags = if flags & 4 != 0 { Some(reader.u32()?) } else { None };
        Some(RunStart { flags, n_samples, offset, first_flags })
    }
}

/// What a `trun` box says about all its samples.
struct RunStart {
    flags: u32,
    n_samples: u32,
    /// Where the first sample begins.
    offset: u64,
    /// Flags of the first sample, if they differ from those of the others.
    first_flags: Option<u32>,
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::FragmentedMovie;
    use crate::mp4::edit_list::Edit;
    use crate::mp4::track::{Coding, Mp4Track, Presentation, TrackEnding};
    use crate::test_clips::{Folder, all_frames, picture, read};
    use crate::{ClipWriter, Source, SourceSpec};

    /// A box of an MP4 file.
    fn mp4_box(kind: &[u8], body: &[u8]) -> Vec<u8> {
        let size = (body.len() + 8) as u32;
        [&size.to_be_bytes(), kind, body].concat()
    }

    /// A `traf` box with one run of samples of 2 bytes, which says each size if `has_sizes`.
    fn traf(track: u32, n_samples: u32, has_sizes: bool) -> Vec<u8> {
        let words = |words: &[u32]| words.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<_>>();
        let mut run = vec![if has_sizes { 0x200 } else { 0 }, n_samples];
        run.extend((0..if has_sizes { n_samples } else { 0 }).map(|_| 2));
        let header = mp4_box(b"tfhd", &words(&[0x10, track, 2]));
        mp4_box(b"traf", &[header, mp4_box(b"trun", &words(&run))].concat())
    }

    #[test]
    fn tracks_that_are_not_played_cost_the_film_no_samples() {
        let track = |id, is_video| Mp4Track {
            id,
            is_video,
            units_per_second: 1000,
            edits: vec![Edit::WHOLE],
            has_edit_list: false,
            is_fragmented: true,
            coding: Coding::Other { name: *b"none" },
            presentation: Presentation::default(),
            samples: Vec::new(),
            end: 0,
            ending: TrackEnding::default(),
        };
        for has_sizes in [false, true] {
            let tracks = vec![track(1, true), track(2, false)];
            let mut movie = FragmentedMovie { tracks, defaults: Vec::new() };
            // Uncompressed sound has more samples than a file of this length may name; a third track
            // is not read.
            let moof =
                [traf(2, 1000, has_sizes), traf(3, 5, has_sizes), traf(1, 10, false)].concat();
            movie.parse_fragment(&moof, 100, 3000).unwrap();
            let [film, sound] = &movie.tracks[..] else { panic!("two tracks") };
            assert_eq!((film.samples.len(), sound.samples.len()), (10, 0));
            // The film continues where the sound ends.
            assert_eq!(film.samples[0].offset, 100 + 2 * 1005);
        }
    }

    /// Writes 60 frames, crashes, and returns the bytes of the unfinished file.
    fn crashed(folder: &Folder) -> Vec<u8> {
        let mut writer = ClipWriter::record(&folder.join("call.mp4"), 25).unwrap();
        for i in 0..60 {
            writer.push(&picture(i % 20, 64, 64)).unwrap();
        }
        drop(writer);
        assert_eq!(folder.names(), ["call.part.mp4"]);
        fs::read(folder.join("call.part.mp4")).unwrap()
    }

    #[test]
    fn a_crash_costs_a_recording_its_last_second() {
        let folder = Folder::new("crash");
        crashed(&folder);
        let mut source = read(&folder.join("call.part.mp4"));
        assert_eq!((source.fps(), source.n_frames()), (25, Some(50)));
        let frames = all_frames(&mut source).unwrap();
        for (i, frame) in frames.iter().enumerate() {
            assert_eq!(frame.time(), picture(i as u64, 64, 64).time());
        }
        assert_eq!(frames.len(), 50);
    }

    #[test]
    fn a_recording_cut_anywhere_yields_the_frames_before() {
        let folder = Folder::new("power-cut");
        let whole = crashed(&folder);
        let path = folder.join("cut.mp4");
        let start = whole.windows(4).position(|w| w == b"moof").unwrap() - 4;
        // Where a fragment ends: before the next one, and at the end of the file.
        let mut ends: Vec<usize> =
            (start..whole.len()).filter(|at| whole[*at..].get(4..8) == Some(b"moof")).collect();
        ends.push(whole.len());
        let mut most = 0;
        let mut lengths: Vec<usize> =
            (0..40).map(|i| start + (whole.len() - start) * i / 39).collect();
        lengths.extend(&ends);
        lengths.sort_unstable();
        for length in lengths {
            fs::write(&path, &whole[..length]).unwrap();
            let is_between = ends.contains(&length);
            let n = match Source::open(&SourceSpec::Clip(path.clone())) {
                Ok(mut source) => match all_frames(&mut source) {
                    Ok(frames) => {
                        assert!(is_between, "cut after {length} bytes without a word");
                        frames.len()
                    }
                    Err((n, error)) => {
                        let told = error.to_string();
                        assert!(!is_between, "{told}");
                        assert_eq!(
                            told,
                            format!(
                                "only {n} frames of the clip could be read: the file is cut short or damaged behind them"
                            )
                        );
                        n
                    }
                },
                Err(error) => {
                    assert!(error.to_string().contains("no frames"), "{error}");
                    0
                }
            };
            assert!(n >= most, "{n} frames in {length} bytes, {most} in fewer");
            most = n;
        }
        assert_eq!(most, 50);
    }

    #[test]
    fn zeros_that_a_power_cut_leaves_are_no_fragment() {
        let folder = Folder::new("power-cut-zeros");
        let whole = crashed(&folder);
        let path = folder.join("zeros.mp4");
        fs::write(&path, [&whole[..], &[0; 5000]].concat()).unwrap();
        let (n, error) = all_frames(&mut read(&path)).unwrap_err();
        assert!(n == 50 && error.to_string().contains("cut short"), "{n}: {error}");
    }

    #[test]
    fn damaged_fragments_neither_panic_nor_yield_extra_frames() {
        let folder = Folder::new("fragment-damage");
        let whole = crashed(&folder);
        let path = folder.join("damaged.mp4");
        let fragments: Vec<usize> =
            (4..whole.len() - 4).filter(|at| &whole[*at..at + 4] == b"moof").collect();
        // A linear congruential generator, seed 1.
        let mut seed = 1_u32;
        let mut random = move || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as usize
        };
        for case in 0..300 {
            let mut bytes = whole.clone();
            for _ in 0..=case % 4 {
                let at = fragments[random() % fragments.len()] - 4 + random() % 120;
                bytes[at] = random() as u8;
            }
            fs::write(&path, &bytes).unwrap();
            let source = Source::open(&SourceSpec::Clip(path.clone()));
            // ffmpeg, which reads on if the first picture is damaged, does not know the number.
            if let Some(mut source) = source.ok().filter(|source| source.n_frames().is_some()) {
                let n = all_frames(&mut source).map_or_else(|(n, _)| n, |f| f.len());
                assert!(n <= 50, "case {case}: {n} frames");
            }
        }
    }
}
