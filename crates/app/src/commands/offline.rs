//! `feathercall encode` and `decode`: the code path of a call, with a file in place of the network.

use std::path::Path;

use anyhow::Context;
use capture::{Source, SourceSpec};
use face::{Background, FaceFile};
use types::{Feature, MediaTime, Rate};

use crate::cli::Resolution;
use crate::face_files;
use crate::face_renderer::FaceRenderer;
use crate::progress::ProgressDisplay;

/// Encodes a clip as a stream of access units.
pub(super) fn encode(clip: &Path, face: &Path, out: &Path, rate: Rate) -> anyhow::Result<()> {
    let face = face_files::read(face)?;
    let mut progress = ProgressDisplay::new(false);
    let source = SourceSpec::Clip(clip.to_owned());
    let n_frames = Source::open(&source)?.n_frames();
    let stream = call::encode_stream(&source, &face, rate, |done| {
        let share = n_frames.map_or(0.0, |n| done as f32 / n.max(1) as f32);
        progress.report("encode", share, &format!("{done} frames"));
    })
    .with_context(|| format!("cannot encode {}", clip.display()))?;
    progress.finish();
    capture::write_file(out, &stream.to_bytes())?;
    let bytes = stream.payload_bytes();
    let (Some((first, _)), Some((last, _))) = (stream.units.first(), stream.units.last()) else {
        anyhow::bail!("no face was found in {}", clip.display());
    };
    // The last unit counts with the mean interval of the others.
    let span = last.saturating_since(*first).as_secs_f64();
    let seconds = span * stream.units.len() as f64 / (stream.units.len() - 1).max(1) as f64;
    println!(
        "{}: {} units, {bytes} bytes, {:.3} kbit/s of payload",
        out.display(),
        stream.units.len(),
        bytes as f64 * 8e-3 / seconds.max(1e-3)
    );
    Ok(())
}

/// Decodes a recorded stream to features at `fps` per second.
pub(super) fn read_stream(path: &Path, face: &FaceFile, fps: u32) -> anyhow::Result<Vec<Feature>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let features = call::decode_stream(&bytes, face)
        .with_context(|| format!("cannot decode the stream {}", path.display()))?;
    let (Some(first), Some(last)) = (features.iter().next(), features.newest_time()) else {
        return Ok(Vec::new());
    };
    let (start, end) = (first.time.as_micros(), last.as_micros());
    let step = usize::try_from(MediaTime::of_frame(1, fps).as_micros())?;
    let times = (start..=end).step_by(step).map(MediaTime::from_micros);
    Ok(times.filter_map(|time| features.at(time)).collect())
}

/// Renders a stream of access units to a video file or a folder of pictures.
pub(super) fn decode(
    stream: &Path,
    face: &Path,
    out: &Path,
    resolution: Resolution,
    background: &Background,
    fps: u32,
) -> anyhow::Result<()> {
    let face = face_files::read(face)?;
    let features = read_stream(stream, &face, fps)?;
    let mut renderer = FaceRenderer::new(face.model.with_background(background).into());
    renderer.set_side(resolution.side(256));
    let mut writer = capture::ClipWriter::create(out, fps)?;
    let mut progress = ProgressDisplay::new(false);
    let n_frames = features.len();
    for (i, feature) in features.iter().enumerate() {
        let frame = renderer.render_frame(feature)?;
        writer.push(&frame)?;
        progress.report("decode", (i + 1) as f32 / n_frames as f32, "");
    }
    progress.finish();
    for path in writer.finish()? {
        println!("{}: {n_frames} frames, rendered by {}", path.display(), renderer.name());
    }
    Ok(())
}
