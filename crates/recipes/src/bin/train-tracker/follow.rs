//! Accuracy of the tracker on the held-out ends of the clips.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use face_shape::FaceShape;
use track::{LandmarkNet, Tracker};

use crate::clips::{self, Clip};
use crate::evaluate::{distance, mean, quantile};

/// Largest motion of the rigid points of a still face, between the means of three frames six frames
/// apart, relative to the distance of the outer eye corners.
const STILL: f32 = 0.015;
/// Parts of the face whose errors are reported separately, with their landmarks.
const PARTS: [(&str, &[usize]); 4] = [
    ("eye corners", &[33, 133, 362, 263]),
    ("iris", &[468, 473]),
    ("mouth", &[61, 291, 13, 14]),
    ("lids", &[159, 145, 386, 374]),
];

/// Result of tracking a clip.
struct TrackedClip {
    /// Landmarks of each frame; `None` if no face was found.
    found: Vec<Option<Vec<[f32; 3]>>>,
    labels: Vec<Vec<[f32; 3]>>,
    times_ms: Vec<f32>,
}

/// Tracks the held-out end of every clip and prints one line of errors for each.
pub(crate) fn evaluate_clips(net: &LandmarkNet, folder: &Path) -> Result<()> {
    let rigid = FaceShape::builtin()?.rigid().to_vec();
    let mut errors = Vec::new();
    for clip in clips::open(folder)? {
        let track = track_held_out(net, &clip)?;
        errors.push(report(&clip.name, &track, &rigid));
    }
    println!("mean of the clips: {:.2} %", 100.0 * mean(&errors));
    Ok(())
}

/// Tracks the held-out frames of a clip.
fn track_held_out(net: &LandmarkNet, clip: &Clip) -> Result<TrackedClip> {
    let mut tracker = Tracker::new(net.clone());
    let mut track = TrackedClip { found: Vec::new(), labels: Vec::new(), times_ms: Vec::new() };
    let first = clip.n_training_frames();
    clip.each_frame(|at, frame, labels| {
        if at >= first {
            let started = Instant::now();
            let found = tracker.track(frame);
            track.times_ms.push(1e3 * started.elapsed().as_secs_f32());
            track.found.push(found.map(|f| f.points));
            track.labels.push(labels.to_vec());
        }
        true
    })?;
    Ok(track)
}

/// Prints the errors of a clip and returns their mean, relative to the outer eye corners.
fn report(name: &str, track: &TrackedClip, rigid: &[usize]) -> f32 {
    let seen = track.found.iter().zip(&track.labels).filter_map(|(f, l)| Some((f.as_ref()?, l)));
    let error_of = |points: &[usize]| -> Vec<f32> {
        seen.clone()
            .map(|(found, label)| {
                let sum: f32 = points.iter().map(|&i| distance(found[i], label[i])).sum();
                sum / points.len() as f32 / distance(label[33], label[263])
            })
            .collect()
    };
    let all: Vec<usize> = (0..track.labels[0].len()).collect();
    let errors = error_of(&all);
    let parts: Vec<String> = PARTS
        .iter()
        .map(|(part, points)| format!("{part} {:.2}", 100.0 * mean(&error_of(points))))
        .collect();
    let [still, moving] = [true, false].map(|still| {
        let (tracked, label, n) = jitter(track, rigid, still);
        format!("{tracked:.2} / {label:.2} px = {:.2} ({n})", tracked / label)
    });
    println!(
        "{name}: {} frames, {} missed; {:.2} % (95th {:.2}); {}; jitter still {still}, moving \
         {moving}; first frame {:.1} ms, then median {:.1}, 95th {:.1}",
        track.found.len(),
        track.found.iter().filter(|f| f.is_none()).count(),
        100.0 * mean(&errors),
        100.0 * quantile(&errors, 0.95),
        parts.join(", "),
        track.times_ms[0],
        quantile(&track.times_ms[1..], 0.5),
        quantile(&track.times_ms[1..], 0.95),
    );
    mean(&errors)
}

/// Computes the root mean square of the rigid points' second difference in time, in pixels, over still or
/// over moving frames. Returns that of the tracker, that of the labels, and the number of frames.
fn jitter(track: &TrackedClip, rigid: &[usize], still: bool) -> (f32, f32, usize) {
    let (mut tracked, mut labels, mut n) = (0.0, 0.0, 0);
    for at in 4..track.labels.len().saturating_sub(4) {
        let near = track.found[at - 1..=at + 1].iter().flatten().collect::<Vec<_>>();
        let [before, here, after] = near.as_slice() else { continue };
        if is_still(&track.labels[at - 4..=at + 4], rigid) != still {
            continue;
        }
        let second_difference = |p: &[[f32; 3]], q: &[[f32; 3]], r: &[[f32; 3]]| {
            let square =
                |i: usize| (0..2).map(|c| (p[i][c] - 2.0 * q[i][c] + r[i][c]).powi(2)).sum::<f32>();
            rigid.iter().map(|&i| square(i)).sum::<f32>() / rigid.len() as f32
        };
        tracked += second_difference(before, here, after);
        labels +=
            second_difference(&track.labels[at - 1], &track.labels[at], &track.labels[at + 1]);
        n += 1;
    }
    ((tracked / n as f32).sqrt(), (labels / n as f32).sqrt(), n)
}

/// Returns whether the rigid points of nine frames are still except for noise.
fn is_still(labels: &[Vec<[f32; 3]>], rigid: &[usize]) -> bool {
    let mean_point = |frames: &[Vec<[f32; 3]>], i: usize| {
        let mut sum = [0.0; 3];
        for frame in frames {
            (0..2).for_each(|c| sum[c] += frame[i][c] / frames.len() as f32);
        }
        sum
    };
    let moved: f32 = rigid
        .iter()
        .map(|&i| distance(mean_point(&labels[..3], i), mean_point(&labels[6..], i)))
        .sum();
    moved / rigid.len() as f32 <= STILL * distance(labels[4][33], labels[4][263])
}
