//! Where a command writes. That is checked before any work begins, so that nothing of a person's is
//! lost and no work is in vain.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};
use call::StreamDecoder;
use capture::{ClipWriter, WriteError};
use eval::{ClipLandmarks, Curves, Report};
use face::FaceFile;
use vault::Content;

/// What a command writes to a file or folder. An existing file is replaced by one of the same kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// The face file of an enrollment.
    Face,
    /// A face file that is not encrypted.
    PlainFace,
    /// The part of a face that peers receive.
    PublicFace,
    /// The training state of an enrollment.
    TrainingState,
    /// Access units.
    Stream,
    /// A video file or a folder of pictures that can be made again.
    Clip,
    /// A video file or a folder of pictures of a call, which happens once.
    Recording,
    /// Statistics of a call.
    Statistics,
    /// Sound of a call.
    Sound,
    /// An archive of landmarks.
    Landmarks,
    /// A folder with a report.
    Report,
    /// A folder with rate-distortion curves.
    Curves,
}

/// A file or folder that a command will write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Destination<'a> {
    /// The option that names it.
    pub(crate) option: &'static str,
    pub(crate) path: &'a Path,
    pub(crate) kind: Kind,
}

/// Checks all that a command will write, before it begins, and leaves no file behind.
///
/// # Errors
/// If one of the destinations is one of the `inputs`, by whatever name, or another destination; if a
/// file is there that the command does not replace unless `is_forced` (one of another kind, or
/// one that is write-protected); or if the place cannot be written to.
pub(crate) fn check(
    destinations: &[Destination<'_>],
    inputs: &[&Path],
    is_forced: bool,
) -> anyhow::Result<()> {
    for (i, destination) in destinations.iter().enumerate() {
        let Destination { option, path, .. } = *destination;
        ensure!(!path.as_os_str().is_empty(), "{option} names no file");
        if let Some(input) = inputs.iter().find(|input| capture::is_same_file(path, input)) {
            bail!(
                "{option} {} would replace the input {}; choose another name",
                path.display(),
                input.display()
            );
        }
        let mut earlier = destinations[..i].iter();
        if let Some(other) = earlier.find(|other| capture::is_same_file(path, other.path)) {
            bail!("{} and {option} name one file, {}", other.option, path.display());
        }
        destination.check_place()?;
        if !is_forced {
            destination.check_replaced()?;
        }
    }
    Ok(())
}

impl Destination<'_> {
    /// Checks that nothing would be replaced but an earlier file of this kind.
    fn check_replaced(&self) -> anyhow::Result<()> {
        let Self { option, path, kind } = *self;
        if let Some(file) = kind.foreign_file(path) {
            bail!(
                "{} exists and is not {}; choose another name for {option}, or add --force to \
                 replace it",
                file.display(),
                kind.description()
            );
        }
        let about = path.metadata();
        let is_protected = about.is_ok_and(|file| file.is_file() && file.permissions().readonly());
        ensure!(
            !is_protected,
            "{} is write-protected; choose another name for {option}, or add --force to replace it",
            path.display()
        );
        Ok(())
    }

    /// Checks that the place can be written to.
    fn check_place(&self) -> Result<(), WriteError> {
        match self.kind {
            Kind::Clip => ClipWriter::create(self.path, 1).map(drop),
            Kind::Recording => ClipWriter::record(self.path, 1).map(drop),
            Kind::Report | Kind::Curves => capture::check_writable_folder(self.path),
            _ => capture::check_writable(self.path),
        }
    }
}

impl Kind {
    /// Returns the file at `path`, or in the folder `path`, that would be replaced although it is of
    /// another kind. An empty file is of any kind, and a device is never replaced.
    fn foreign_file(self, path: &Path) -> Option<PathBuf> {
        match self {
            Self::Report => return Report::foreign_file(path),
            Self::Curves => return Curves::foreign_file(path),
            _ => {}
        }
        let has_contents = path.metadata().is_ok_and(|file| file.is_file() && file.len() > 0);
        (has_contents && !self.is_kind_of(path)).then(|| path.to_owned())
    }

    /// Returns whether a file is of this kind, and so made by this program.
    fn is_kind_of(self, path: &Path) -> bool {
        let start = start_of(path);
        match self {
            Self::Face => {
                FaceFile::is_face(&start) || vault::sealed_content(&start) == Some(Content::Face)
            }
            Self::PlainFace => FaceFile::is_face(&start),
            Self::PublicFace => FaceFile::is_face(&start) && !has_private_part(path),
            Self::TrainingState => is_training_state(&start),
            Self::Stream => StreamDecoder::is_stream(&start),
            Self::Clip | Self::Recording | Self::Sound => capture::is_own_clip(path),
            Self::Statistics => start.starts_with(b"{\"call_s\":"),
            Self::Landmarks => ClipLandmarks::is_archive(&start),
            Self::Report | Self::Curves => false,
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::Face => "a face file",
            Self::PlainFace => "an unencrypted face file",
            Self::PublicFace => "the public part of a face",
            Self::TrainingState => "training state of an enrollment",
            Self::Stream => "a stream of this program",
            Self::Sound => "sound that this program recorded",
            Self::Clip | Self::Recording => "a clip that this program made",
            Self::Statistics => "statistics of a call",
            Self::Landmarks => "an archive of landmarks",
            Self::Report => "of an earlier report",
            Self::Curves => "of earlier curves",
        }
    }
}

/// Returns whether a face file may hold more than peers receive.
fn has_private_part(path: &Path) -> bool {
    let bytes = capture::read_file(path, FaceFile::MAX_BYTES as u64).unwrap_or_default();
    FaceFile::parse(&bytes).map_or(true, |face| face.sender.is_some())
}

/// Returns whether a file begins like the training state of an enrollment, encrypted or plain
/// (safetensors with a fingerprint).
pub(crate) fn is_training_state(start: &[u8]) -> bool {
    let header = start.get(8..).unwrap_or_default();
    let is_plain =
        header.starts_with(b"{") && header.windows(13).any(|key| key == b"\"fingerprint\"");
    is_plain || vault::sealed_content(start) == Some(Content::TrainingState)
}

/// Returns the first bytes of a file; none if it cannot be read.
pub(crate) fn start_of(path: &Path) -> Vec<u8> {
    let mut start = Vec::new();
    match File::open(path).and_then(|file| file.take(4096).read_to_end(&mut start)) {
        Ok(_) => start,
        Err(_) => Vec::new(),
    }
}
