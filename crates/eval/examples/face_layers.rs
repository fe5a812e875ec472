//! Measures the benefit of each layer of a face file, and renders the first layer, all layers and the
//! frame side by side.
//!
//! `cargo run --release -p eval --example face_layers -- assets/demo.face actor 1275..1375
//! docs/images/layers.jpg`
//!
//! The frames are tracked with the complete face, as by its owner, and rendered from the first layers
//! only, as by a peer who has received no more. Features are not quantized. Leave the last argument
//! out for people who have not consented to a picture.

use std::path::PathBuf;

use anyhow::Context;
use capture::{Source, SourceSpec};
use face::{DEFAULT_SAMPLES, FaceFile, FaceModel, psnr_db, render_cpu};
use image::{ImageFormat, RgbImage};
use track::{PersonTracker, RefinementBudget};
use types::{Feature, SquareFrame};

const SIDE: u32 = 256;
/// Frames before the first one that the tracker sees, so that it has settled as in a call.
const WARM_UP: usize = 50;
/// One frame in this many is rendered.
const STRIDE: usize = 5;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let face = args.next().context("missing argument: the face file")?;
    let clip = args.next().context("missing argument: the clip, or actor")?;
    let frames = args.next().context("missing argument: the frames, A..B")?;
    let picture = args.next().map(PathBuf::from);
    let (first, end) = frames.split_once("..").context("missing argument: the frames, A..B")?;
    let (first, end): (usize, usize) = (first.parse()?, end.parse()?);

    let file = FaceFile::parse(&std::fs::read(&face)?)?;
    let sender = file.sender.as_deref().context("the face file has no sender part")?;
    let mut tracker = PersonTracker::new(sender, &file.model)?;
    let spec =
        if clip == "actor" { SourceSpec::Actor } else { SourceSpec::Clip(clip.clone().into()) };
    let mut source = Source::open(&spec)?;
    let mut seen: Vec<(SquareFrame, Feature)> = Vec::new();
    for idx in 0..end {
        let Some(frame) = source.next_frame()? else { break };
        if idx + WARM_UP < first {
            continue;
        }
        let feature = tracker.track(&frame, RefinementBudget::Full).feature();
        if idx >= first
            && (idx - first).is_multiple_of(STRIDE)
            && let Some(feature) = feature
        {
            seen.push((frame.resized_smooth(SIDE), feature));
        }
    }
    anyhow::ensure!(!seen.is_empty(), "no face was found in these frames");

    let public = file.public_bytes();
    let layers = file.info().layers;
    let complete = rendered(&file.model, &seen)?;
    println!("{} frames of {clip}, {face}", seen.len());
    println!("layers    bytes    dB to the frames    dB to all layers");
    let mut coarsest = None;
    for (idx, layer) in layers.iter().enumerate() {
        let model = FaceFile::parse(&public[..layer.bytes_to_here])?.model;
        let pictures = rendered(&model, &seen)?;
        let to_frames = mean(pictures.iter().zip(&seen).map(|(p, (frame, _))| psnr_db(p, frame)));
        let to_complete = mean(pictures.iter().zip(&complete).map(|(p, q)| psnr_db(p, q)));
        println!(
            "{} of {} {:>8}    {to_frames:>8.2}    {to_complete:>8.2}",
            idx + 1,
            layers.len(),
            layer.bytes_to_here
        );
        coarsest.get_or_insert(pictures);
    }
    if let (Some(path), Some(coarsest)) = (picture, coarsest) {
        let middle = seen.len() / 2;
        let row = [&coarsest[middle], &complete[middle], &seen[middle].0];
        let mut strip = RgbImage::new(SIDE * 3, SIDE);
        for (column, frame) in (0..).zip(row) {
            for (y, line) in (0..).zip(frame.rgb().chunks_exact(3 * SIDE as usize)) {
                for (x, rgb) in (column * SIDE..).zip(line.as_chunks::<3>().0) {
                    strip.put_pixel(x, y, image::Rgb(*rgb));
                }
            }
        }
        strip.save_with_format(path, ImageFormat::Jpeg)?;
    }
    Ok(())
}

fn rendered(
    model: &FaceModel,
    seen: &[(SquareFrame, Feature)],
) -> anyhow::Result<Vec<SquareFrame>> {
    seen.iter()
        .map(|(_, feature)| {
            let picture = render_cpu(model, &model.frame_inputs(feature), SIDE, DEFAULT_SAMPLES);
            Ok(SquareFrame::from_colors(SIDE, feature.time, &picture)?)
        })
        .collect()
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len() as f64;
    values.sum::<f64>() / n
}
