//! Clips and folders for tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use types::{Frame, MediaTime, SquareFrame};

use crate::{ReadError, Source, SourceSpec};

/// Folder of one test; dropping it removes it with its contents.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("capture-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn names(&self) -> Vec<String> {
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

/// Returns any moment, from which a test counts.
#[expect(clippy::disallowed_methods, reason = "there is no other way to an instant")]
pub(crate) fn moment() -> Instant {
    Instant::now()
}

/// Draws a smooth moving pattern whose brightness increases with `index`.
pub(crate) fn picture(index: u64, width: u32, height: u32) -> Frame {
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

pub(crate) fn read(path: &Path) -> Source {
    Source::open(&SourceSpec::Clip(path.to_owned())).unwrap()
}

pub(crate) fn all_frames(source: &mut Source) -> Result<Vec<SquareFrame>, (usize, ReadError)> {
    let mut frames = Vec::new();
    loop {
        match source.next_frame() {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return Ok(frames),
            Err(error) => return Err((frames.len(), error)),
        }
    }
}

/// Root mean square of the differences between two frames of one size, levels of 0..=255.
pub(crate) fn rms_difference(a: &Frame, b: &Frame) -> f64 {
    assert_eq!((a.width(), a.height()), (b.width(), b.height()));
    let squares = a.rgb().iter().zip(b.rgb()).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2));
    (squares.sum::<f64>() / a.rgb().len() as f64).sqrt()
}
