use std::collections::{VecDeque, vec_deque};

use crate::feature::Feature;
use crate::media_time::MediaTime;

/// Timeline of decoded features in order of media time, with corrections applied.
///
/// An access unit carries a correction of the previous unit's feature, intermediate features and
/// its own. Added in that order, the correction replaces the newest feature and the others follow
/// it, so every time occurs once.
#[derive(Clone, Debug)]
pub struct FeatureTimeline {
    /// In order of time, all different, at most `capacity` of them.
    features: VecDeque<Feature>,
    capacity: usize,
    /// Time of the newest feature that was ever added.
    newest: Option<MediaTime>,
}

impl FeatureTimeline {
    /// Returns an empty timeline of unlimited length.
    pub fn new() -> Self {
        Self::with_capacity(usize::MAX)
    }

    /// Returns an empty timeline that drops its oldest feature when it would hold more than
    /// `capacity`.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { features: VecDeque::new(), capacity, newest: None }
    }

    /// Adds a feature; returns whether its time is later than that of every feature added before.
    ///
    /// A feature with the time of the newest one is a correction and replaces it. A feature with an
    /// earlier time is ignored.
    pub fn push(&mut self, feature: Feature) -> bool {
        if self.newest.is_some_and(|newest| feature.time < newest) {
            return false;
        }
        let is_newer = self.newest != Some(feature.time);
        if self.features.back().is_some_and(|last| last.time == feature.time) {
            self.features.pop_back();
        }
        self.features.push_back(feature);
        self.newest = Some(feature.time);
        if self.features.len() > self.capacity {
            self.features.pop_front();
        }
        is_newer
    }

    /// Returns the time of the newest feature that was ever added, drained or not.
    pub fn newest_time(&self) -> Option<MediaTime> {
        self.newest
    }

    /// Returns the feature at `time`, interpolated with [`Feature::between`]; `None` if the
    /// timeline is empty.
    ///
    /// Before the oldest feature it has the values of the oldest, after the newest those of the
    /// newest.
    pub fn at(&self, time: MediaTime) -> Option<Feature> {
        let last = self.features.len().checked_sub(1)?;
        let after = self.features.partition_point(|feature| feature.time < time).max(1).min(last);
        let before = after.saturating_sub(1);
        Some(Feature::between(&self.features[before], &self.features[after], time))
    }

    /// Iterates over the features, oldest first.
    pub fn iter(&self) -> vec_deque::Iter<'_, Feature> {
        self.features.iter()
    }

    /// Returns the number of features.
    pub fn len(&self) -> usize {
        self.features.len()
    }

    /// Whether there is no feature.
    pub fn is_empty(&self) -> bool {
        self.features.is_empty()
    }

    /// Removes and returns all features, oldest first.
    ///
    /// Only a correction of the newest feature, or newer ones, can be added afterwards.
    pub fn drain(&mut self) -> Vec<Feature> {
        self.features.drain(..).collect()
    }

    /// Removes and returns all features but the newest, oldest first: those that no correction can
    /// change any more.
    pub fn drain_settled(&mut self) -> vec_deque::Drain<'_, Feature> {
        let n_settled = self.features.len().saturating_sub(1);
        self.features.drain(..n_settled)
    }

    /// Removes old features, but keeps the last `n_kept` of those at or before `time`, all later
    /// ones, and at least `n_kept + 1` in total.
    pub fn remove_before(&mut self, time: MediaTime, n_kept: usize) {
        while self.features.len() > n_kept + 1 && self.features[n_kept].time <= time {
            self.features.pop_front();
        }
    }
}

impl Default for FeatureTimeline {
    fn default() -> Self {
        Self::new()
    }
}

impl Extend<Feature> for FeatureTimeline {
    fn extend<I: IntoIterator<Item = Feature>>(&mut self, features: I) {
        for feature in features {
            self.push(feature);
        }
    }
}

impl FromIterator<Feature> for FeatureTimeline {
    fn from_iter<I: IntoIterator<Item = Feature>>(features: I) -> Self {
        let mut timeline = Self::new();
        timeline.extend(features);
        timeline
    }
}

impl<'a> IntoIterator for &'a FeatureTimeline {
    type Item = &'a Feature;
    type IntoIter = vec_deque::Iter<'a, Feature>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Code, HeadPose};

    fn at(ms: u64, yaw: f32) -> Feature {
        Feature {
            time: MediaTime::from_micros(ms * 1000),
            pose: HeadPose::from_array([0.0, yaw, 0.0, 0.0, 0.0, 1.0]).unwrap(),
            code: Code::NEUTRAL,
        }
    }

    #[test]
    fn a_feature_lies_on_the_line_between_its_neighbors_and_is_held_outside() {
        let timeline: FeatureTimeline =
            [at(40, 0.1), at(80, 0.2), at(160, 0.0)].into_iter().collect();
        for (ms, yaw) in [(0, 0.1), (40, 0.1), (60, 0.15), (80, 0.2), (120, 0.1), (200, 0.0)] {
            let time = MediaTime::from_micros(ms * 1000);
            let feature = timeline.at(time).unwrap();
            assert_eq!(feature.time, time);
            assert!((feature.pose.rotation().y - yaw).abs() < 1e-6, "at {ms} ms: {feature:?}");
        }
        let one: FeatureTimeline = [at(40, 0.1)].into_iter().collect();
        assert_eq!(one.at(MediaTime::ZERO), Some(at(0, 0.1)));
        assert_eq!(FeatureTimeline::new().at(MediaTime::ZERO), None);
    }

    #[test]
    fn a_correction_replaces_the_newest_feature_and_older_ones_are_ignored() {
        let mut timeline = FeatureTimeline::new();
        let is_newer = [at(0, 0.0), at(80, 0.1), at(80, 0.2), at(40, 0.3), at(160, 0.4)]
            .map(|f| timeline.push(f));
        assert_eq!(is_newer, [true, true, false, false, true]);
        assert!(timeline.iter().eq(&[at(0, 0.0), at(80, 0.2), at(160, 0.4)]));
    }

    #[test]
    fn a_correction_of_a_drained_feature_comes_with_the_next_ones() {
        let mut timeline = FeatureTimeline::new();
        timeline.extend([at(0, 0.0), at(80, 0.1)]);
        assert_eq!(timeline.drain(), [at(0, 0.0), at(80, 0.1)]);
        timeline.extend([at(40, 0.3), at(80, 0.2), at(160, 0.4)]);
        assert_eq!(timeline.newest_time(), Some(at(160, 0.4).time));
        assert_eq!(timeline.drain(), [at(80, 0.2), at(160, 0.4)]);
    }

    #[test]
    fn the_newest_feature_stays_until_a_newer_one_settles_it() {
        let mut timeline = FeatureTimeline::new();
        timeline.extend([at(0, 0.0), at(80, 0.1)]);
        assert!(timeline.drain_settled().eq([at(0, 0.0)]));
        timeline.extend([at(80, 0.2), at(160, 0.4)]);
        assert!(timeline.drain_settled().eq([at(80, 0.2)]));
        assert_eq!(timeline.drain(), [at(160, 0.4)]);
        assert_eq!(timeline.drain_settled().count(), 0);
    }

    #[test]
    fn the_oldest_features_are_dropped_when_it_is_full_or_they_are_past() {
        let mut timeline = FeatureTimeline::with_capacity(5);
        timeline.extend((0..8).map(|i| at(40 * i, 0.0)));
        assert_eq!(timeline.iter().next(), Some(&at(120, 0.0)));
        timeline.remove_before(at(210, 0.0).time, 2);
        assert_eq!(timeline.drain(), [160, 200, 240, 280].map(|ms| at(ms, 0.0)));
    }
}
