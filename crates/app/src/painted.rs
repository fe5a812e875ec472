//! What painting the peer's face comes to, in figures: the window keeps one, and so does a
//! recording.

use std::time::{Duration, Instant};

use serde::Serialize;

/// Counts pictures until [`Painted::take_row`] makes figures of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Painted {
    path: String,
    effort: EffortRow,
    n_pictures: u64,
    n_before: u64,
    /// Of the pictures since the last row, those whose time is known.
    took: Vec<Duration>,
    /// The size that somebody asked for and has not seen yet, the one before it, and when.
    asked: Option<(u32, u32, Instant)>,
    switches: Vec<Switch>,
    governor: Vec<ShiftRow>,
}

/// One picture that was painted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drawn<'a> {
    /// What painted it.
    pub(crate) path: &'a str,
    /// The size that was asked for; the effort says what was painted.
    pub(crate) asked: u32,
    pub(crate) effort: EffortRow,
    pub(crate) took: Option<Duration>,
}

/// With how much work pictures are painted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct EffortRow {
    /// Samples a ray.
    pub(crate) samples_per_ray: u32,
    /// Side in pixels; shown larger where it is less than what was asked for.
    pub(crate) rendered_resolution: u32,
    /// No more pictures than this are painted in a second.
    pub(crate) pictures_per_s_limit: f64,
}

/// What the governor changed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct ShiftRow {
    pub(crate) from: EffortRow,
    pub(crate) to: EffortRow,
}

/// A change of size that somebody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Switch {
    /// Sides, pixels.
    pub(crate) from: u32,
    pub(crate) to: u32,
    /// From asking to the first picture of the new size being painted.
    pub(crate) ms: f64,
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
    #[serde(flatten)]
    pub(crate) effort: EffortRow,
    /// Since the last line: what the governor did, and changes of size that were asked for.
    pub(crate) governor: Vec<ShiftRow>,
    pub(crate) switches: Vec<Switch>,
}

impl Painted {
    /// Somebody asks for another size at `now`.
    pub(crate) fn ask(&mut self, now: Instant, from: u32, to: u32) {
        // Who changes their mind before the first picture has seen the size before the first.
        let from = self.asked.map_or(from, |(from, ..)| from);
        self.asked = (from != to).then_some((from, to, now));
    }

    /// A picture was painted and is there at `now`.
    pub(crate) fn picture(&mut self, now: Instant, drawn: Drawn<'_>) {
        if self.path != drawn.path {
            drawn.path.clone_into(&mut self.path);
        }
        self.effort = drawn.effort;
        self.n_pictures += 1;
        self.took.extend(drawn.took);
        if let Some((from, to, asked)) = self.asked.take_if(|(_, to, _)| *to == drawn.asked) {
            let ms = now.saturating_duration_since(asked).as_secs_f64() * 1e3;
            self.switches.push(Switch { from, to, ms });
        }
    }

    /// The governor changed the effort.
    pub(crate) fn shift(&mut self, from: EffortRow, to: EffortRow) {
        self.governor.push(ShiftRow { from, to });
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
            effort: self.effort,
            governor: std::mem::take(&mut self.governor),
            switches: std::mem::take(&mut self.switches),
        };
        self.n_before = self.n_pictures;
        self.took.clear();
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effort(side: u32) -> EffortRow {
        EffortRow { samples_per_ray: 6, rendered_resolution: side, pictures_per_s_limit: 60.0 }
    }

    fn drawn(asked: u32, ms: Option<u64>) -> Drawn<'static> {
        let took = ms.map(Duration::from_millis);
        Drawn { path: "cpu", asked, effort: effort(asked), took }
    }

    #[test]
    fn a_row_tells_of_the_pictures_since_the_row_before() {
        let (mut painted, now) = (Painted::default(), Instant::now());
        assert!(!painted.is_used());
        assert_eq!(painted.take_row(), PaintedRow::default());
        for ms in [9, 4, 5] {
            painted.picture(now, drawn(256, Some(ms)));
        }
        painted.picture(now, drawn(128, None));
        painted.shift(effort(512), effort(384));
        let row = painted.take_row();
        assert_eq!((row.render_path.as_str(), row.effort), ("cpu", effort(128)));
        assert_eq!((row.pictures, row.pictures_since, row.picture_ms), (4, 4, Some(5.0)));
        assert_eq!(row.governor, [ShiftRow { from: effort(512), to: effort(384) }]);
        painted.picture(now, drawn(128, None));
        let row = painted.take_row();
        assert_eq!((row.pictures, row.pictures_since, row.picture_ms), (5, 1, None));
        assert!(row.governor.is_empty());
    }

    #[test]
    fn a_switch_lasts_from_asking_to_the_first_picture_of_the_new_size() {
        let (mut painted, start) = (Painted::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        painted.ask(at(0), 128, 1024);
        painted.picture(at(10), drawn(128, None));
        assert_eq!(painted.take_row().switches, []);
        painted.picture(at(40), drawn(1024, None));
        painted.picture(at(70), drawn(1024, None));
        assert_eq!(painted.take_row().switches, [Switch { from: 128, to: 1024, ms: 40.0 }]);
        // Asked for, and taken back before anything was seen of it; then something else.
        painted.ask(at(100), 1024, 256);
        painted.ask(at(101), 256, 1024);
        painted.picture(at(110), drawn(1024, None));
        painted.ask(at(120), 1024, 256);
        painted.ask(at(121), 256, 512);
        painted.picture(at(130), drawn(512, None));
        assert_eq!(painted.take_row().switches, [Switch { from: 1024, to: 512, ms: 9.0 }]);
    }
}
