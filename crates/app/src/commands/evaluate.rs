//! `feathercall eval`

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use call::{Loss, Path as NetworkPath, simulate};
use eval::{Channel, ChannelReport, Curves, EvalOptions};
use types::Rate;

use crate::destination::{self, Destination, Kind};
use crate::face_files;
use crate::face_renderer::FaceRenderer;
use crate::progress::ProgressDisplay;

/// Checks where an evaluation writes, before it begins.
///
/// # Errors
/// As for [`destination::check`].
pub(super) fn check_folders(
    clip: &Path,
    face: &Path,
    report: Option<&Path>,
    curves: Option<&Path>,
    is_forced: bool,
) -> anyhow::Result<()> {
    let report = report.map(|path| Destination { option: "--report", path, kind: Kind::Report });
    let curves = curves.map(|path| Destination { option: "--curve", path, kind: Kind::Curves });
    let destinations: Vec<_> = report.into_iter().chain(curves).collect();
    destination::check(&destinations, &[clip, face], is_forced)
}

/// Evaluates a face on a clip.
pub(super) fn run(
    clip: &Path,
    face: &Path,
    options: &EvalOptions,
    n_samples: u32,
    is_json: bool,
    report_folder: Option<&Path>,
) -> anyhow::Result<()> {
    let file = face_files::read(face)?;
    let mut renderer = FaceRenderer::new(Arc::new(file.model.clone()));
    renderer.set_samples(n_samples);
    let mut progress = ProgressDisplay::new(is_json);
    let report = eval::evaluate(
        clip,
        &file,
        options,
        &mut |feature, side| renderer.render_frame_at(feature, side),
        &mut |stage, share, detail| progress.report(stage, share, detail),
    )?;
    progress.finish();
    if is_json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{}", report.to_markdown());
    }
    // Last, because a result that cannot be written is still shown.
    report_folder.map_or(Ok(()), |folder| report.write(folder))
}

/// Describes the loss of a share of the packets, in bursts of a length or independently.
pub(super) fn loss(share: f64, burst: Option<Duration>) -> Loss {
    match burst {
        Some(length) if share > 0.0 => Loss::Bursts { period: length.div_f64(share), length },
        _ => Loss::Random(share),
    }
}

/// Compares the picture quality of a clip over a channel with and without packet loss, which affects
/// both directions.
pub(super) fn lossy(
    clip: &Path,
    face: &Path,
    frames: Option<Range<u64>>,
    side: u32,
    rate: Rate,
    loss: Loss,
    is_json: bool,
) -> anyhow::Result<()> {
    let file = face_files::read(face)?;
    let mut renderer = FaceRenderer::new(Arc::new(file.model.clone()));
    renderer.set_side(side);
    let mut progress = ProgressDisplay::new(is_json);
    let over = |loss: Loss| {
        move |features: &[types::Feature], profile: &_| {
            let path = NetworkPath { seed: 42, ..NetworkPath::clean() }
                .with_jitter(Duration::from_millis(15))
                .with_loss(loss);
            let report = simulate(Instant::now(), features, features, profile, rate, path);
            report.shown.into_iter().map(|shown| Some(shown?.0)).collect()
        }
    };
    let channels = [
        Channel { name: "no loss".to_owned(), transmit: &over(Loss::Random(0.0)) },
        Channel { name: name(loss), transmit: &over(loss) },
    ];
    let reports = eval::compare_channels(
        clip,
        &file,
        frames,
        side,
        &channels,
        &mut |feature, _| renderer.render_frame(feature),
        &mut |stage, share, detail| progress.report(stage, share, detail),
    )?;
    progress.finish();
    if is_json {
        println!("{}", serde_json::to_string(&reports)?);
        return Ok(());
    }
    print!("{}", ChannelReport::table(&format!("channel, rate {rate}"), &reports));
    Ok(())
}

fn name(loss: Loss) -> String {
    match loss {
        Loss::Random(share) => format!("{:.0} % lost", share * 100.0),
        Loss::Bursts { period, length } => {
            format!("{} ms in every {} ms lost", length.as_millis(), period.as_millis())
        }
    }
}

/// Measures rate-distortion curves of a face and of the video codecs of ffmpeg.
pub(super) fn curves(
    clip: &Path,
    face: &Path,
    frames: Option<Range<u64>>,
    folder: &Path,
    is_json: bool,
) -> anyhow::Result<()> {
    let file = face_files::read(face)?;
    let mut renderer = FaceRenderer::new(Arc::new(file.model.clone()));
    let mut progress = ProgressDisplay::new(is_json);
    let curves = Curves::measure(
        clip,
        &file,
        frames,
        folder,
        &mut |feature, side| renderer.render_frame_at(feature, side),
        &mut |stage, share, detail| progress.report(stage, share, detail),
    )?;
    progress.finish();
    for missing in curves.missing() {
        eprintln!("left out: {missing}");
    }
    if is_json {
        println!("{}", serde_json::to_string(&curves)?);
    } else {
        print!("{}", curves.to_markdown());
    }
    curves.write(folder)
}
