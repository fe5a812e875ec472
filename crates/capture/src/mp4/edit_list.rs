//! Edit lists (ISO/IEC 14496-12, section 8.6.6): which part of a track is played, and when.

use crate::mp4::boxes::ByteReader;

/// Most entries of an edit list. Editors write one for each cut.
const MAX_EDITS: u32 = 10_000;

/// Part of a track that is played without interruption. Times are in units of the track.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Edit {
    /// When the part begins, counted from the start of the presentation, which all tracks share.
    pub(crate) shown_at: i64,
    /// Media time of its start: presentation time of samples as the sample table gives it.
    pub(crate) media_start: i64,
    /// How long it lasts; `i64::MAX` if it lasts until the end of the track.
    pub(crate) duration: i64,
}

impl Edit {
    /// The edit of a track without an edit list: all of it, from the start.
    pub(crate) const WHOLE: Self = Self { shown_at: 0, media_start: 0, duration: i64::MAX };

    /// Returns the media time after the part.
    pub(crate) fn media_end(&self) -> i64 {
        self.media_start.saturating_add(self.duration)
    }
}

/// Time scales, and whether the file is fragmented: what an edit list depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EditScale {
    /// Time scale of the movie, in which edits have their duration. Zero if it is unknown.
    pub(crate) movie_units_per_second: u32,
    pub(crate) track_units_per_second: u32,
    /// Whether samples follow in fragments, so that the index does not know how long the track is.
    pub(crate) is_fragmented: bool,
}

/// Parses the body of an `elst` box. Returns the edits in the order in which they are played, without
/// empty ones, which delay those after them; `None` if the box is malformed or too long.
///
/// As ffmpeg does, the rate of an edit is taken as one. In a fragmented file the first edit lasts until
/// the end.
pub(crate) fn parse_edits(elst: &[u8], scale: EditScale) -> Option<Vec<Edit>> {
    let is_wide = *elst.first()? == 1;
    let mut reader = ByteReader(elst.get(4..)?);
    let n_edits = reader.u32()?;
    if n_edits > MAX_EDITS {
        return None;
    }
    let mut edits = Vec::new();
    let mut shown_at = 0_i64;
    for _ in 0..n_edits {
        let (duration, media_start) = if is_wide {
            (reader.u64()?, reader.u64()? as i64)
        } else {
            (u64::from(reader.u32()?), i64::from(reader.u32()? as i32))
        };
        let _rate = reader.u32()?;
        let units = track_units(duration, scale);
        if media_start < 0 {
            shown_at = shown_at.saturating_add(units);
            continue;
        }
        // Zero is what a writer gives that does not know the duration yet.
        let is_open = scale.is_fragmented || duration == 0;
        let duration = if is_open { i64::MAX } else { units };
        edits.push(Edit { shown_at, media_start, duration });
        if is_open {
            break;
        }
        shown_at = shown_at.saturating_add(units);
    }
    Some(edits)
}

/// Converts a duration from units of the movie to those of the track, rounded.
fn track_units(duration: u64, scale: EditScale) -> i64 {
    let movie = u128::from(scale.movie_units_per_second.max(1));
    let units =
        (u128::from(duration) * u128::from(scale.track_units_per_second) + movie / 2) / movie;
    i64::try_from(units).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An `elst` box of version 0 or 1: duration, media time.
    fn elst(version: u8, edits: &[(u64, i64)]) -> Vec<u8> {
        let mut body = vec![version, 0, 0, 0];
        body.extend((edits.len() as u32).to_be_bytes());
        for (duration, media_time) in edits {
            if version == 1 {
                body.extend(duration.to_be_bytes());
                body.extend(media_time.to_be_bytes());
            } else {
                body.extend((*duration as u32).to_be_bytes());
                body.extend((*media_time as i32).to_be_bytes());
            }
            body.extend(0x10000_u32.to_be_bytes());
        }
        body
    }

    #[test]
    fn edits_are_placed_one_after_another_in_units_of_the_track() {
        let edit = |shown_at, media_start, duration| Edit { shown_at, media_start, duration };
        let until_end = i64::MAX;
        for (edits, is_fragmented, want) in [
            (&[(1000, 1024)][..], false, &[edit(0, 1024, 12_800)][..]),
            // A late start.
            (&[(500, -1), (1000, 0)], false, &[edit(6400, 0, 12_800)]),
            // A cut, a pause, and the beginning again.
            (
                &[(1000, 6400), (250, -1), (40, 0)],
                false,
                &[edit(0, 6400, 12_800), edit(16_000, 0, 512)],
            ),
            (&[(0, 1024)], false, &[edit(0, 1024, until_end)]),
            (&[(700, -1), (1000, 1024), (1000, 0)], true, &[edit(8960, 1024, until_end)]),
            (&[(1000, -1)], false, &[]),
        ] {
            let scale = EditScale {
                movie_units_per_second: 1000,
                track_units_per_second: 12_800,
                is_fragmented,
            };
            for version in [0, 1] {
                let got = parse_edits(&elst(version, edits), scale);
                assert_eq!(got.as_deref(), Some(want), "{edits:?}, version {version}");
            }
        }
    }

    #[test]
    fn hostile_edit_lists_end_in_bounds() {
        let scale = EditScale {
            movie_units_per_second: 0,
            track_units_per_second: u32::MAX,
            is_fragmented: false,
        };
        let edits = parse_edits(&elst(1, &[(u64::MAX, -1), (u64::MAX, i64::MAX)]), scale).unwrap();
        assert_eq!(edits[0].shown_at, i64::MAX);
        assert_eq!(edits[0].media_end(), i64::MAX);
        assert_eq!(parse_edits(&[0, 0, 0, 0, 0, 1, 0, 0], scale), None);
        assert_eq!(parse_edits(&elst(0, &[(1, 1)])[..16], scale), None);
    }
}
