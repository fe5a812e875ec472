use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use openh264::OpenH264API;
use openh264::encoder::{
    BitRate, Encoder, EncoderConfig, FrameRate, IntraFramePeriod, Profile, QpRange,
    RateControlMode, VuiConfig,
};
use openh264::formats::YUVSlices;
use types::Frame;

use crate::color::{Chroma, OwnPlanes};
use crate::mp4_writer::Mp4Writer;
use crate::y4m;

/// The finest quantizer the encoder has: about 50 dB, so that a recording measures as what it shows.
const QUANTIZER: u8 = 12;
/// Far above what that quantizer needs, so that it alone decides.
const BIT_RATE: BitRate = BitRate::from_bps(100_000_000);
/// Longest and shortest side the encoder takes.
const MAX_ENCODED: (u32, u32) = (3840, 2160);
/// Smaller pictures are padded: a macroblock.
const MIN_ENCODED: usize = 16;

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
    Mp4(Box<Encoder>, Mp4Writer),
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
        let segment = match &mut self.segment {
            Some(segment) => segment,
            None => {
                self.n_segments += 1;
                let path = segment_name(&self.path, self.format, self.n_segments);
                self.segment.insert(Segment::create(path, self.format, size, self.fps)?)
            }
        };
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
                if width.max(height) > MAX_ENCODED.0 || width.min(height) > MAX_ENCODED.1 {
                    return Err(WriteError::TooLarge { width, height });
                }
                let encoder = new_encoder(fps)?;
                let [coded_width, coded_height] = [width, height].map(|n| coded(n) as u16);
                let writer = File::create(&segment.temporary)
                    .and_then(|file| Mp4Writer::new(file, coded_width, coded_height, fps));
                Sink::Mp4(Box::new(encoder), segment.io(writer)?)
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
            Some(Sink::Mp4(encoder, writer)) => encode(encoder, writer, frame)?,
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
            Some(Sink::Mp4(_, writer)) => writer.finish(),
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

fn new_encoder(fps: u32) -> Result<Encoder, WriteError> {
    let config = EncoderConfig::new()
        .rate_control_mode(RateControlMode::Quality)
        .qp(QpRange::new(QUANTIZER, QUANTIZER))
        .bitrate(BIT_RATE)
        .max_frame_rate(FrameRate::from_hz(fps as f32))
        .skip_frames(false)
        .adaptive_quantization(false)
        .background_detection(false)
        .intra_frame_period(IntraFramePeriod::from_num_frames(fps * 2))
        .profile(Profile::High)
        .vui(VuiConfig::bt601());
    Encoder::with_api_config(OpenH264API::from_source(), config)
        .map_err(|source| WriteError::Encoder { source })
}

/// A side as it is encoded: even, and no smaller than a macroblock.
fn coded(side: u32) -> usize {
    (side as usize).next_multiple_of(2).max(MIN_ENCODED)
}

/// Encodes a frame and writes it; padding repeats the last row and column.
fn encode(
    encoder: &mut Encoder,
    writer: &mut Mp4Writer,
    frame: &Frame,
) -> Result<io::Result<()>, WriteError> {
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let (coded_width, coded_height) = (coded(frame.width()), coded(frame.height()));
    let padded: Vec<u8>;
    let rgb = if (coded_width, coded_height) == (width, height) {
        frame.rgb()
    } else {
        padded = (0..coded_height)
            .flat_map(|y| {
                let row = &frame.rgb()[y.min(height - 1) * width * 3..][..width * 3];
                (0..coded_width).flat_map(move |x| row[x.min(width - 1) * 3..][..3].iter().copied())
            })
            .collect();
        &padded
    };
    let planes = OwnPlanes::from_rgb(rgb, coded_width, coded_height, Chroma::HalfLeft);
    let half = coded_width / 2;
    let source = YUVSlices::new(
        (&planes.y, &planes.u, &planes.v),
        (coded_width, coded_height),
        (coded_width, half, half),
    );
    let stream = encoder.encode(&source).map_err(|source| WriteError::Encoder { source })?;
    let layers = (0..stream.num_layers()).filter_map(|i| stream.layer(i)).collect::<Vec<_>>();
    let nals = layers.iter().flat_map(|layer| {
        (0..layer.nal_count()).filter_map(|i| layer.nal_unit(i)).map(without_start_code)
    });
    Ok(writer.push(nals))
}

fn without_start_code(nal: &[u8]) -> &[u8] {
    let n_zeros = nal.iter().take_while(|b| **b == 0).count();
    nal.get(n_zeros + 1..).unwrap_or_default()
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
    use types::MediaTime;

    use super::*;
    use crate::{OpenError, ReadError, Source, SourceSpec};

    /// A folder of one test, removed with all in it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder =
                std::env::temp_dir().join(format!("capture-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn join(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            let mut names: Vec<String> =
                entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// A soft moving pattern; `index` can be told from its brightness.
    fn picture(index: u64, width: u32, height: u32) -> Frame {
        let rgb: Vec<u8> = (0..height)
            .flat_map(|y| (0..width).map(move |x| (x as f32, y as f32)))
            .flat_map(|(x, y)| {
                let t = index as f32;
                let wave = |a: f32, b: f32| 30.0 * (a * x + b * y + 0.2 * t).sin();
                let base = 60.0 + 5.0 * t;
                [base + wave(0.1, 0.05), base + wave(0.03, 0.08), base + wave(0.05, 0.02)]
            })
            .map(|v| v.clamp(0.0, 255.0) as u8)
            .collect();
        Frame::new(width, height, MediaTime::of_frame(index, 25), rgb).unwrap()
    }

    fn read(path: &Path) -> Source {
        Source::open(&SourceSpec::Clip(path.to_owned())).unwrap()
    }

    fn all_frames(source: &mut Source) -> Result<Vec<Frame>, (usize, ReadError)> {
        let mut frames = Vec::new();
        loop {
            match source.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return Ok(frames),
                Err(error) => return Err((frames.len(), error)),
            }
        }
    }

    fn psnr_db(a: &Frame, b: &Frame) -> f64 {
        assert_eq!((a.width(), a.height()), (b.width(), b.height()));
        let squares = a.rgb().iter().zip(b.rgb()).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2));
        10.0 * (255.0_f64.powi(2) / (squares.sum::<f64>() / a.rgb().len() as f64 + 1e-9)).log10()
    }

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
            assert_eq!(writer.finish().unwrap(), [path.clone()], "{name}");
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

    /// The bytes of a 20-frame recording.
    fn recording(folder: &Folder) -> Vec<u8> {
        let mut writer = ClipWriter::create(&folder.join("whole.mp4"), 25).unwrap();
        for i in 0..20 {
            writer.push(&picture(i, 64, 64)).unwrap();
        }
        fs::read(&writer.finish().unwrap()[0]).unwrap()
    }

    /// The recording with its index in front, as downloads have it.
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
    fn a_cut_clip_gives_its_whole_frames_and_then_says_where_it_ends() {
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

    #[test]
    fn what_is_no_clip_is_refused_with_a_reason() {
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
        for (path, want) in [(folder.join("none.mp4"), "no file"), (folder.join("."), "no frames")]
        {
            for file in folder.names() {
                let _ = fs::remove_file(folder.join(&file));
            }
            let error = Source::open(&SourceSpec::Clip(path)).err().unwrap();
            assert!(error.to_string().contains(want), "{error}");
        }
    }

    #[test]
    fn no_damage_to_a_clip_makes_the_reader_panic_or_run_on() {
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
            for _ in 0..1 + case % 4 {
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
