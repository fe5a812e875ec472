//! What painting the peer's face comes to, in figures: the window keeps one, and so does a
//! recording.

use std::time::Duration;

use serde::Serialize;

/// Counts pictures until [`Painted::take_row`] makes figures of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Painted {
    path: String,
    side: u32,
    n_pictures: u64,
    n_before: u64,
    /// Of the pictures since the last row, those whose time is known.
    took: Vec<Duration>,
}

/// The part of a `--stats` line that says how the peer's face is painted.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct PaintedRow {
    /// What paints: the adapter's name, or `cpu`; empty before the first picture.
    pub(crate) render_path: String,
    /// Pictures painted so far, and since the last line.
    pub(crate) pictures: u64,
    pub(crate) pictures_since: u64,
    /// Median time of a picture since the last line; none where the adapter cannot tell.
    pub(crate) picture_ms: Option<f64>,
    /// Side of the newest picture, pixels.
    pub(crate) rendered_resolution: u32,
}

impl Painted {
    /// A picture of `side` pixels was painted by `path`, in a time that is known or is not.
    pub(crate) fn picture(&mut self, path: &str, side: u32, took: Option<Duration>) {
        if self.path != path {
            path.clone_into(&mut self.path);
        }
        self.side = side;
        self.n_pictures += 1;
        self.took.extend(took);
    }

    /// Whether anything was painted.
    pub(crate) fn is_used(&self) -> bool {
        self.n_pictures > 0
    }

    /// The figures since the last row.
    pub(crate) fn take_row(&mut self) -> PaintedRow {
        self.took.sort_unstable();
        let median = self.took.get(self.took.len() / 2);
        let row = PaintedRow {
            render_path: self.path.clone(),
            pictures: self.n_pictures,
            pictures_since: self.n_pictures - self.n_before,
            picture_ms: median.map(|took| took.as_secs_f64() * 1e3),
            rendered_resolution: self.side,
        };
        self.n_before = self.n_pictures;
        self.took.clear();
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_of_the_pictures_since_the_row_before() {
        let mut painted = Painted::default();
        assert!(!painted.is_used());
        assert_eq!(painted.take_row(), PaintedRow::default());
        for ms in [9, 4, 5] {
            painted.picture("cpu", 256, Some(Duration::from_millis(ms)));
        }
        painted.picture("cpu", 128, None);
        let row = painted.take_row();
        assert_eq!((row.render_path.as_str(), row.rendered_resolution), ("cpu", 128));
        assert_eq!((row.pictures, row.pictures_since, row.picture_ms), (4, 4, Some(5.0)));
        painted.picture("cpu", 128, None);
        let row = painted.take_row();
        assert_eq!((row.pictures, row.pictures_since, row.picture_ms), (5, 1, None));
    }
}
