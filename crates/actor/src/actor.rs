use glam::Vec3;
use rayon::prelude::*;
use types::{FOCAL, Landmarks, MediaTime, SquareFrame};

use crate::action::Actions;
use crate::light::srgb_from_linear;
use crate::performance::{self, Performance};
use crate::raster::{Hit, Material, RasterBand};
use crate::room::Room;
use crate::scene::{Body, Scene};
use crate::voice;
use face_shape::FaceShape;

/// Classes of the pixels of an [`ActorFrame`].
pub mod class {
    /// The room.
    pub const BACKGROUND: u8 = 0;
    /// Clothes.
    pub const TORSO: u8 = 1;
    /// Skin of the head: face, ears, scalp.
    pub const HEAD: u8 = 2;
    /// Hair.
    pub const HAIR: u8 = 3;
    /// Eyeballs.
    pub const EYE: u8 = 4;
    /// Inside of the mouth; lips belong to [`HEAD`].
    pub const MOUTH: u8 = 5;
    /// Neck; its top moves with the head, its bottom with the torso.
    pub const NECK: u8 = 6;
}

/// Smallest and largest side of a rendered frame, pixels.
const SIDES: (u32, u32) = (16, 2048);
/// Pixel rows per work item.
const BAND_ROWS: usize = 8;

/// Synthetic person with exact ground truth.
///
/// Everything is a pure function of seed and arguments. Creation takes a fraction of a second.
pub struct Actor {
    seed: u64,
    actions: Actions,
    body: Body,
    room: Room,
}

/// Frame of the actor with its ground truth.
#[derive(Clone, Debug)]
pub struct ActorFrame {
    /// The frame, square.
    pub frame: SquareFrame,
    /// Class of each pixel, row by row: the one to which most of the pixel's samples belong. See
    /// [`class`] for the values.
    pub classes: Vec<u8>,
    /// Exact landmarks in pixels of the frame, including hidden ones; confidence 1.
    pub landmarks: Landmarks,
    /// Performance shown in the frame.
    pub performance: Performance,
}

impl Actor {
    /// Creates the actor of a seed, which determines speech, motion and the room.
    ///
    /// # Panics
    /// Only if the build embedded a damaged face shape.
    pub fn new(seed: u64) -> Self {
        let shape = FaceShape::builtin().expect("the embedded face shape is valid");
        let actions = Actions::new(&shape);
        let rest = actions.resting(&shape);
        Self { seed, actions, body: Body::new(shape, rest), room: Room::new(seed) }
    }

    /// Returns the scripted performance at a media time.
    pub fn script(&self, time: MediaTime) -> Performance {
        performance::script(self.seed, &self.actions, time)
    }

    /// Returns `samples` audio samples of speech that start at the media time `from`: mono at
    /// [`types::Sound::RATE`], -1..=1, silent between phrases.
    ///
    /// The speech is in step with the mouth of [`Actor::script`]. Adjacent intervals join exactly.
    pub fn voice(&self, from: MediaTime, samples: usize) -> Vec<f32> {
        voice::voice(self.seed, from, samples)
    }

    /// Renders a performance as a square frame of `side` pixels, clamped to 16..=2048.
    ///
    /// Shading is in linear light, and each pixel is the mean of a few samples spread over its
    /// area. A large frame scaled down looks like a small one, but is not identical.
    pub fn render(&self, performance: &Performance, side: u32) -> ActorFrame {
        let side = side.clamp(SIDES.0, SIDES.1);
        // Samples per pixel, across and down.
        let n = match side {
            0..=96 => 4,
            97..=192 => 3,
            _ => 2,
        };
        let pixels = side as usize;
        let scene = self.body.scene(performance, pixels * n);
        let n_bands = pixels.div_ceil(BAND_ROWS);
        let bins = scene.bins(BAND_ROWS * n, n_bands);
        let mut rgb = vec![0_u8; pixels * pixels * 3];
        let mut classes = vec![class::BACKGROUND; pixels * pixels];
        rgb.par_chunks_mut(BAND_ROWS * pixels * 3)
            .zip(classes.par_chunks_mut(BAND_ROWS * pixels))
            .zip(&bins)
            .enumerate()
            .for_each(|(i, ((rgb, classes), triangles))| {
                let n_rows = classes.len() / pixels;
                let mut band = RasterBand::new(pixels * n, i * BAND_ROWS * n, n_rows * n);
                scene.draw(&mut band, triangles);
                for (at, (pixel, class)) in
                    rgb.chunks_exact_mut(3).zip(classes.iter_mut()).enumerate()
                {
                    let (x, y) = (at % pixels, at / pixels);
                    let (color, shown) = self.resolve(&scene, &band, x, y, n);
                    pixel.copy_from_slice(&srgb_from_linear(color));
                    *class = shown;
                }
            });
        let landmarks = landmarks(&scene, performance, side);
        #[expect(clippy::missing_panics_doc, reason = "it cannot")]
        let frame = SquareFrame::new(side, performance.time, rgb)
            .expect("the buffer was made for this size");
        ActorFrame { frame, classes, landmarks, performance: performance.clone() }
    }

    /// Returns the mean color of a pixel's samples and the class of most of them.
    fn resolve(
        &self,
        scene: &Scene<'_>,
        band: &RasterBand,
        x: usize,
        y: usize,
        n: usize,
    ) -> (Vec3, u8) {
        let hit = |sx: usize, sy: usize| band.hits[(y * n + sy) * band.width + x * n + sx];
        let mut sum = Vec3::ZERO;
        if let Some(material) = uniform(scene, hit, n) {
            // Inside a smooth surface the diagonal samples suffice.
            for i in 0..n {
                sum += scene.shade(&hit(i, i));
            }
            return (sum / n as f32, class_of(material));
        }
        let mut votes = [0_u8; 7];
        let mut behind = None;
        for sy in 0..n {
            for sx in 0..n {
                let hit = hit(sx, sy);
                if hit.triangle == Hit::NONE {
                    let scale = n as f32 / scene.side() as f32;
                    sum += *behind.get_or_insert_with(|| {
                        let row = y + band.first_row / n;
                        self.room.at((x as f32 + 0.5) * scale, (row as f32 + 0.5) * scale)
                    });
                    votes[class::BACKGROUND as usize] += 1;
                } else {
                    sum += scene.shade(&hit);
                    votes[class_of(scene.material(hit.triangle)) as usize] += 1;
                }
            }
        }
        let mut shown = 0;
        for (class, &count) in votes.iter().enumerate() {
            if count > votes[shown] {
                shown = class;
            }
        }
        (sum / (n * n) as f32, shown as u8)
    }
}

/// Returns the material of a pixel whose samples all hit the same smooth one.
fn uniform(scene: &Scene<'_>, hit: impl Fn(usize, usize) -> Hit, n: usize) -> Option<Material> {
    let first = hit(0, 0).triangle;
    if first == Hit::NONE {
        return None;
    }
    let material = scene.material(first);
    let smooth = matches!(
        material,
        Material::Skin | Material::Neck | Material::Ear | Material::Knit | Material::Collar
    );
    let same = |i: usize| {
        let triangle = hit(i % n, i / n).triangle;
        triangle != Hit::NONE && scene.material(triangle) == material
    };
    (smooth && (1..n * n).all(same)).then_some(material)
}

fn class_of(material: Material) -> u8 {
    match material {
        Material::Skin | Material::Ear => class::HEAD,
        Material::Neck => class::NECK,
        Material::RightEye | Material::LeftEye => class::EYE,
        Material::Mouth => class::MOUTH,
        Material::Hair(_) => class::HAIR,
        Material::Knit | Material::Collar => class::TORSO,
    }
}

fn landmarks(scene: &Scene<'_>, performance: &Performance, side: u32) -> Landmarks {
    let side = side as f32;
    let pose = &performance.pose;
    let scale = FOCAL * side / pose.translation().z;
    let points = scene
        .landmarks()
        .iter()
        .map(|&p| {
            let [x, y] = pose.image_from_head(p);
            let depth = pose.camera_from_head(p).z - pose.translation().z;
            [x * side, y * side, depth * scale]
        })
        .collect();
    Landmarks::exact(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> MediaTime {
        MediaTime::from_micros(ms * 1000)
    }

    #[test]
    fn rendering_is_a_pure_function_of_the_time() {
        let (one, two) = (Actor::new(7), Actor::new(7));
        let performance = one.script(at(1360));
        assert_eq!(performance, two.script(at(1360)));
        let first = one.render(&performance, 96);
        // Calls in between have no effect.
        one.render(&one.script(at(5000)), 64);
        assert_eq!(first.frame, one.render(&performance, 96).frame);
        let again = two.render(&performance, 96);
        assert_eq!((first.frame, first.classes), (again.frame, again.classes));
    }

    #[test]
    fn a_large_frame_scaled_down_equals_a_small_one() {
        let actor = Actor::new(7);
        let performance = actor.script(at(1360));
        let large = actor.render(&performance, 512).frame.resized_area(256);
        let small = actor.render(&performance, 256).frame;
        let squares: f64 = large
            .rgb()
            .iter()
            .zip(small.rgb())
            .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
            .sum();
        let psnr_db = 10.0 * (255.0_f64.powi(2) * large.rgb().len() as f64 / squares).log10();
        assert!(psnr_db > 32.0, "{psnr_db:.1} dB");
    }

    #[test]
    fn landmarks_lie_on_pixels_of_their_class() {
        let actor = Actor::new(7);
        for ms in (0..20_000).step_by(1900) {
            let shown = actor.render(&actor.script(at(ms)), 128);
            let class_at = |landmark: usize| {
                let [x, y, _] = shown.landmarks.points[landmark];
                shown.classes[y as usize * 128 + x as usize]
            };
            for landmark in [1, 4, 50, 280, 151] {
                assert_eq!(class_at(landmark), class::HEAD, "landmark {landmark} at {ms} ms");
            }
            let [blink, _] = shown.performance.blink;
            if blink == 0.0 {
                assert_eq!(class_at(468), class::EYE, "right iris at {ms} ms");
            }
        }
    }

    #[test]
    fn every_class_occurs() {
        let actor = Actor::new(7);
        let shown = actor.render(&actor.script(at(1360)), 192);
        for class in class::BACKGROUND..=class::NECK {
            assert!(shown.classes.contains(&class), "class {class} is nowhere");
        }
    }

    #[test]
    fn speech_coincides_with_an_open_mouth() {
        let actor = Actor::new(7);
        for ms in (0..12_000).step_by(40) {
            if actor.script(at(ms)).mouth.jaw > 0.6 {
                let sound = actor.voice(at(ms), 960);
                assert!(sound.iter().any(|v| v.abs() > 0.01), "silent at {ms} ms");
            }
        }
    }
}
