//! Statistics of rendering the peer picture, kept by the window and by recordings.

use std::time::{Duration, Instant};

use serde::Serialize;

/// Collects what happens until [`RenderStats::take_row`] summarizes it.
#[derive(Clone, Debug, Default)]
pub(crate) struct RenderStats {
    path: String,
    settings: SettingsRow,
    n_pictures: u64,
    /// Pictures before the last row.
    n_reported: u64,
    /// Durations of the pictures since the last row, if known.
    durations: Vec<Duration>,
    /// A requested change of size that no picture shows yet: the sides before and after, and when
    /// it was requested.
    requested: Option<(u32, u32, Instant)>,
    size_changes: Vec<SizeChangeRow>,
    settings_changes: Vec<SettingsChangeRow>,
}

/// One rendered picture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RenderedPicture<'a> {
    /// Name of the renderer.
    pub(crate) path: &'a str,
    /// Requested side, pixels; `settings` has the side rendered.
    pub(crate) requested_side: u32,
    pub(crate) settings: SettingsRow,
    /// Time it took, if known.
    pub(crate) duration: Option<Duration>,
}

/// Settings that pictures are rendered with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct SettingsRow {
    pub(crate) samples_per_ray: u32,
    /// Side of the rendered picture, pixels. It is displayed larger if it is below the requested.
    pub(crate) rendered_resolution: u32,
    /// Most pictures per second.
    pub(crate) pictures_per_s_limit: f64,
}

/// A change of settings by the governor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct SettingsChangeRow {
    pub(crate) from: SettingsRow,
    pub(crate) to: SettingsRow,
}

/// A change of size by request.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct SizeChangeRow {
    /// Side before, pixels.
    pub(crate) from: u32,
    /// Side after, pixels.
    pub(crate) to: u32,
    /// Time from the request to the first picture of the new size, milliseconds.
    pub(crate) ms: f64,
}

/// Rendering part of a `--stats` line.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct RenderStatsRow {
    /// Name of the graphics adapter, or `cpu`; empty before the first picture.
    pub(crate) render_path: String,
    /// Pictures rendered so far.
    pub(crate) pictures: u64,
    /// Pictures rendered since the last line.
    pub(crate) pictures_since: u64,
    /// Median duration of a picture since the last line, milliseconds; `None` if unknown.
    pub(crate) picture_ms: Option<f64>,
    #[serde(flatten)]
    pub(crate) settings: SettingsRow,
    /// Changes of settings by the governor since the last line.
    #[serde(rename = "governor")]
    pub(crate) settings_changes: Vec<SettingsChangeRow>,
    /// Changes of size by request since the last line.
    #[serde(rename = "switches")]
    pub(crate) size_changes: Vec<SizeChangeRow>,
}

impl RenderStats {
    /// Notes a request at `now` to change the side from `from` to `to` pixels.
    pub(crate) fn request_size(&mut self, now: Instant, from: u32, to: u32) {
        // The picture still has the size before an earlier request that was not fulfilled yet.
        let from = self.requested.map_or(from, |(from, ..)| from);
        self.requested = (from != to).then_some((from, to, now));
    }

    /// Adds a picture that is complete at `now`.
    pub(crate) fn add_picture(&mut self, now: Instant, picture: RenderedPicture<'_>) {
        if self.path != picture.path {
            picture.path.clone_into(&mut self.path);
        }
        self.settings = picture.settings;
        self.n_pictures += 1;
        self.durations.extend(picture.duration);
        let is_of_new_size =
            |request: &mut (u32, u32, Instant)| request.1 == picture.requested_side;
        if let Some((from, to, requested)) = self.requested.take_if(is_of_new_size) {
            let ms = now.saturating_duration_since(requested).as_secs_f64() * 1e3;
            self.size_changes.push(SizeChangeRow { from, to, ms });
        }
    }

    /// Adds a change of settings by the governor.
    pub(crate) fn add_settings_change(&mut self, from: SettingsRow, to: SettingsRow) {
        self.settings_changes.push(SettingsChangeRow { from, to });
    }

    /// Returns whether any picture was rendered.
    pub(crate) fn has_pictures(&self) -> bool {
        self.n_pictures > 0
    }

    /// Summarizes what happened since the last row.
    pub(crate) fn take_row(&mut self) -> RenderStatsRow {
        self.durations.sort_unstable();
        let median = self.durations.get(self.durations.len() / 2);
        let row = RenderStatsRow {
            render_path: self.path.clone(),
            pictures: self.n_pictures,
            pictures_since: self.n_pictures - self.n_reported,
            picture_ms: median.map(|duration| duration.as_secs_f64() * 1e3),
            settings: self.settings,
            settings_changes: std::mem::take(&mut self.settings_changes),
            size_changes: std::mem::take(&mut self.size_changes),
        };
        self.n_reported = self.n_pictures;
        self.durations.clear();
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(side: u32) -> SettingsRow {
        SettingsRow { samples_per_ray: 6, rendered_resolution: side, pictures_per_s_limit: 60.0 }
    }

    fn picture(side: u32, ms: Option<u64>) -> RenderedPicture<'static> {
        let (settings, duration) = (settings(side), ms.map(Duration::from_millis));
        RenderedPicture { path: "cpu", requested_side: side, settings, duration }
    }

    #[test]
    fn a_row_covers_the_pictures_since_the_previous_row() {
        let (mut stats, now) = (RenderStats::default(), Instant::now());
        assert!(!stats.has_pictures());
        assert_eq!(stats.take_row(), RenderStatsRow::default());
        for ms in [9, 4, 5] {
            stats.add_picture(now, picture(256, Some(ms)));
        }
        stats.add_picture(now, picture(128, None));
        stats.add_settings_change(settings(512), settings(384));
        let row = stats.take_row();
        assert_eq!((row.render_path.as_str(), row.settings), ("cpu", settings(128)));
        assert_eq!((row.pictures, row.pictures_since, row.picture_ms), (4, 4, Some(5.0)));
        let change = SettingsChangeRow { from: settings(512), to: settings(384) };
        assert_eq!(row.settings_changes, [change]);
        stats.add_picture(now, picture(128, None));
        let row = stats.take_row();
        assert_eq!((row.pictures, row.pictures_since, row.picture_ms), (5, 1, None));
        assert!(row.settings_changes.is_empty());
    }

    #[test]
    fn a_size_change_lasts_from_the_request_to_the_first_picture_of_the_new_size() {
        let (mut stats, start) = (RenderStats::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        stats.request_size(at(0), 128, 1024);
        stats.add_picture(at(10), picture(128, None));
        assert_eq!(stats.take_row().size_changes, []);
        stats.add_picture(at(40), picture(1024, None));
        stats.add_picture(at(70), picture(1024, None));
        let change = SizeChangeRow { from: 128, to: 1024, ms: 40.0 };
        assert_eq!(stats.take_row().size_changes, [change]);
    }

    #[test]
    fn a_request_replaces_an_earlier_one_that_no_picture_showed() {
        let (mut stats, start) = (RenderStats::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        // Withdrawn.
        stats.request_size(at(100), 1024, 256);
        stats.request_size(at(101), 256, 1024);
        stats.add_picture(at(110), picture(1024, None));
        // Replaced.
        stats.request_size(at(120), 1024, 256);
        stats.request_size(at(121), 256, 512);
        stats.add_picture(at(130), picture(512, None));
        let change = SizeChangeRow { from: 1024, to: 512, ms: 9.0 };
        assert_eq!(stats.take_row().size_changes, [change]);
    }

    #[test]
    fn a_row_has_the_keys_that_scripts_read() {
        let row = serde_json::to_value(RenderStatsRow::default()).unwrap();
        let mut keys: Vec<_> = row.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(
            keys,
            [
                "governor",
                "picture_ms",
                "pictures",
                "pictures_per_s_limit",
                "pictures_since",
                "render_path",
                "rendered_resolution",
                "samples_per_ray",
                "switches"
            ]
        );
    }
}
