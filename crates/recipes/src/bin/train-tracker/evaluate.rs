//! Accuracy of the landmark network on held-out faces.

use std::collections::BTreeMap;

use rayon::prelude::*;
use track::{Crop, Detection, LandmarkNet, Tape};

use crate::faces::{Face, SIDE};

/// Mean distance of the landmarks of one face from their labels, normalized in two ways.
#[derive(Clone, Copy)]
pub(crate) struct FaceError {
    /// Relative to the distance of the outer eye corners, 33 and 263.
    pub(crate) by_corners: f32,
    /// Relative to the distance of the iris centers, 468 and 473.
    pub(crate) by_irises: f32,
}

/// Errors on a set of faces.
pub(crate) struct AccuracyReport {
    /// Errors after the first and after the second, aligned pass.
    passes: [Vec<FaceError>; 2],
    /// Groups of each face.
    groups: Vec<Vec<String>>,
    presence: Vec<f32>,
    disagreement: Vec<f32>,
    mean_spread: Vec<f32>,
    /// Expected and true error of every landmark in the second pass, relative to the outer eye corners.
    spread: Vec<[f32; 2]>,
}

/// Runs the network as the tracker does: on an upright crop, then on a crop aligned by its own output.
pub(crate) fn evaluate(net: &LandmarkNet, faces: &[Face]) -> AccuracyReport {
    let found: Vec<([FaceError; 2], Detection)> = faces
        .par_iter()
        .map_init(Tape::default, |tape, face| {
            let center = SIDE as f32 / 2.0;
            let mut crop = Crop::upright([center; 2], SIDE as f32);
            let mut errors = [FaceError { by_corners: 9.0, by_irises: 9.0 }; 2];
            let mut last = None;
            for error in &mut errors {
                let seen = net.detect(face, &crop, tape);
                *error = compare(&seen.points, &face.points);
                crop = Crop::aligning(net.mean_shape(), &seen.points).unwrap_or(crop);
                last = Some(seen);
            }
            (errors, last.expect("there are two passes"))
        })
        .collect();
    let spread = found.iter().zip(faces).flat_map(|((_, seen), face)| {
        let eyes = distance(face.points[33], face.points[263]);
        let pairs = seen.points.iter().zip(&face.points).zip(&seen.spread);
        pairs.map(move |((p, q), spread)| [spread / eyes, distance(*p, *q) / eyes])
    });
    AccuracyReport {
        passes: [0, 1].map(|p| found.iter().map(|(errors, _)| errors[p]).collect()),
        spread: spread.collect(),
        groups: faces.iter().map(groups).collect(),
        presence: found.iter().map(|(_, seen)| seen.presence).collect(),
        disagreement: found.iter().map(|(_, seen)| seen.mirror_disagreement).collect(),
        mean_spread: found.iter().map(|(_, seen)| seen.mean_spread).collect(),
    }
}

/// Returns the groups of a face: kind of source, color or gray, range of yaw.
fn groups(face: &Face) -> Vec<String> {
    let (right, left) = (face.points[234], face.points[454]);
    let yaw = (left[2] - right[2]).atan2(left[0] - right[0]).to_degrees().abs();
    let turn = match yaw {
        0.0..10.0 => "yaw under 10",
        10.0..20.0 => "yaw 10 to 20",
        20.0..30.0 => "yaw 20 to 30",
        _ => "yaw over 30",
    };
    let color = if face.gray { "gray" } else { "color" };
    vec![face.kind.clone(), color.to_owned(), turn.to_owned()]
}

/// Returns the distance of two points in the `x, y` plane.
pub(crate) fn distance(a: [f32; 3], b: [f32; 3]) -> f32 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

/// Compares landmarks with their labels.
fn compare(found: &[[f32; 3]], label: &[[f32; 3]]) -> FaceError {
    let sum: f32 = found.iter().zip(label).map(|(a, b)| distance(*a, *b)).sum();
    let mean = sum / label.len() as f32;
    FaceError {
        by_corners: mean / distance(label[33], label[263]),
        by_irises: mean / distance(label[468], label[473]),
    }
}

impl AccuracyReport {
    /// Formats one line: mean and median error of both passes in per cent, the mean of each group,
    /// quantiles of presence, mirror disagreement and mean spread, and the calibration of the expected errors.
    pub(crate) fn line(&self) -> String {
        let mut by_group: BTreeMap<&str, Vec<f32>> = BTreeMap::new();
        for (groups, error) in self.groups.iter().zip(&self.passes[1]) {
            for group in groups {
                by_group.entry(group).or_default().push(error.by_corners);
            }
        }
        let groups: Vec<String> = by_group
            .iter()
            .map(|(group, errors)| {
                format!("{group} {:.2} ({})", 100.0 * mean(errors), errors.len())
            })
            .collect();
        let corners = self.passes.each_ref().map(|errors| values(errors, |e| e.by_corners));
        let irises = values(&self.passes[1], |e| e.by_irises);
        format!(
            "pass 1 {:.2} % (median {:.2}), pass 2 {:.2} % (median {:.2}, p90 {:.2}), by irises {:.2} %; {}; presence p1 {:.3}, mirror disagreement p50 {:.4} p99 {:.4}, mean spread p50 {:.3} p99 {:.3} max {:.3}; {}",
            100.0 * mean(&corners[0]),
            100.0 * quantile(&corners[0], 0.5),
            100.0 * mean(&corners[1]),
            100.0 * quantile(&corners[1], 0.5),
            100.0 * quantile(&corners[1], 0.9),
            100.0 * mean(&irises),
            groups.join(", "),
            quantile(&self.presence, 0.01),
            quantile(&self.disagreement, 0.5),
            quantile(&self.disagreement, 0.99),
            quantile(&self.mean_spread, 0.5),
            quantile(&self.mean_spread, 0.99),
            quantile(&self.mean_spread, 1.0),
            self.spread_line(),
        )
    }

    /// Formats expected against true errors for the tenth of the landmarks with the smallest expected
    /// error, for all, and for the tenth with the largest.
    fn spread_line(&self) -> String {
        let mut pairs = self.spread.clone();
        pairs.sort_by(|a, b| a[0].total_cmp(&b[0]));
        let tenth = pairs.len() / 10;
        let parts = [&pairs[..tenth], &pairs[..], &pairs[pairs.len() - tenth..]].map(|part| {
            let mean_of = |i: usize| mean(&part.iter().map(|p| p[i]).collect::<Vec<_>>());
            format!("{:.2}/{:.2}", 100.0 * mean_of(0), 100.0 * mean_of(1))
        });
        format!("expected/true % of the best tenth, all, worst tenth: {}", parts.join(", "))
    }
}

/// Returns one measure of each error.
fn values(errors: &[FaceError], pick: impl Fn(&FaceError) -> f32) -> Vec<f32> {
    errors.iter().map(pick).collect()
}

/// Returns the mean; zero without values.
pub(crate) fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len().max(1) as f32
}

/// Returns the quantile at `share` (0..=1); NaN without values.
pub(crate) fn quantile(values: &[f32], share: f32) -> f32 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    sorted.get(((sorted.len().max(1) - 1) as f32 * share) as usize).copied().unwrap_or(f32::NAN)
}
