use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use types::Frame;

use crate::mp4_encoder::Mp4Encoder;
use crate::y4m;

/// Why a recording failed. Nothing of the segment in the making stays on the disk.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The disk is full, or the folder is missing or not ours.
    #[error("cannot record to {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// The folder already holds something. Name another, or empty it.
    #[error("cannot record to {}: the folder is not empty", path.display())]
    NotEmpty { path: PathBuf },
    /// Record to `.y4m` or to a folder instead.
    #[error(
        "a {width}x{height} picture is too large for an MP4 recording (3840x2160); record to .y4m or a folder"
    )]
    TooLarge { width: u32, height: u32 },
    /// The H.264 encoder refused.
    #[error("the H.264 encoder failed: {source}")]
    Encoder { source: openh264::Error },
    /// PNG encoding failed.
    #[error("cannot record to {}: {source}", path.display())]
    Picture { path: PathBuf, source: image::ImageError },
}

/// Records frames at a constant rate.
///
/// The name decides how: `.mp4` (H.264, 4:2:0, visually lossless), `.y4m` (4:4:4, uncompressed), or
/// a folder of PNG pictures `000000.png` and on (exact). A change of frame size starts the next
/// segment, `name.2.mp4`. Each segment grows under a temporary name and gets its own when finished;
/// dropped unfinished, it is removed.
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
    segment: Option<Segment>,
    n_segments: u32,
    finished: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Format {
    Mp4,
    Y4m,
    Folder,
}

/// What is being written, all of one size.
struct Segment {
    size: (u32, u32),
    path: PathBuf,
    temporary: PathBuf,
    sink: Option<Sink>,
}

enum Sink {
    Mp4(Box<Mp4Encoder>),
    Y4m(BufWriter<File>),
    Folder(u64),
}

impl ClipWriter {
    /// A recording at `path`, replacing a file there when finished.
    ///
    /// # Errors
    /// If nothing can be written there; an existing folder must be empty.
    pub fn create(path: &Path, fps: u32) -> Result<Self, WriteError> {
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        let format = match extension.to_str() {
            Some("mp4" | "m4v") => Format::Mp4,
            Some("y4m") => Format::Y4m,
            _ => Format::Folder,
        };
        let io = |source| WriteError::Io { path: path.to_owned(), source };
        if format == Format::Folder {
            let is_used = match fs::read_dir(path) {
                Ok(mut entries) => entries.next().is_some(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => return Err(io(error)),
            };
            if is_used {
                return Err(WriteError::NotEmpty { path: path.to_owned() });
            }
        }
        // Fail now rather than after the call.
        let probe = temporary_name(path);
        if format == Format::Folder {
            let _ = fs::remove_dir_all(&probe);
            fs::create_dir(&probe).and_then(|()| fs::remove_dir(&probe)).map_err(io)?;
        } else {
            File::create(&probe).and_then(|_| fs::remove_file(&probe)).map_err(io)?;
        }
        Ok(Self {
            path: path.to_owned(),
            fps: fps.clamp(1, 1000),
            format,
            segment: None,
            n_segments: 0,
            finished: Vec::new(),
        })
    }

    /// Appends a frame, shown `1 / fps` seconds after the one before whatever its media time.
    ///
    /// # Errors
    /// If it cannot be encoded or written; the unfinished segment is then gone.
    pub fn push(&mut self, frame: &Frame) -> Result<(), WriteError> {
        let size = (frame.width(), frame.height());
        if self.segment.as_ref().is_some_and(|s| s.size != size) {
            self.end_segment()?;
        }
        if self.segment.is_none() {
            self.n_segments += 1;
            let path = segment_name(&self.path, self.format, self.n_segments);
            self.segment = Some(Segment::create(path, self.format, size, self.fps)?);
        }
        let Some(segment) = &mut self.segment else { return Ok(()) };
        let result = segment.push(frame);
        if result.is_err() {
            self.segment = None;
        }
        result
    }

    /// Ends the recording; the files or folders written, in order. None if no frame came.
    ///
    /// # Errors
    /// If the last segment cannot be written; earlier ones stay.
    pub fn finish(mut self) -> Result<Vec<PathBuf>, WriteError> {
        self.end_segment()?;
        Ok(std::mem::take(&mut self.finished))
    }

    fn end_segment(&mut self) -> Result<(), WriteError> {
        if let Some(segment) = self.segment.take() {
            self.finished.push(segment.finish()?);
        }
        Ok(())
    }
}

impl Segment {
    fn create(
        path: PathBuf,
        format: Format,
        size: (u32, u32),
        fps: u32,
    ) -> Result<Self, WriteError> {
        let (width, height) = size;
        let temporary = temporary_name(&path);
        let mut segment = Self { size, path, temporary, sink: None };
        let sink = match format {
            Format::Mp4 => {
                let file = segment.io(File::create(&segment.temporary))?;
                let encoder = segment.io(Mp4Encoder::new(file, size, fps)?)?;
                Sink::Mp4(Box::new(encoder))
            }
            Format::Y4m => {
                let file = File::create(&segment.temporary).and_then(|file| {
                    let mut out = BufWriter::with_capacity(1 << 20, file);
                    y4m::write_header(&mut out, width, height, fps)?;
                    Ok(out)
                });
                Sink::Y4m(segment.io(file)?)
            }
            Format::Folder => {
                segment.io(fs::create_dir(&segment.temporary))?;
                Sink::Folder(0)
            }
        };
        segment.sink = Some(sink);
        Ok(segment)
    }

    fn push(&mut self, frame: &Frame) -> Result<(), WriteError> {
        let result = match &mut self.sink {
            Some(Sink::Mp4(encoder)) => encoder.push(frame)?,
            Some(Sink::Y4m(out)) => y4m::write_frame(out, frame),
            Some(Sink::Folder(n_written)) => {
                let path = self.temporary.join(format!("{n_written:06}.png"));
                *n_written += 1;
                image::save_buffer(
                    &path,
                    frame.rgb(),
                    frame.width(),
                    frame.height(),
                    image::ExtendedColorType::Rgb8,
                )
                .map_err(|source| WriteError::Picture { path, source })?;
                Ok(())
            }
            None => Ok(()),
        };
        self.io(result)
    }

    fn finish(mut self) -> Result<PathBuf, WriteError> {
        let result = match self.sink.take() {
            Some(Sink::Mp4(encoder)) => encoder.finish(),
            Some(Sink::Y4m(mut out)) => out.flush().and_then(|()| out.get_ref().sync_all()),
            Some(Sink::Folder(_)) | None => Ok(()),
        };
        self.io(result.and_then(|()| fs::rename(&self.temporary, &self.path)))?;
        Ok(self.path.clone())
    }

    fn io<T>(&self, result: io::Result<T>) -> Result<T, WriteError> {
        result.map_err(|source| WriteError::Io { path: self.path.clone(), source })
    }
}

impl Drop for Segment {
    /// Removes what was not finished; after a rename there is nothing left to remove.
    fn drop(&mut self) {
        self.sink = None;
        let _ = if self.temporary.is_dir() {
            fs::remove_dir_all(&self.temporary)
        } else {
            fs::remove_file(&self.temporary)
        };
    }
}

/// `call.mp4.part` for `call.mp4`.
fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// `call.mp4`, `call.2.mp4`, ... ; `call`, `call.2`, ... for folders.
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
    use crate::test_clips::{Folder, all_frames, picture, psnr_db, read};

    #[test]
    fn every_format_gives_back_what_was_recorded_in_order_and_in_time() {
        let folder = Folder::new("round-trip");
        // 4:2:0 and the finest quantizer; rounding to limited range; nothing at all.
        for (name, least_db) in [("clip.mp4", 46.0), ("clip.y4m", 50.0), ("clip", 100.0)] {
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
                let db = psnr_db(frame, picture);
                assert!(db > least_db, "{name} at {:?}: {db:.1} dB", frame.time());
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
    fn frames_come_square() {
        let folder = Folder::new("square");
        let mut writer = ClipWriter::create(&folder.join("wide.mp4"), 25).unwrap();
        writer.push(&picture(0, 128, 64)).unwrap();
        let file = writer.finish().unwrap().remove(0);
        let frame = &all_frames(&mut read(&file)).unwrap()[0];
        assert_eq!((frame.width(), frame.height()), (64, 64));
    }

    #[test]
    fn an_unfinished_recording_leaves_nothing_behind() {
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
