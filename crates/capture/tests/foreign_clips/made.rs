//! Clips and reference pictures that `ffmpeg` makes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use capture::{Source, SourceSpec};
use types::SquareFrame;

/// Folder of one test; dropping it removes it with its contents.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("foreign-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a program of ffmpeg and returns what it writes to standard output.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program)
        .args(["-hide_banner", "-v", "error"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program}, which `cargo xtask setup` installs: {error}"));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {message}");
    output.stdout
}

/// Makes a clip: `arguments` are words separated by spaces, and may not contain any.
pub(crate) fn make(path: &Path, arguments: &str) {
    let mut all: Vec<&str> = arguments.split_whitespace().collect();
    all.extend(["-y", path.to_str().unwrap()]);
    run("ffmpeg", &all);
}

/// Reads all frames of a clip.
pub(crate) fn frames(path: &Path) -> Vec<SquareFrame> {
    let mut source = Source::open(&SourceSpec::Clip(path.to_owned())).unwrap();
    let n_frames = source.n_frames();
    let frames: Vec<_> = std::iter::from_fn(|| source.next_frame().unwrap()).collect();
    assert!(n_frames.is_none_or(|n| n == frames.len() as u64), "{n_frames:?} {}", frames.len());
    frames
}

/// Returns the frames that ffmpeg decodes, through a filter, as RGB bytes of squares of a side in pixels.
pub(crate) fn reference(path: &Path, filter: &str, side: u32) -> Vec<Vec<u8>> {
    let input = ["-i", path.to_str().unwrap(), "-map", "0:v:0", "-vsync", "passthrough"];
    let output = ["-vf", filter, "-pix_fmt", "rgb24", "-f", "rawvideo", "-"];
    let bytes = run("ffmpeg", &[&input[..], &output].concat());
    let n_bytes = (side * side * 3) as usize;
    assert_eq!(bytes.len() % n_bytes, 0, "frames are not {side} pixels wide");
    bytes.chunks_exact(n_bytes).map(<[u8]>::to_vec).collect()
}

/// Filter that converts to RGB exactly, without the tags of the clip. Other than that of `scale`, it knows
/// where chroma samples are.
pub(crate) fn to_rgb(matrix: &str, range: &str) -> String {
    format!("zscale=min={matrix}:rin={range}:m=gbr:r=full:cin=left:f=bilinear,format=gbrp")
}

/// Returns the presentation times of the frames that ffprobe decodes, microseconds.
pub(crate) fn probed_times(path: &Path) -> Vec<i64> {
    let arguments = ["-select_streams", "v:0", "-show_entries", "frame=pts_time", "-of", "csv=p=0"];
    let mut all = arguments.to_vec();
    all.push(path.to_str().unwrap());
    let text = String::from_utf8(run("ffprobe", &all)).unwrap();
    let times = text.lines().filter_map(|line| line.split(',').next()?.trim().parse::<f64>().ok());
    times.map(|seconds| (seconds * 1e6).round() as i64).collect()
}

/// Mean absolute difference of bytes.
pub(crate) fn mean_difference(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let sum: u64 = a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / a.len() as f64
}
