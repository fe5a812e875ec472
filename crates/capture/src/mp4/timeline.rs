//! The order in which the pictures of an edited track are decoded and shown.

use crate::mp4::edit_list::Edit;
use crate::mp4::track::{MAX_SAMPLES, Mp4Sample, Mp4Track};

/// Most comparisons of a sample with an edit: about a second of work.
const MAX_COMPARISONS: usize = 500_000_000;

/// One sample to decode.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Step {
    pub(crate) sample_idx: u32,
    /// Whether the picture is shown; if not, others need it.
    pub(crate) is_shown: bool,
    /// When the picture is shown, in units of the track from the start of the presentation.
    pub(crate) shown_at: i64,
}

/// Returns the samples of a video track in the order in which they are decoded; `None` if the edit list
/// repeats samples without bound.
///
/// A picture is shown if it begins within an edit. As in ffmpeg, the first one of an edit is shown at
/// its start, even if the edit begins in the middle of the picture before; a fragmented file, whose
/// edit list only says when the track begins, is shown as it says.
pub(crate) fn steps(track: &Mp4Track) -> Option<Vec<Step>> {
    let samples = &track.samples;
    if track.edits.len().checked_mul(samples.len())? > MAX_COMPARISONS {
        return None;
    }
    let begins_with_picture = track.has_edit_list && !track.is_fragmented;
    let mut steps = Vec::new();
    for edit in &track.edits {
        let is_shown =
            |sample: &Mp4Sample| (edit.media_start..edit.media_end()).contains(&sample.shown_at);
        let Some(first) = samples.iter().position(is_shown) else { continue };
        let last = samples.iter().rposition(is_shown).unwrap_or(first);
        let shown = &samples[first..=last];
        let media_start = if begins_with_picture {
            shown.iter().filter(|s| is_shown(s)).map(|s| s.shown_at).min()?
        } else {
            edit.media_start
        };
        let start = decoding_start(samples, first, edit);
        if steps.len() + (last + 1 - start) > MAX_SAMPLES {
            return None;
        }
        steps.extend((start..).zip(&samples[start..=last]).map(|(sample_idx, sample)| Step {
            sample_idx: sample_idx as u32,
            is_shown: is_shown(sample),
            shown_at: edit.shown_at.saturating_add(sample.shown_at.saturating_sub(media_start)),
        }));
    }
    Some(steps)
}

/// Returns the sample with which decoding begins so that sample `first` and those after it can be shown:
/// the last key picture that is shown no later than the edit begins.
fn decoding_start(samples: &[Mp4Sample], first: usize, edit: &Edit) -> usize {
    let keys = || samples[..=first].iter().enumerate().rev().filter(|(_, sample)| sample.is_key);
    let early = keys().find(|(_, sample)| sample.shown_at <= edit.media_start);
    early.or_else(|| keys().next_back()).map_or(0, |(sample_idx, _)| sample_idx)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mp4::track::{Coding, Presentation, TrackEnding};

    /// Pictures of 10 units in groups of four, `I P B B` in decoding order, two units late.
    fn track(edits: Option<Vec<Edit>>, is_fragmented: bool) -> Mp4Track {
        let shown_at = |i: i64| 2 + 10 * (i - i % 4 + [0, 3, 1, 2][(i % 4) as usize]);
        let sample =
            |i: i64| Mp4Sample { offset: 0, size: 1, is_key: i % 4 == 0, shown_at: shown_at(i) };
        Mp4Track {
            id: 1,
            is_video: true,
            units_per_second: 1000,
            has_edit_list: edits.is_some(),
            edits: edits.unwrap_or(vec![Edit::WHOLE]),
            is_fragmented,
            coding: Coding::Several,
            presentation: Presentation::default(),
            samples: (0..12).map(sample).collect(),
            end: 0,
            ending: TrackEnding::default(),
        }
    }

    /// Decoded samples, and times of the shown ones in order.
    fn played(edits: Option<Vec<Edit>>, is_fragmented: bool) -> (Vec<u32>, Vec<i64>) {
        let steps = steps(&track(edits, is_fragmented)).unwrap();
        let mut times: Vec<i64> =
            steps.iter().filter(|step| step.is_shown).map(|step| step.shown_at).collect();
        times.sort_unstable();
        (steps.iter().map(|step| step.sample_idx).collect(), times)
    }

    fn times(start: i64, n: i64) -> Vec<i64> {
        (0..n).map(|i| start + 10 * i).collect()
    }

    #[test]
    fn an_edit_shows_the_pictures_that_begin_in_it() {
        let edit = |shown_at, media_start, duration| Edit { shown_at, media_start, duration };
        let all: Vec<u32> = (0..12).collect();
        assert_eq!(played(None, false), (all.clone(), times(2, 12)));
        assert_eq!(played(Some(vec![edit(0, 2, i64::MAX)]), false), (all.clone(), times(0, 12)));
        // Without a delay in the list the first picture still begins the edit, unless fragments follow.
        assert_eq!(played(Some(vec![edit(0, 0, i64::MAX)]), false), (all.clone(), times(0, 12)));
        assert_eq!(played(Some(vec![edit(0, 0, i64::MAX)]), true), (all.clone(), times(2, 12)));
        assert_eq!(played(Some(vec![edit(70, 2, i64::MAX)]), false), (all, times(70, 12)));
        // A start within a group of pictures, and an end before the last one that is decoded.
        let middle = vec![edit(0, 55, 40)];
        assert_eq!(played(Some(middle), false), ((4..11).collect(), times(0, 4)));
        // The later part first, then the first one twice, with a pause before.
        let parts = vec![edit(0, 82, 40), edit(100, 2, 20), edit(120, 2, 20)];
        let (decoded, shown) = played(Some(parts), false);
        assert_eq!(decoded, [8, 9, 10, 11, 0, 1, 2, 0, 1, 2]);
        assert_eq!(shown, [times(0, 4), times(100, 4)].concat());
        assert_eq!(played(Some(vec![edit(0, 500, 40)]), false), (vec![], vec![]));
    }

    #[test]
    fn an_edit_list_that_repeats_without_bound_is_refused() {
        let whole = Edit { shown_at: 0, media_start: 0, duration: 1000 };
        let mut track = track(Some(vec![whole; 700_000]), false);
        assert!(steps(&track).is_none());
        track.edits = vec![whole; 10_000];
        track.samples = vec![track.samples[0]; 100_000];
        assert!(steps(&track).is_none());
    }
}
