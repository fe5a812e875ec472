//! `feathercall eval`

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use call::{Loss, Path as NetworkPath, simulate};
use eval::Channel;
use types::Rate;

use crate::painter::Painter;
use crate::progress::Progress;

pub(super) fn run(
    clip: &Path,
    face: &Path,
    options: &eval::Options,
    n_samples: u32,
    is_json: bool,
    report_folder: Option<&Path>,
) -> anyhow::Result<()> {
    let file = super::read_face(face)?;
    let mut painter = Painter::new(Arc::new(file.model.clone()));
    painter.set_samples(n_samples);
    let mut progress = Progress::new(is_json);
    let report = eval::evaluate(
        clip,
        &file,
        options,
        &mut |feature, side| painter.paint_at(feature, side),
        &mut |stage, share, detail| progress.report(stage, share, detail),
    )?;
    progress.finish();
    if let Some(folder) = report_folder {
        eval::write_report(&report, folder)?;
    }
    if is_json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{}", report.to_markdown());
    }
    Ok(())
}

/// Losses of this share, in bursts or one by one.
pub(super) fn loss(share: f64, burst: Option<Duration>) -> Loss {
    match burst {
        Some(length) if share > 0.0 => Loss::Bursts { period: length.div_f64(share), length },
        _ => Loss::Random(share),
    }
}

/// What losses cost: the same clip over a good channel and a bad one, both ways alike.
pub(super) fn lossy(
    clip: &Path,
    face: &Path,
    frames: Option<Range<u64>>,
    side: u32,
    rate: Rate,
    loss: Loss,
    is_json: bool,
) -> anyhow::Result<()> {
    let file = super::read_face(face)?;
    let mut painter = Painter::new(Arc::new(file.model.clone()));
    painter.resize(side);
    let mut progress = Progress::new(is_json);
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
        Channel { name: "nothing lost".to_owned(), transmit: &over(Loss::Random(0.0)) },
        Channel { name: name(loss), transmit: &over(loss) },
    ];
    let reports = eval::compare_channels(
        clip,
        &file,
        frames,
        side,
        &channels,
        &mut |feature, _| painter.paint(feature),
        &mut |stage, share, detail| progress.report(stage, share, detail),
    )?;
    progress.finish();
    if is_json {
        println!("{}", serde_json::to_string(&reports)?);
        return Ok(());
    }
    println!("| channel, rate {rate} | frames | PSNR, dB | SSIM | lost, dB |");
    println!("| --- | --- | --- | --- | --- |");
    for report in reports {
        println!(
            "| {} | {} | {:.2} | {:.4} | {:.2} |",
            report.channel,
            report.n_scored,
            report.quality.psnr_db,
            report.quality.ssim,
            report.lost_db
        );
    }
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

/// Rate and distortion, beside the codecs of an ffmpeg.
pub(super) fn curves(
    clip: &Path,
    face: &Path,
    frames: Option<Range<u64>>,
    folder: &Path,
    is_json: bool,
) -> anyhow::Result<()> {
    let file = super::read_face(face)?;
    let mut painter = Painter::new(Arc::new(file.model.clone()));
    let mut progress = Progress::new(is_json);
    let curves = eval::write_curves(
        clip,
        &file,
        frames,
        folder,
        &mut |feature, side| painter.paint_at(feature, side),
        &mut |stage, share, detail| progress.report(stage, share, detail),
    )?;
    progress.finish();
    for missing in &curves.missing {
        eprintln!("left out: {missing}");
    }
    if is_json {
        println!("{}", serde_json::to_string(&curves)?);
        return Ok(());
    }
    println!("| codec | setting | side, px | kbit/s | PSNR, dB | SSIM |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for point in &curves.points {
        println!(
            "| {} | {} | {} | {:.2} | {:.2} | {:.4} |",
            point.codec, point.setting, point.side, point.kbit_s, point.psnr_db, point.ssim
        );
    }
    Ok(())
}
