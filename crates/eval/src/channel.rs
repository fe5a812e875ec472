use std::ops::Range;
use std::path::Path;

use codec::Profile;
use face::FaceFile;
use serde::Serialize;
use track::RefinementBudget;
use types::{Feature, MediaTime};

use crate::clip::{ClipReader, WARM_UP, frames_of, sender_of};
use crate::{Paint, Progress, Scorer, Summary};

/// Sends features and gives what the other side shows for the time of each, if anything.
///
/// The features are those of consecutive frames, the first at time zero.
pub type Transmit<'a> = &'a dyn Fn(&[Feature], &Profile) -> Vec<Option<Feature>>;

/// A way for units to take, with its name.
pub struct Channel<'a> {
    /// What a report calls it.
    pub name: String,
    /// What it does.
    pub transmit: Transmit<'a>,
}

/// What is seen at the end of a channel.
#[derive(Clone, Debug, Serialize)]
pub struct ChannelReport {
    /// The channel's name.
    pub channel: String,
    /// Frames that were scored: all but those before the first picture.
    pub n_scored: usize,
    /// Means over these frames, whole pictures.
    #[serde(flatten)]
    pub quality: Summary,
    /// PSNR less than that of the first channel's, over the frames that both show.
    pub lost_db: f64,
}

/// Measures what peers at the ends of several channels see of the same clip.
///
/// Every frame's picture is the one that playout shows for its time, against the frame; the clip
/// is read twice.
///
/// # Errors
/// If the clip cannot be read or shows no face in these frames, the face file cannot send, or
/// `paint` fails.
pub fn compare_channels(
    clip: &Path,
    face: &FaceFile,
    frames: Option<Range<u64>>,
    side: u32,
    channels: &[Channel<'_>],
    paint: Paint<'_>,
    progress: Progress<'_>,
) -> anyhow::Result<Vec<ChannelReport>> {
    let (mut tracker, profile) = sender_of(face)?;
    let mut reader = ClipReader::open(clip)?;
    let frames = frames_of(&reader, frames)?;
    let mut features: Vec<(u64, Feature)> = Vec::new();
    while let Some((index, frame)) = reader.next()?
        && index < frames.end
    {
        if index + WARM_UP < frames.start {
            continue;
        }
        let feature = tracker.track(&frame, RefinementBudget::Full).feature();
        features.extend(feature.filter(|_| index >= frames.start).map(|f| (index, f)));
        progress("track", reader.fraction(Some(frames.end)), &format!("frame {index}"));
    }
    let first = features.first().map(|(_, feature)| feature.time);
    let Some(first) = first else { anyhow::bail!("no face was found in frames {frames:?}") };
    let sent: Vec<Feature> = features
        .iter()
        .map(|(_, feature)| {
            let since = feature.time.as_micros() - first.as_micros();
            Feature { time: MediaTime::from_micros(since), ..*feature }
        })
        .collect();
    let shown: Vec<_> =
        channels.iter().map(|channel| (channel.transmit)(&sent, &profile)).collect();

    let mut scorers = vec![Scorer::default(); channels.len()];
    let mut n_both = vec![0_usize; channels.len()];
    let mut lost = vec![0.0; channels.len()];
    let mut reader = ClipReader::open(clip)?;
    let mut at = 0;
    while let Some((index, frame)) = reader.next()?
        && at < features.len()
    {
        if features[at].0 != index {
            continue;
        }
        let reference = frame.resized_smooth(side);
        let mut of_first = None;
        for (i, shown) in shown.iter().enumerate() {
            let Some(feature) = shown.get(at).copied().flatten() else { continue };
            let psnr_db = scorers[i].push(&reference, &paint(&feature, side)?).psnr_db;
            of_first = if i == 0 { Some(psnr_db) } else { of_first };
            if let Some(of_first) = of_first {
                lost[i] += of_first - psnr_db;
                n_both[i] += 1;
            }
        }
        at += 1;
        progress("evaluate", reader.fraction(Some(frames.end)), "");
    }
    let reports = channels.iter().zip(&scorers).zip(lost.iter().zip(&n_both));
    Ok(reports
        .map(|((channel, scorer), (lost, n_both))| ChannelReport {
            channel: channel.name.clone(),
            n_scored: scorer.scores().len(),
            quality: Summary::of(scorer.scores()),
            lost_db: lost / (*n_both).max(1) as f64,
        })
        .collect())
}
