/// Number of landmarks of a face: 468 of the mesh and 5 of each iris, in the order of Face Mesh.
pub const LANDMARKS: usize = 478;

/// The landmarks of one face in one frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Landmarks {
    /// `[LANDMARKS]` points `[x, y, z]` in pixels of the frame, where pixel column `i` covers
    /// `[i, i + 1)`. `z` has the same scale, increases away from the camera, and is 0 near the
    /// center of the head.
    pub points: Vec<[f32; 3]>,
    /// `[LANDMARKS]` expected distances of the points from their true positions, in pixels of the
    /// frame: large where a hand, hair or the rotation of the head hides the face.
    pub spread: Vec<f32>,
    /// Confidence that this is a face, 0..=1.
    pub confidence: f32,
}

impl Landmarks {
    /// Returns landmarks whose positions are exact: spread 0, confidence 1.
    pub fn exact(points: Vec<[f32; 3]>) -> Self {
        Self { spread: vec![0.0; points.len()], points, confidence: 1.0 }
    }

    /// Returns the landmarks of the same frame resized by the factor `by`: points and spread are
    /// multiplied by it.
    #[must_use]
    pub fn scaled(mut self, by: f32) -> Self {
        self.points.iter_mut().flatten().chain(&mut self.spread).for_each(|v| *v *= by);
        self
    }
}
