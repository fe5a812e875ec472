//! `feathercall encode` and `decode`: the code path of a call, with a file in place of the network.

use std::path::Path;

use anyhow::Context;
use capture::{Source, SourceSpec};
use face::Background;
use serde_json::json;
use types::Rate;

use super::stream::{self, AtRate};
use crate::cli::Resolution;
use crate::destination::{self, Destination, Kind};
use crate::face_files;
use crate::face_renderer::FaceRenderer;
use crate::progress::ProgressDisplay;

/// Encodes a clip as a stream of access units.
pub(super) fn encode(
    clip: &Path,
    face: &Path,
    out: &Path,
    rate: Rate,
    is_forced: bool,
    is_json: bool,
) -> anyhow::Result<()> {
    let destination = Destination { option: "--out", path: out, kind: Kind::Stream };
    destination::check(&[destination], &[clip, face], is_forced)?;
    let face = face_files::read(face)?;
    let mut progress = ProgressDisplay::new(is_json);
    let source = SourceSpec::Clip(clip.to_owned());
    let n_frames = Source::open(&source)?.n_frames();
    let stream = call::encode_stream(&source, &face, rate, |done| {
        let share = n_frames.map_or(0.0, |n| done as f32 / n.max(1) as f32);
        progress.report("encode", share, &format!("{done} frames"));
    })
    .with_context(|| format!("cannot encode {}", clip.display()))?;
    progress.finish();
    let (Some((first, _)), Some((last, _))) = (stream.units.first(), stream.units.last()) else {
        anyhow::bail!("no face was found in {}", clip.display());
    };
    capture::write_file(out, &stream.to_bytes())?;
    let bytes = stream.payload_bytes();
    // The last unit counts with the mean interval of the others.
    let span = last.saturating_since(*first).as_secs_f64();
    let seconds = span * stream.units.len() as f64 / (stream.units.len() - 1).max(1) as f64;
    let (name, n_units) = (out.display().to_string(), stream.units.len());
    let kbps = bytes as f64 * 8e-3 / seconds.max(1e-3);
    if is_json {
        let row = json!({ "out": name, "units": n_units, "bytes": bytes, "payload_kbps": kbps });
        println!("{row}");
    } else {
        println!("{name}: {n_units} units, {bytes} bytes, {kbps:.3} kbit/s of payload");
    }
    Ok(())
}

/// How `decode` renders a stream.
pub(super) struct DecodeOptions<'a> {
    pub(super) resolution: Resolution,
    pub(super) background: &'a Background,
    /// Pictures per second.
    pub(super) fps: u32,
    /// Whether more than an hour of video is rendered without a question.
    pub(super) is_agreed: bool,
    /// Whether a file of another kind is replaced.
    pub(super) is_forced: bool,
    /// Whether progress and result are printed as JSON lines.
    pub(super) is_json: bool,
}

/// Renders a stream of access units to a video file or a folder of pictures, one picture after
/// another.
pub(super) fn decode(
    stream: &Path,
    face: &Path,
    out: &Path,
    options: &DecodeOptions<'_>,
) -> anyhow::Result<()> {
    let destination = Destination { option: "--out", path: out, kind: Kind::Clip };
    destination::check(&[destination], &[stream, face], options.is_forced)?;
    let face = face_files::read(face)?;
    let decoder = stream::open(stream, &face)?;
    let n_frames = stream::agreed_length(&decoder, options.fps, options.is_agreed)?;
    let mut renderer = FaceRenderer::new(face.model.with_background(options.background).into());
    renderer.set_side(options.resolution.side(256));
    let mut writer = capture::ClipWriter::create(out, options.fps)?;
    let mut progress = ProgressDisplay::new(options.is_json);
    let mut n_done = 0;
    for feature in AtRate::new(decoder, options.fps) {
        let feature =
            feature.with_context(|| format!("cannot decode the stream {}", stream.display()))?;
        let frame = renderer.render_frame(&feature)?;
        writer.push(&frame)?;
        n_done += 1;
        let share = n_done as f32 / n_frames as f32;
        progress.report("decode", share, &format!("{n_done} of {n_frames} pictures"));
    }
    progress.finish();
    for path in writer.finish()? {
        let (name, renderer) = (path.display().to_string(), renderer.name());
        if options.is_json {
            println!("{}", json!({ "out": name, "frames": n_done, "renderer": renderer }));
        } else {
            println!("{name}: {n_done} frames, rendered by {renderer}");
        }
    }
    Ok(())
}
