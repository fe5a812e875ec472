use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use types::Frame;

use crate::atomic::check_writable;
use crate::errors::WriteError;
use crate::mp4_encoder::Mp4Encoder;
use crate::part_file::{PartFile, PartFolder, Unfinished};
use crate::pictures::encode_png;
use crate::y4m;

/// Records frames at a constant rate to a video file or a folder of pictures.
///
/// The file name selects the format: `.mp4` or `.m4v` (H.264, 4:2:0, visually lossless), `.y4m`
/// (4:4:4, uncompressed), anything else a folder of PNG pictures `000000.png`, `000001.png`, ...
/// (exact). When the frame size changes, recording continues in a new segment, `name.2.mp4`. A
/// segment grows as `name.part.mp4`, readable only by its owner. It appears under its name, and
/// replaces an existing file, once it is complete.
///
/// [`ClipWriter::record`] is for what happens only once: each second reaches the disk before the
/// next, an MP4 file can be played at any time, and a segment that is never completed keeps its
/// temporary name. With [`ClipWriter::create`] such a segment leaves nothing behind.
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
    segment: Option<RecordingSegment>,
    n_segments: u32,
    finished: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Format {
    Mp4,
    Y4m,
    Folder,
}

/// A part of the recording whose frames have one size.
struct RecordingSegment {
    /// Width and height, pixels.
    size: (u32, u32),
    path: PathBuf,
    sink: Sink,
}

enum Sink {
    Mp4(Box<Mp4Encoder>),
    Y4m { file: PartFile, fps: u32, n_written: u64 },
    Pictures { folder: PartFolder, n_written: u64 },
}

impl ClipWriter {
    /// Prepares a recording of a call at `path` with `fps` frames per second (clamped to 1..=1000).
    /// It survives a crash, a power cut and a full disk, except for the last second.
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
    /// [`WriteError::Io`] if the location is not writable, [`WriteError::NotEmpty`] if `path` is a
    /// folder with files in it.
    pub fn create(path: &Path, fps: u32) -> Result<Self, WriteError> {
        Self::new(path, fps, Unfinished::Removed)
    }

    fn new(path: &Path, fps: u32, unfinished: Unfinished) -> Result<Self, WriteError> {
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        let format = match extension.to_str() {
            Some("mp4" | "m4v") => Format::Mp4,
            Some("y4m") => Format::Y4m,
            _ => Format::Folder,
        };
        // Report a bad location now rather than after the call.
        if format == Format::Folder {
            let io = WriteError::io(path);
            let has_entries = match fs::read_dir(path) {
                Ok(mut entries) => entries.next().is_some(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => return Err(io(error)),
            };
            if has_entries {
                return Err(WriteError::NotEmpty { path: path.to_owned() });
            }
            PartFolder::create(path, Unfinished::Removed).map_err(io)?;
        } else {
            check_writable(path)?;
        }
        Ok(Self {
            path: path.to_owned(),
            fps: fps.clamp(1, 1000),
            format,
            unfinished,
            segment: None,
            n_segments: 0,
            finished: Vec::new(),
        })
    }

    /// Appends a frame, to be shown `1 / fps` seconds after the previous one; its media time is
    /// ignored.
    ///
    /// # Errors
    /// If the frame cannot be encoded or written. The current segment is then discarded, or ended
    /// and kept if this is a recording ([`WriteError::CutShort`]).
    pub fn push(&mut self, frame: &Frame) -> Result<(), WriteError> {
        let size = (frame.width(), frame.height());
        if self.segment.as_ref().is_some_and(|s| s.size != size) {
            self.end_segment()?;
        }
        let mut segment = if let Some(segment) = self.segment.take() {
            segment
        } else {
            self.n_segments += 1;
            let path = segment_name(&self.path, self.format, self.n_segments);
            RecordingSegment::create(path, self.format, size, self.fps, self.unfinished)?
        };
        match segment.push(frame) {
            Ok(()) => {
                self.segment = Some(segment);
                Ok(())
            }
            Err(WriteError::Io { path, source }) if self.unfinished == Unfinished::Kept => {
                match segment.finish() {
                    Ok(path) | Err(WriteError::CutShort { path, .. }) => {
                        Err(WriteError::CutShort { path, source })
                    }
                    Err(_) => Err(WriteError::Io { path, source }),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Ends the recording and returns the files or folders written, in order; none if no frame was
    /// pushed.
    ///
    /// # Errors
    /// If the last segment cannot be written, or only in part. Earlier segments are kept.
    pub fn finish(mut self) -> Result<Vec<PathBuf>, WriteError> {
        self.end_segment()?;
        Ok(self.finished)
    }

    fn end_segment(&mut self) -> Result<(), WriteError> {
        if let Some(segment) = self.segment.take() {
            self.finished.push(segment.finish()?);
        }
        Ok(())
    }
}

impl RecordingSegment {
    fn create(
        path: PathBuf,
        format: Format,
        size: (u32, u32),
        fps: u32,
        unfinished: Unfinished,
    ) -> Result<Self, WriteError> {
        let io = WriteError::io(&path);
        let sink = match format {
            Format::Mp4 => Sink::Mp4(Box::new(Mp4Encoder::new(&path, size, fps, unfinished)?)),
            Format::Y4m => {
                let mut file = PartFile::create(&path, unfinished).map_err(&io)?;
                let mut header = Vec::new();
                y4m::write_header(&mut header, size.0, size.1, fps)
                    .and_then(|()| file.append(&header))
                    .map_err(&io)?;
                Sink::Y4m { file, fps, n_written: 0 }
            }
            Format::Folder => {
                let folder = PartFolder::create(&path, unfinished).map_err(&io)?;
                Sink::Pictures { folder, n_written: 0 }
            }
        };
        Ok(Self { size, path, sink })
    }

    fn push(&mut self, frame: &Frame) -> Result<(), WriteError> {
        let written = match &mut self.sink {
            Sink::Mp4(encoder) => encoder.push(frame)?,
            Sink::Y4m { file, fps, n_written } => {
                let mut bytes = Vec::new();
                *n_written += 1;
                let is_second = n_written.is_multiple_of(u64::from(*fps));
                y4m::write_frame(&mut bytes, frame)
                    .and_then(|()| file.append(&bytes))
                    .and_then(|()| if is_second { file.sync() } else { Ok(()) })
            }
            Sink::Pictures { folder, n_written } => {
                let png = encode_png(frame)
                    .map_err(|source| WriteError::Picture { path: self.path.clone(), source })?;
                let name = format!("{n_written:06}.png");
                *n_written += 1;
                folder.write(&name, &png)
            }
        };
        written.map_err(WriteError::io(&self.path))
    }

    fn finish(self) -> Result<PathBuf, WriteError> {
        let committed = match self.sink {
            Sink::Mp4(encoder) => encoder.finish(),
            Sink::Y4m { file, .. } => file.commit().map(Ok),
            Sink::Pictures { folder, .. } => folder.commit().map(Ok),
        };
        match committed {
            Ok(Ok(())) => Ok(self.path),
            Ok(Err(source)) => Err(WriteError::CutShort { path: self.path, source }),
            Err(source) => Err(WriteError::Io { path: self.path, source }),
        }
    }
}

/// Returns the name of segment `number`, counted from 1: `call.mp4`, `call.2.mp4`, ...; for folders `call`,
/// `call.2`, ...
fn segment_name(path: &Path, format: Format, number: u32) -> PathBuf {
    if number == 1 {
        return path.to_owned();
    }
    let mut name = match format {
        Format::Folder => path.file_name(),
        _ => path.file_stem(),
    }
    .unwrap_or_default()
    .to_owned();
    name.push(format!(".{number}"));
    if format != Format::Folder
        && let Some(extension) = path.extension()
    {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
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
        assert!(
            ClipWriter::create(&folder.join("a.mp4"), 25).unwrap().finish().unwrap().is_empty()
        );
        let lost = ClipWriter::create(&folder.join("no/such/folder/a.mp4"), 25);
        assert!(matches!(lost, Err(WriteError::Io { .. })));
        fs::write(folder.join("note"), "mine").unwrap();
        assert!(matches!(ClipWriter::create(&folder.0, 25), Err(WriteError::NotEmpty { .. })));
    }
}
