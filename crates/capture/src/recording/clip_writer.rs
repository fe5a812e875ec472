use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use types::{Frame, MediaTime, Sound};

use crate::errors::WriteError;
use crate::files::Unfinished;
use crate::files::is_own_clip;
use crate::recording::segment::{Format, Part, RecordingSegment, samples_of_frames, segment_name};

/// How far sound may be ahead of the frames.
const MAX_EARLY: Duration = Duration::from_mins(1);
/// Most pieces of sound that wait for their frames: a minute of 10 ms each.
const MAX_WAITING: usize = 6000;

/// Records frames at a constant rate to a video file or a folder of pictures.
///
/// The file name selects the format: `.mp4` or `.m4v` (H.264, 4:2:0, visually lossless), `.y4m`
/// (4:4:4, uncompressed), anything else a folder of PNG pictures `000000.png`, `000001.png`, ...
/// (exact). When the frame size changes, recording continues in a new segment, `name.2.mp4`, or the
/// next number at which nothing of somebody else would be replaced. A segment grows as
/// `name.part.mp4`, readable only by its owner. It appears under its name once it is complete, and
/// replaces what was there at the start, behind symbolic links. If something else has come there
/// meanwhile, it keeps its temporary name. A folder is replaced only if it is empty.
///
/// [`ClipWriter::record`] is for what happens only once: each second reaches the disk before the
/// next, an MP4 file can be played at any time, and a segment that is never completed keeps its
/// temporary name. The pictures of a folder reach the disk at the end: a crash of the program loses
/// none of them, a power cut those that the system has not written yet, usually half a minute. With
/// [`ClipWriter::create`] such a segment leaves nothing behind.
///
/// [`ClipWriter::with_sound`] adds sound, at the times that it has: Opus in an MP4 file, `sound.wav` in a
/// folder of pictures; a Y4M file has none. It survives what the pictures survive.
///
/// In an MP4 file, odd sides are padded by one pixel and sides below 16 pixels to 16; frames may
/// have at most 3840x2160 pixels in either orientation.
///
/// ```no_run
/// # use capture::{ClipWriter, WriteError}; use types::Frame;
/// # fn record(frames: &[Frame]) -> Result<(), WriteError> {
/// let mut writer = ClipWriter::create("call.mp4".as_ref(), 25)?;
/// for frame in frames {
///     writer.push(frame)?;
/// }
/// let files = writer.finish()?;
/// # Ok(()) }
/// ```
pub struct ClipWriter {
    path: PathBuf,
    fps: u32,
    format: Format,
    unfinished: Unfinished,
    /// The first segment before its first frame.
    reserved: Option<Part>,
    segment: Option<RecordingSegment>,
    with_sound: bool,
    /// Sound that comes before its frames, in order of time.
    waiting: VecDeque<Sound>,
    /// Number of frames, of all segments and of those before the current one.
    n_frames: u64,
    n_before: u64,
    /// Number of the newest segment, from 1.
    number: u32,
    finished: Vec<PathBuf>,
}

impl ClipWriter {
    /// Prepares a recording of a call at `path` with `fps` frames per second (clamped to 1..=1000).
    /// It survives a crash, a power cut and a full disk, except for the last second. Nothing else of
    /// this program records to `path` meanwhile.
    ///
    /// # Errors
    /// As for [`ClipWriter::create`].
    pub fn record(path: &Path, fps: u32) -> Result<Self, WriteError> {
        Self::new(path, fps, Unfinished::Kept)
    }

    /// Prepares a clip that can be made again at `path` with `fps` frames per second (clamped to
    /// 1..=1000).
    ///
    /// An existing file stays until the segment with its name is complete: at the first change of
    /// the frame size, or when the recording is finished.
    ///
    /// # Errors
    /// [`WriteError::Io`] if the location is not writable or in use, [`WriteError::NotEmpty`] if `path`
    /// is a folder with files in it, [`WriteError::NotReplaceable`] if it is an empty folder that cannot
    /// be replaced, such as the current one.
    pub fn create(path: &Path, fps: u32) -> Result<Self, WriteError> {
        Self::new(path, fps, Unfinished::Removed)
    }

    fn new(path: &Path, fps: u32, unfinished: Unfinished) -> Result<Self, WriteError> {
        let format = Format::of(path);
        // Report a bad location now rather than after the call.
        format.check(path)?;
        Ok(Self {
            reserved: Some(Part::create(path, format, unfinished)?),
            path: path.to_owned(),
            fps: fps.clamp(1, 1000),
            format,
            unfinished,
            segment: None,
            with_sound: false,
            waiting: VecDeque::new(),
            n_frames: 0,
            n_before: 0,
            number: 1,
            finished: Vec::new(),
        })
    }

    /// Records sound, too. To be called before the first frame.
    #[must_use]
    pub fn with_sound(mut self) -> Self {
        self.with_sound = self.format.has_sound();
        self
    }

    /// Returns whether sound is recorded: not into a Y4M file, and not without [`ClipWriter::with_sound`].
    pub fn has_sound(&self) -> bool {
        self.with_sound
    }

    /// Adds sound. Its time counts from the start of the first frame; frame number `n`, from 0, is shown at
    /// `n / fps` seconds.
    ///
    /// Sound may come a minute before its frame and two seconds after it. Gaps become silence, what overlaps is
    /// left out, and the sound ends with the last frame. Without [`ClipWriter::with_sound`] nothing happens.
    pub fn record_sound(&mut self, sound: Sound) {
        let newest = MediaTime::of_frame(self.n_frames, self.fps);
        if !self.with_sound || sound.time > newest + MAX_EARLY {
            return;
        }
        let at = self.waiting.partition_point(|other| other.time <= sound.time);
        self.waiting.insert(at, sound);
        if self.waiting.len() > MAX_WAITING {
            self.waiting.pop_front();
        }
    }

    /// Gives the segment the sound that begins before the end of its frames.
    fn hand_over_sound(&mut self) {
        let Some(segment) = &mut self.segment else { return };
        let start = samples_of_frames(self.n_before, self.fps);
        let end = MediaTime::of_frame(self.n_frames, self.fps);
        while let Some(sound) = self.waiting.pop_front_if(|sound| sound.time < end) {
            let micros = u128::from(sound.time.as_micros());
            let at = (micros * u128::from(Sound::RATE) / 1_000_000) as i64;
            segment.add_sound(at - start, sound.samples);
        }
    }

    /// Appends a frame, to be shown `1 / fps` seconds after the previous one; its media time is
    /// ignored.
    ///
    /// # Errors
    /// If the frame cannot be encoded or written. The current segment is then discarded, or ended
    /// and kept if this is a recording ([`WriteError::CutShort`], or [`WriteError::NothingRecorded`] if
    /// there is nothing to keep).
    pub fn push(&mut self, frame: &Frame) -> Result<(), WriteError> {
        self.hand_over_sound();
        let size = (frame.width(), frame.height());
        if self.segment.as_ref().is_some_and(|s| s.size != size) {
            self.end_segment()?;
        }
        let mut segment = if let Some(segment) = self.segment.take() {
            segment
        } else {
            self.next_segment(size)?
        };
        match segment.push(frame) {
            Ok(()) => {
                self.segment = Some(segment);
                self.n_frames += 1;
                Ok(())
            }
            Err(WriteError::Io { source, .. }) if self.unfinished == Unfinished::Kept => {
                Err(segment.give_up(source))
            }
            Err(error) => Err(error),
        }
    }

    /// Ends the recording and returns the files or folders written, in order; none if no frame was
    /// pushed.
    ///
    /// # Errors
    /// If the last segment cannot be written, or only in part, or keeps its temporary name
    /// ([`WriteError::Kept`]). Earlier segments are kept.
    pub fn finish(mut self) -> Result<Vec<PathBuf>, WriteError> {
        self.hand_over_sound();
        self.end_segment()?;
        Ok(self.finished)
    }

    /// Starts the first segment, or the next one for frames of another size.
    fn next_segment(&mut self, size: (u32, u32)) -> Result<RecordingSegment, WriteError> {
        if let Some(part) = self.reserved.take() {
            return self.create_segment(self.path.clone(), part, size);
        }
        let path = loop {
            self.number += 1;
            let path = segment_name(&self.path, self.format, self.number);
            if path.symlink_metadata().is_err() || is_own_clip(&path) {
                break path;
            }
        };
        let part = Part::create(&path, self.format, self.unfinished)?;
        self.create_segment(path, part, size)
    }

    fn create_segment(
        &mut self,
        path: PathBuf,
        part: Part,
        size: (u32, u32),
    ) -> Result<RecordingSegment, WriteError> {
        self.n_before = self.n_frames;
        RecordingSegment::create(path, part, self.format, size, self.fps, self.with_sound)
    }

    fn end_segment(&mut self) -> Result<(), WriteError> {
        if let Some(segment) = self.segment.take() {
            self.finished.push(segment.finish()?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::test_clips::{Folder, all_frames, picture, read, rms_difference};

    #[test]
    fn every_format_preserves_pictures_order_and_time() {
        let folder = Folder::new("round-trip");
        // Losses: 4:2:0 and the finest quantizer; rounding to limited range; none.
        for (name, tolerance) in [("clip.mp4", 1.27), ("clip.y4m", 0.8), ("clip", 0.0)] {
            let path = folder.join(name);
            let mut writer = ClipWriter::create(&path, 25).unwrap();
            let pictures: Vec<Frame> = (0..20).map(|i| picture(i, 96, 96)).collect();
            for picture in &pictures {
                writer.push(picture).unwrap();
            }
            assert_eq!(writer.finish().unwrap(), std::slice::from_ref(&path), "{name}");
            let mut source = read(&path);
            assert_eq!((source.fps(), source.n_frames()), (25, Some(20)), "{name}");
            let frames = all_frames(&mut source).unwrap();
            assert_eq!(frames.len(), 20, "{name}");
            for (frame, picture) in frames.iter().zip(&pictures) {
                assert_eq!(frame.time(), picture.time(), "{name}");
                let levels = rms_difference(frame, picture);
                assert!(levels <= tolerance, "{name} at {:?}: {levels:.2}", frame.time());
            }
        }
        assert_eq!(folder.names(), ["clip", "clip.mp4", "clip.y4m"]);
    }

    #[test]
    fn a_change_of_size_starts_the_next_segment() {
        let folder = Folder::new("segments");
        for (name, names) in [
            ("call.mp4", ["call.mp4", "call.2.mp4", "call.3.mp4"]),
            ("call.y4m", ["call.y4m", "call.2.y4m", "call.3.y4m"]),
            ("call", ["call", "call.2", "call.3"]),
        ] {
            let mut writer = ClipWriter::create(&folder.join(name), 25).unwrap();
            for (i, side) in [64, 64, 128, 64].into_iter().enumerate() {
                writer.push(&picture(i as u64, side, side)).unwrap();
            }
            let files = writer.finish().unwrap();
            assert_eq!(files, names.map(|n| folder.join(n)), "{name}");
            for (file, want) in files.iter().zip([(64, 2), (128, 1), (64, 1)]) {
                let frames = all_frames(&mut read(file)).unwrap();
                assert_eq!((frames[0].width(), frames.len()), want, "{}", file.display());
            }
        }
    }

    #[test]
    fn odd_and_tiny_sizes_are_padded_in_mp4_and_kept_elsewhere() {
        let folder = Folder::new("odd");
        for (name, want) in [("a.mp4", 34), ("a.y4m", 33), ("a", 33)] {
            let mut writer = ClipWriter::create(&folder.join(name), 25).unwrap();
            writer.push(&picture(0, 33, 33)).unwrap();
            let file = writer.finish().unwrap().remove(0);
            assert_eq!(all_frames(&mut read(&file)).unwrap()[0].width(), want, "{name}");
        }
        let mut writer = ClipWriter::create(&folder.join("tiny.mp4"), 25).unwrap();
        writer.push(&picture(0, 5, 7)).unwrap();
        let file = writer.finish().unwrap().remove(0);
        assert_eq!(all_frames(&mut read(&file)).unwrap()[0].width(), 16);
    }

    #[test]
    fn a_wide_recording_is_read_back_as_its_center_square() {
        let folder = Folder::new("square");
        let mut writer = ClipWriter::create(&folder.join("wide.mp4"), 25).unwrap();
        writer.push(&picture(0, 128, 64)).unwrap();
        let file = writer.finish().unwrap().remove(0);
        let frame = &all_frames(&mut read(&file)).unwrap()[0];
        assert_eq!((frame.width(), frame.height()), (64, 64));
    }

    #[test]
    fn an_unfinished_recording_keeps_what_there_is() {
        let folder = Folder::new("kept");
        for name in ["a.y4m", "a"] {
            let mut writer = ClipWriter::record(&folder.join(name), 25).unwrap();
            for i in 0..3 {
                writer.push(&picture(i, 32, 32)).unwrap();
            }
            drop(writer);
        }
        assert_eq!(folder.names(), ["a.part", "a.part.y4m"]);
        for name in folder.names() {
            assert_eq!(all_frames(&mut read(&folder.join(&name))).unwrap().len(), 3, "{name}");
        }
    }

    #[test]
    fn an_unfinished_clip_leaves_nothing_behind() {
        let folder = Folder::new("unfinished");
        for name in ["a.mp4", "a.y4m", "a"] {
            let mut writer = ClipWriter::create(&folder.join(name), 25).unwrap();
            writer.push(&picture(0, 32, 32)).unwrap();
            drop(writer);
            assert_eq!(folder.names(), [""; 0], "{name}");
        }
        for name in ["a.mp4", "a"] {
            let writer = ClipWriter::record(&folder.join(name), 25).unwrap();
            assert!(writer.finish().unwrap().is_empty());
            assert_eq!(folder.names(), [""; 0], "{name}");
        }
        let lost = ClipWriter::create(&folder.join("no/such/folder/a.mp4"), 25);
        assert!(matches!(lost, Err(WriteError::Io { .. })));
        fs::write(folder.join("note"), "mine").unwrap();
        assert!(matches!(ClipWriter::create(&folder.0, 25), Err(WriteError::NotEmpty { .. })));
        for path in [".", "/", ".."] {
            let refused = ClipWriter::create(path.as_ref(), 25).err().unwrap();
            assert!(refused.to_string().contains("name a new one"), "{refused}");
        }
    }

    #[test]
    fn a_segment_replaces_nothing_of_somebody_else() {
        let folder = Folder::new("foreign-segments");
        fs::write(folder.join("call.2.mp4"), "somebody's film").unwrap();
        fs::create_dir(folder.join("call.2")).unwrap();
        fs::write(folder.join("call.2/photo.png"), "somebody's photo").unwrap();
        for (name, names) in
            [("call.mp4", ["call.mp4", "call.3.mp4"]), ("call", ["call", "call.3"])]
        {
            let mut writer = ClipWriter::record(&folder.join(name), 25).unwrap();
            for (i, side) in [64, 128].into_iter().enumerate() {
                writer.push(&picture(i as u64, side, side)).unwrap();
            }
            assert_eq!(writer.finish().unwrap(), names.map(|name| folder.join(name)));
        }
        assert_eq!(fs::read(folder.join("call.2.mp4")).unwrap(), b"somebody's film");
        // Segments of an earlier recording are replaced.
        let mut writer = ClipWriter::record(&folder.join("call.mp4"), 25).unwrap();
        for (i, side) in [64, 32].into_iter().enumerate() {
            writer.push(&picture(i as u64, side, side)).unwrap();
        }
        assert_eq!(writer.finish().unwrap()[1], folder.join("call.3.mp4"));
    }
}
