use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;

use codec::Profile;
use face::FaceFile;
use serde::Serialize;
use track::RefinementBudget;
use types::{Feature, MediaTime};

use crate::callbacks::{Paint, Progress};
use crate::clip::{ClipReader, WARM_UP, sender_of};
use crate::score::{MeanScore, Scorer};

/// Simulated channel between two peers.
pub struct Channel<'a> {
    /// Name in the report.
    pub name: String,
    /// Sends features, in order and the first at time zero, through encoder, channel and playout.
    /// Returns for each the feature that the receiver shows at its time, if any. Frames without a
    /// face have no feature, so there may be gaps in time.
    #[expect(clippy::type_complexity, reason = "a function type says it best")]
    pub transmit: &'a dyn Fn(&[Feature], &Profile) -> Vec<Option<Feature>>,
}

/// Picture quality at the receiving end of one channel: mean PSNR and SSIM, and the PSNR lost
/// against the first channel.
#[derive(Clone, Debug, Serialize)]
pub struct ChannelReport {
    /// Name of the channel.
    pub(crate) channel: String,
    /// Frames scored: all from the first picture of the receiver.
    pub(crate) n_scored: usize,
    /// Means over these frames, whole pictures.
    #[serde(flatten)]
    pub(crate) quality: MeanScore,
    /// PSNR of the first channel less that of this one, dB, over the frames that both show.
    pub(crate) lost_db: f64,
}

impl ChannelReport {
    /// Returns the reports as a Markdown table; `title` heads the column of names.
    pub fn table(title: &str, reports: &[Self]) -> String {
        let mut table = format!(
            "| {title} | frames | PSNR, dB | SSIM | lost, dB |\n| --- | --- | --- | --- | --- |\n"
        );
        for Self { channel, n_scored, quality, lost_db } in reports {
            let (psnr_db, ssim) = (quality.psnr_db, quality.ssim);
            let _ = writeln!(
                table,
                "| {channel} | {n_scored} | {psnr_db:.2} | {ssim:.4} | {lost_db:.2} |"
            );
        }
        table
    }
}

/// Compares what receivers at the ends of several channels see of the same clip.
///
/// Scores, for every frame with a face, the picture that playout shows at its time against the
/// frame at `side` x `side` pixels. The clip is read twice. `None` for `frames` is the whole clip.
///
/// # Errors
/// If the clip cannot be read or shows no face in these frames, if the face file has no sender
/// part, or if `paint` fails.
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
    let frames = reader.frame_range(frames)?;
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
            quality: MeanScore::of(scorer.scores()),
            lost_db: lost / (*n_both).max(1) as f64,
        })
        .collect())
}
