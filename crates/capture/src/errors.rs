//! Why opening, reading or writing failed.

use std::io;
use std::path::{Path, PathBuf};

use types::FrameError;

use crate::camera::CameraError;
use crate::explanation::explained;

/// Why a source could not be opened. Nothing was started; show the message to the user.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The path is wrong.
    #[error("there is no file or folder {}", path.display())]
    Missing { path: PathBuf },
    /// The file exists but cannot be read.
    #[error("{source}: {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// The path leads to a pipe, a socket or a device.
    #[error("not a file or folder: {}; save the clip to a file first", path.display())]
    NotAFile { path: PathBuf },
    /// The format is not read directly, and the programs `ffmpeg` and `ffprobe` are not on the `PATH`.
    #[error(
        "cannot read {}: install ffmpeg (the programs ffmpeg and ffprobe on the PATH), or convert it to \
         MP4 with H.264",
        path.display()
    )]
    NoFfmpeg { path: PathBuf },
    /// The format is not read directly, and `ffmpeg` cannot read it either.
    #[error("not a clip that can be read: {} (ffmpeg says: {message})", path.display())]
    Ffmpeg { path: PathBuf, message: String },
    /// Nothing in the file moves: it holds sound alone, perhaps with a cover.
    #[error("the file holds no video: {}", path.display())]
    NoVideo { path: PathBuf },
    /// A folder without pictures, perhaps with a clip.
    #[error(
        "there are no pictures (PNG, JPEG, WebP, BMP, GIF or TIFF) in the folder {}{}",
        path.display(),
        clip.as_ref().map(|c| format!("; for the clip in it, name {}", c.display())).unwrap_or_default()
    )]
    NoPictures { path: PathBuf, clip: Option<PathBuf> },
    /// The video of an MP4 file is not decoded directly, and no `ffmpeg` program was found.
    #[error(
        "{reason}, which only the ffmpeg program decodes; install ffmpeg and try again, or convert the \
         clip to H.264 with 8 bits and 4:2:0 chroma: {}",
        path.display()
    )]
    NeedsFfmpeg { path: PathBuf, reason: UnsupportedVideo },
    /// The clip is valid but has no frames.
    #[error("the clip holds no frames: {}", path.display())]
    Empty { path: PathBuf },
    /// The index at the end of an MP4 file is missing, as after an interrupted recording or
    /// download.
    #[error("the clip is cut short, its index is missing: {}", path.display())]
    Truncated { path: PathBuf },
    /// The header is damaged, so no frame can be read.
    #[error("the clip is damaged: {}", path.display())]
    Malformed { path: PathBuf },
    /// No camera was found, or it does not work.
    #[error(transparent)]
    Camera(#[from] CameraError),
}

/// Why the video track of an MP4 file is not decoded directly, but by `ffmpeg`.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum UnsupportedVideo {
    /// The codec is not H.264; `name` is that of the sample entry.
    #[error("the clip is {}", codec_name(*name))]
    Codec { name: [u8; 4] },
    /// H.264 with as many chroma as luma samples.
    #[error("the clip is H.264 with 4:4:4 chroma")]
    FullChroma,
    /// H.264 with other than 8 or 10 bits.
    #[error("the clip is H.264 with {luma} bits of luma and {chroma} of chroma")]
    Depth { luma: u32, chroma: u32 },
    /// The pictures are larger than any level of H.264 allows.
    #[error("the clip has pictures of {width}x{height} pixels")]
    Size { width: u32, height: u32 },
    /// The sample entry has no parameter sets, or damaged ones.
    #[error("the clip is H.264 with its parameters elsewhere than in the index")]
    Parameters,
    /// The codec or its parameters change within the clip.
    #[error("the clip changes its format between pictures")]
    Several,
    /// The edit list shows the clip more often than is sensible.
    #[error("the clip has an edit list of unusual length")]
    EditList,
    /// The decoder fails at the first picture, as at lossless coding.
    #[error("the clip is H.264 of a kind, such as lossless")]
    FirstPicture,
}

/// Returns the usual name of a codec in MP4 files.
fn codec_name(name: [u8; 4]) -> std::borrow::Cow<'static, str> {
    match &name {
        b"hvc1" | b"hev1" | b"dvh1" | b"dvhe" => "HEVC (H.265)".into(),
        b"vvc1" | b"vvi1" => "VVC (H.266)".into(),
        b"av01" => "AV1".into(),
        b"vp08" => "VP8".into(),
        b"vp09" => "VP9".into(),
        b"mp4v" => "MPEG-4 video".into(),
        b"apch" | b"apcn" | b"apcs" | b"apco" | b"ap4h" | b"ap4x" => "ProRes".into(),
        b"jpeg" | b"mjpa" | b"mjpb" => "Motion JPEG".into(),
        other => format!("of codec {}", other.escape_ascii()).into(),
    }
}

/// Why a picture or the next frame or sound of a source could not be read. All earlier frames of
/// the source were intact. Frames are counted from 1.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A clip cannot be read on after `n_frames` frames, which were returned.
    #[error("only {n_frames} frames of the clip could be read: {source}")]
    Incomplete { n_frames: u64, source: Box<ReadError> },
    /// The file ends inside frame `at`; all complete frames were returned. Copy the file again.
    #[error("the clip is cut short inside frame {at} of {of}; copy it again")]
    Truncated { at: u64, of: u64 },
    /// The file ends within a fragment, or is damaged there; all frames before were returned.
    #[error("the file is cut short or damaged behind them")]
    EndsEarly,
    /// The bytes of frame `at` do not decode to a picture.
    #[error("frame {at} of the clip is damaged")]
    Corrupt { at: u64 },
    /// `ffmpeg` failed, or the file ends before the clip does.
    #[error("{why}")]
    CutShort { why: String },
    /// The clip has pictures only.
    #[error("the clip has no sound")]
    NoSound,
    /// The sound of the clip cannot be decoded, or not to its end.
    #[error("the sound of the clip cannot be read: {why}")]
    SoundUnreadable { why: String },
    /// The file, possibly one in a folder of pictures, is damaged or not a picture of a format that is read.
    #[error("not a picture that can be read ({source}): {}", path.display())]
    Picture { path: PathBuf, source: image::ImageError },
    /// The file is a picture of a format that is not read.
    #[error("{format} pictures are not read; convert it to JPEG or PNG: {}", path.display())]
    PictureFormat { path: PathBuf, format: String },
    /// The camera was unplugged, or another program took it.
    #[error(transparent)]
    Camera(#[from] CameraError),
    /// The disk or pipe failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The picture is empty, or larger than 8K.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Why a file or recording could not be written. No partial file or folder remains, except after
/// [`WriteError::CutShort`] and [`WriteError::Kept`].
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The disk is full, or the folder is missing or not writable.
    #[error("cannot write {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// The disk is full, or broken; what was recorded before is in the file or folder `path`.
    #[error("the recording is cut short: {source}; what there is of it is in {}", path.display())]
    CutShort { path: PathBuf, source: io::Error },
    /// The disk is full, or broken, and was before the first frame. Nothing is left behind.
    #[error("nothing was recorded: {source}: {}", path.display())]
    NothingRecorded { path: PathBuf, source: io::Error },
    /// The recording is complete, but under its temporary name `part`. It did not replace what has
    /// come to `path` meanwhile, or the system refused.
    #[error("the recording is in {}, because it cannot become {}: {source}", part.display(), path.display())]
    Kept { part: PathBuf, path: PathBuf, source: io::Error },
    /// The folder already has files in it. Name another one.
    #[error("cannot write to the folder {}: it is not empty; name a new one", path.display())]
    NotEmpty { path: PathBuf },
    /// A folder of pictures replaces the folder `path` as a whole, which the system does not allow for
    /// this one.
    #[error("cannot replace the folder {}; name a new one in it", path.display())]
    NotReplaceable { path: PathBuf },
    /// Record to `.y4m` or to a folder instead.
    #[error(
        "a {width}x{height} picture is too large for an MP4 recording (3840x2160); record to .y4m or a folder"
    )]
    TooLarge { width: u32, height: u32 },
    /// The H.264 encoder reported an error.
    #[error("the H.264 encoder failed: {source}")]
    Encoder { source: openh264::Error },
    /// PNG encoding failed.
    #[error("cannot write {}: {source}", path.display())]
    Picture { path: PathBuf, source: image::ImageError },
}

impl WriteError {
    /// Adds the path to an I/O error, and what to do about it.
    pub fn io(path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { source: explained(&path, source), path: path.clone() }
    }
}
