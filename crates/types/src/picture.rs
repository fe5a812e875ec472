use crate::MediaTime;

/// Landmarks of a face: 468 of the mesh, 5 of each iris, in Face Mesh order.
pub const LANDMARKS: usize = 478;

/// The landmarks of one face in one frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Landmarks {
    /// `[LANDMARKS]` of `x, y, z` in pixels of the frame (continuous: pixel column `i` covers
    /// `[i, i + 1)`); `z` on the same scale, smaller is nearer, origin near the head's centre.
    pub points: Vec<[f32; 3]>,
    /// `[LANDMARKS]`: how far each point is expected to be off, pixels of the frame: small where
    /// the face is seen well, large where a hand, hair or the turn of the head hides it.
    pub spread: Vec<f32>,
    /// How sure the tracker is that this is a face, 0..=1.
    pub confidence: f32,
}

impl Landmarks {
    /// Points that are known, not measured.
    pub fn exact(points: Vec<[f32; 3]>) -> Self {
        Self { spread: vec![0.0; points.len()], points, confidence: 1.0 }
    }

    /// The same in the frame scaled by a factor.
    #[must_use]
    pub fn scaled(mut self, by: f32) -> Self {
        self.points.iter_mut().flatten().chain(&mut self.spread).for_each(|v| *v *= by);
        self
    }
}

/// A stretch of mono sound at 48 kHz.
#[derive(Clone, Debug, PartialEq)]
pub struct Sound {
    /// When its first audio sample was captured.
    pub time: MediaTime,
    /// Audio samples, -1..=1.
    pub samples: Vec<f32>,
}

impl Sound {
    /// Audio samples in a second, everywhere in the product.
    pub const RATE: u32 = 48_000;
}
