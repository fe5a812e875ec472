//! Training samples: crops around labelled faces, with random disturbances.

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageFormat};
use track::{Crop, LandmarkNet, Luma};

use crate::faces::{Face, Faces, SIDE};
use crate::shapes::MeanShape;
use numerics::SplitMix64;

const CROP_SIDE: usize = LandmarkNet::CROP_SIDE;
const PIXELS: usize = CROP_SIDE * CROP_SIDE;
/// Share of the samples without a face at the expected position.
const NEGATIVES: f32 = 0.15;
/// Share of the faces with a crop like that of the tracker's second pass.
const REFINED: f32 = 0.55;

/// Share of the faces that come from clips, if there are any; each clip has the same probability.
const FROM_CLIPS: f32 = 0.28;
/// Share of the faces that show an actor.
const FROM_ACTORS: f32 = 0.1;
/// Share of the samples with strong compression artifacts.
const CODED: f32 = 0.12;

/// Training sample.
pub(crate) struct TrainingSample {
    /// Normalized luma, `[CROP_SIDE][CROP_SIDE]`.
    pub(crate) crop: Vec<f32>,
    /// Landmarks; `None` if the sample shows no face.
    pub(crate) target: Option<LandmarkTarget>,
}

/// Landmarks of a sample.
pub(crate) struct LandmarkTarget {
    /// Offsets from the mean face, relative to the side of the crop, `[LANDMARKS][3]`.
    pub(crate) offsets: Vec<f32>,
    /// Distance of the outer eye corners of a frontal face of this size, relative to the crop.
    pub(crate) unit: f32,
}

/// Draws a sample; equal states of `rng` give equal samples.
pub(crate) fn draw(all: &Faces, mean: &MeanShape, rng: &mut SplitMix64) -> TrainingSample {
    let faces = all.train.as_slice();
    if rng.chance(NEGATIVES) {
        return TrainingSample { crop: negative(faces, mean, rng), target: None };
    }
    loop {
        let pool = if !all.actors.is_empty() && rng.chance(FROM_ACTORS) {
            &all.actors
        } else if !all.clips.is_empty() && rng.chance(FROM_CLIPS) {
            &all.clips[rng.index(all.clips.len())]
        } else {
            faces
        };
        let face = &pool[rng.index(pool.len())];
        let mirrored = rng.chance(0.5);
        let Some((crop, target)) = place(face, mean, mirrored, rng) else { continue };
        let mut picture = sample_crop(faces, face, &crop, rng);
        if mirrored {
            picture.chunks_exact_mut(CROP_SIDE).for_each(<[f32]>::reverse);
        }
        return TrainingSample { crop: expose(picture, faces, rng, 0.25), target: Some(target) };
    }
}

/// Places a crop around a face with the errors that the tracker may make; returns it with the landmarks.
///
/// `None` if the landmarks do not determine a crop.
pub(crate) fn place(
    face: &Face,
    mean: &MeanShape,
    mirrored: bool,
    rng: &mut SplitMix64,
) -> Option<(Crop, LandmarkTarget)> {
    let level = Crop::aligning(&mean.points, &face.points)?;
    let (angle, zoom, shift) = if rng.chance(REFINED) {
        let angle = (6.0 * rng.normal_fast()).clamp(-15.0, 15.0);
        (angle, rng.between(-0.12, 0.12), [rng.between(-0.05, 0.05), rng.between(-0.05, 0.05)])
    } else {
        let shift = [rng.between(-0.15, 0.15), rng.between(-0.15, 0.15)];
        (rng.between(-40.0, 40.0), rng.between(0.75_f32.ln(), 1.35_f32.ln()), shift)
    };
    let (sin, cos) = angle.to_radians().sin_cos();
    let side = level.side() / zoom.exp();
    let [a, b] = level.axis.map(|v| v / zoom.exp());
    let center = [level.center[0] + shift[0] * side, level.center[1] + shift[1] * side];
    let crop = Crop { center, axis: [a * cos - b * sin, a * sin + b * cos] };
    let mut offsets = Vec::with_capacity(LandmarkNet::OFFSETS);
    for (i, at) in mean.points.iter().enumerate() {
        let [x, y, z] = face.points[if mirrored { mean.mirror[i] } else { i }];
        let [x, y] = crop.crop_from_picture([x, y]);
        let x = if mirrored { -x } else { x };
        offsets.extend([x - at[0], y - at[1], z / side - at[2]]);
    }
    let unit = (mean.points[263][0] - mean.points[33][0]).abs() * zoom.exp();
    Some((crop, LandmarkTarget { offsets, unit }))
}

/// Samples the picture of a crop and replaces what lies outside the source picture.
///
/// Most source pictures are tight, so that their edges would reveal the position of the face, unlike the
/// picture of a camera. The edges are moved inwards, softened, mirrored or filled.
fn sample_crop(faces: &[Face], face: &Face, crop: &Crop, rng: &mut SplitMix64) -> Vec<f32> {
    let mut picture = crop.sample(face, CROP_SIDE);
    let kind = rng.uniform();
    if kind < 0.25 {
        return picture; // Repeated edge pixels, as when the labels were made.
    }
    let mut inset = || if rng.chance(0.3) { rng.between(0.0, 24.0) } else { 0.0 };
    let [x0, y0, x1, y1] = face.valid;
    let rect = [x0 + inset(), y0 + inset(), x1 - inset(), y1 - inset()];
    let softness = if rng.chance(0.5) { rng.between(2.0, 20.0) } else { 0.5 };
    let mut fill = None;
    for (i, value) in picture.iter_mut().enumerate() {
        let at = |v: usize| (v as f32 + 0.5) / CROP_SIDE as f32 - 0.5;
        let [x, y] = crop.picture_from_crop([at(i % CROP_SIDE), at(i / CROP_SIDE)]);
        let depth = (x - rect[0]).min(rect[2] - x).min(y - rect[1]).min(rect[3] - y);
        let share = (depth / softness).clamp(0.0, 1.0);
        if share < 1.0 {
            let other = if kind < 0.5 {
                reflected(face, rect, x, y)
            } else {
                fill.get_or_insert_with(|| filling(faces, rng))[i]
            };
            *value = share * *value + (1.0 - share) * other;
        }
    }
    picture
}

/// Reads the picture, continued beyond `rect` by its mirror image.
fn reflected(face: &Face, [x0, y0, x1, y1]: [f32; 4], x: f32, y: f32) -> f32 {
    let fold = |v: f32, low: f32, high: f32| {
        let span = (high - low).max(1.0);
        let t = (v - low).rem_euclid(2.0 * span);
        (low + t.min(2.0 * span - t)).clamp(0.0, SIDE as f32 - 1.0)
    };
    face.luma(fold(x, x0, x1) as usize, fold(y, y0, y1) as usize)
}

/// Creates a background: part of another picture, noise, a flat tone, a pattern, a ramp or black.
fn filling(faces: &[Face], rng: &mut SplitMix64) -> Vec<f32> {
    let kind = rng.uniform();
    if kind < 0.5 {
        return texture(faces, rng);
    }
    let (tone, spread) = (rng.between(0.0, 255.0), rng.between(0.0, 60.0));
    match kind {
        0.5..0.6 => (0..PIXELS).map(|_| tone + spread * rng.normal_fast()).collect(),
        0.6..0.7 => vec![tone; PIXELS],
        0.7..0.75 => pattern(tone, 2.0 * spread, rng),
        0.75..0.88 => {
            let (dx, dy) = (rng.between(-2.0, 2.0), rng.between(-2.0, 2.0));
            let at = |v: usize| v as f32 - CROP_SIDE as f32 / 2.0;
            (0..PIXELS).map(|i| tone + dx * at(i % CROP_SIDE) + dy * at(i / CROP_SIDE)).collect()
        }
        _ => vec![0.0; PIXELS],
    }
}

/// Creates stripes or checks of random direction, width and sharpness.
fn pattern(tone: f32, spread: f32, rng: &mut SplitMix64) -> Vec<f32> {
    let mut wave = || {
        let (sin, cos) = rng.between(0.0, std::f32::consts::TAU).sin_cos();
        let pitch = std::f32::consts::TAU / rng.between(5.0, 50.0);
        let hard = rng.between(0.5, 20.0);
        let phase = rng.between(0.0, std::f32::consts::TAU);
        move |x: f32, y: f32| ((cos * x + sin * y) * pitch + phase).sin() * hard
    };
    let (first, second) = (wave(), wave());
    let checks = rng.chance(0.6);
    let at = |i: usize| {
        let (x, y) = ((i % CROP_SIDE) as f32, (i / CROP_SIDE) as f32);
        let value = first(x, y).clamp(-1.0, 1.0);
        let value = if checks { value * second(x, y).clamp(-1.0, 1.0) } else { value };
        tone + spread * value
    };
    (0..PIXELS).map(at).collect()
}

/// Enlarges and rotates a part of a random picture so far that it shows no face.
fn texture(faces: &[Face], rng: &mut SplitMix64) -> Vec<f32> {
    let face = &faces[rng.index(faces.len())];
    let side = rng.between(16.0, 64.0);
    let center = [rng.between(0.0, SIDE as f32), rng.between(0.0, SIDE as f32)];
    let (sin, cos) = rng.between(0.0, std::f32::consts::TAU).sin_cos();
    let (low, gain) = (rng.between(0.0, 80.0), rng.between(0.4, 1.0));
    let picture = Crop { center, axis: [side * cos, side * sin] }.sample(face, CROP_SIDE);
    picture.iter().map(|v| low + gain * v).collect()
}

/// Creates a crop without a face, or with a face where the tracker would not crop it.
fn negative(faces: &[Face], mean: &MeanShape, rng: &mut SplitMix64) -> Vec<f32> {
    let kind = rng.uniform();
    let picture = if kind < 0.5 {
        // Beside a face, at the wrong scale, or upside down.
        let face = &faces[rng.index(faces.len())];
        let level = Crop::aligning(&mean.points, &face.points)
            .unwrap_or(Crop::upright([SIDE as f32 / 2.0; 2], SIDE as f32));
        let (side, distance, angle) = match rng.index(4) {
            0 => (rng.between(2.6, 4.5), 0.3, 0.4),
            1 => (rng.between(0.15, 0.4), rng.between(0.0, 1.2), 3.0),
            2 => (rng.between(0.8, 1.3), 0.0, rng.between(1.9, 4.3)),
            _ => (rng.between(0.6, 1.3), rng.between(0.5, 1.0), 0.5),
        };
        let (sin, cos) = rng.between(0.0, std::f32::consts::TAU).sin_cos();
        let side = side * level.side();
        let center =
            [level.center[0] + cos * distance * side, level.center[1] + sin * distance * side];
        let turn = if angle > 1.5 && side < level.side() * 1.4 && side > level.side() * 0.7 {
            angle
        } else {
            rng.between(-angle, angle)
        };
        let (sin, cos) = turn.sin_cos();
        sample_crop(faces, face, &Crop { center, axis: [side * cos, side * sin] }, rng)
    } else if kind < 0.56 {
        let (tone, spread) = (rng.between(40.0, 215.0), rng.between(10.0, 120.0));
        pattern(tone, spread, rng)
    } else if kind < 0.87 {
        // A scene: backgrounds overlaid by rectangles and ellipses.
        let mut scene = filling(faces, rng);
        for _ in 0..rng.index(6) {
            let other = filling(faces, rng);
            cover(&mut scene, &other, rng, 0.7);
        }
        scene
    } else {
        filling(faces, rng)
    };
    expose(picture, faces, rng, 0.1)
}

/// Replaces a random rectangle or ellipse, of up to `largest` of the crop's side, by another picture.
fn cover(picture: &mut [f32], by: &[f32], rng: &mut SplitMix64, largest: f32) {
    let side = CROP_SIDE as f32;
    let (w, h) = (rng.between(0.08, largest) * side / 2.0, rng.between(0.08, largest) * side / 2.0);
    let (x0, y0) = (rng.between(0.0, side), rng.between(0.0, side));
    let round = rng.chance(0.4);
    for (i, value) in picture.iter_mut().enumerate() {
        let x = ((i % CROP_SIDE) as f32 - x0) / w;
        let y = ((i / CROP_SIDE) as f32 - y0) / h;
        let inside = if round { x * x + y * y < 1.0 } else { x.abs() < 1.0 && y.abs() < 1.0 };
        if inside {
            *value = by[i];
        }
    }
}

/// Simulates light, lens, sensor and compression, then normalizes the brightness for the network.
///
/// With probability `covered` a part of the picture is hidden.
fn expose(mut picture: Vec<f32>, faces: &[Face], rng: &mut SplitMix64, covered: f32) -> Vec<f32> {
    if rng.chance(covered) {
        let by = filling(faces, rng);
        cover(&mut picture, &by, rng, 0.4);
    }
    if rng.chance(0.2) {
        picture = coarser(&picture, 28 + rng.index(50));
    }
    if rng.chance(0.3) {
        for _ in 0..=rng.index(3) {
            blur(&mut picture, rng.chance(0.7), rng.chance(0.7));
        }
    }
    let gamma = rng.chance(0.5).then(|| rng.between(-0.6, 0.6).exp());
    let dark = rng.chance(0.12);
    let gain = if dark { rng.between(0.06, 0.3) } else { rng.between(0.7, 1.3) };
    let lift = if dark { 0.0 } else { rng.between(-30.0, 30.0) };
    let slope = if rng.chance(0.3) { 0.9 } else { 0.2 };
    let ramp = [rng.between(-slope, slope), rng.between(-slope, slope)];
    let noise = if rng.chance(0.75) { rng.between(0.0, 5.0) } else { rng.between(0.0, 14.0) };
    let noise = if dark { rng.between(0.5, 4.0) } else { noise };
    for (i, value) in picture.iter_mut().enumerate() {
        let at = |v: usize| v as f32 / CROP_SIDE as f32 - 0.5;
        let light = (1.0 + ramp[0] * at(i % CROP_SIDE) + ramp[1] * at(i / CROP_SIDE)).max(0.1);
        let v = (*value / 255.0).clamp(0.0, 1.0);
        let v = gamma.map_or(v, |gamma| v.powf(gamma));
        *value = (v * 255.0 * gain * light + lift + noise * rng.normal_fast()).clamp(0.0, 255.0);
        if dark {
            *value = value.round();
        }
    }
    if rng.chance(CODED) {
        picture = coded(&picture, rng.between(8.0, 60.0) as u8);
    }
    if rng.chance(0.02) {
        // Negatives, as from thermal cameras.
        for value in &mut picture {
            *value = 255.0 - *value;
        }
    }
    LandmarkNet::normalize(&mut picture);
    picture
}

/// Reduces the picture to `side` pixels and enlarges it again, as low-resolution cameras do.
fn coarser(picture: &[f32], side: usize) -> Vec<f32> {
    struct Gray<'a>(&'a [f32], usize);
    impl Luma for Gray<'_> {
        fn size(&self) -> (usize, usize) {
            (self.1, self.1)
        }

        fn luma(&self, x: usize, y: usize) -> f32 {
            self.0[y * self.1 + x]
        }
    }
    let whole = |side: usize| Crop::upright([side as f32 / 2.0; 2], side as f32);
    let small = whole(CROP_SIDE).sample(&Gray(picture, CROP_SIDE), side);
    whole(side).sample(&Gray(&small, side), CROP_SIDE)
}

/// Compresses and decompresses the picture as a JPEG of this quality (1 to 100).
fn coded(picture: &[f32], quality: u8) -> Vec<f32> {
    let pixels: Vec<u8> = picture.iter().map(|v| (v + 0.5) as u8).collect();
    let mut bytes = Vec::new();
    let side = CROP_SIDE as u32;
    let encoder = JpegEncoder::new_with_quality(&mut bytes, quality);
    encoder
        .write_image(&pixels, side, side, ExtendedColorType::L8)
        .expect("encoding a small gray picture in memory does not fail");
    let decoded = image::load_from_memory_with_format(&bytes, ImageFormat::Jpeg)
        .expect("a picture that was just encoded can be decoded");
    decoded.to_luma8().into_raw().into_iter().map(f32::from).collect()
}

/// Averages three neighbors along rows, columns or both.
fn blur(picture: &mut [f32], along_x: bool, along_y: bool) {
    for (is_wanted, step, lines) in [(along_x, 1, CROP_SIDE), (along_y, CROP_SIDE, 1)] {
        if !is_wanted {
            continue;
        }
        for line in 0..CROP_SIDE {
            let start = line * lines;
            let mut before = picture[start];
            for i in 1..CROP_SIDE - 1 {
                let here = picture[start + i * step];
                let after = picture[start + (i + 1) * step];
                picture[start + i * step] = (before + here + after) / 3.0;
                before = here;
            }
        }
    }
}
