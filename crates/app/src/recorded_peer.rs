//! Pictures of the peer for a recording: its face, or its name while there is no face.

use std::sync::Arc;

use egui::epaint::text::{FontDefinitions, Fonts, TextOptions};
use egui::epaint::{Color32, ColorImage, FontId};
use egui::text::LayoutJob;
use face::FaceModel;
use types::{Feature, MediaTime, PeerName, SquareFrame};

use crate::face_renderer::FaceRenderer;

/// Colors of the picture of a peer without a face, sRGB.
const BACKGROUND: [u8; 3] = [0x2c, 0x38, 0x44];
const TEXT: [u8; 3] = [0xe6, 0xea, 0xee];
/// Size of the name, and width of the lines, in sides of the picture.
const TEXT_SIZE: f32 = 0.09;
const LINE_WIDTH: f32 = 0.9;
/// What a peer without a face is called below its name.
const SOUND_ONLY: &str = "sound only";

/// Makes the pictures of one peer.
pub(crate) struct RecordedPeer {
    name: PeerName,
    /// Side of the pictures, pixels.
    side: u32,
    renderer: Option<FaceRenderer>,
    /// The newest picture with what it shows; `None` is the name.
    newest: Option<(Option<Feature>, SquareFrame)>,
}

impl RecordedPeer {
    /// Shows a face, or the name of a peer without one.
    pub(crate) fn new(model: Option<Arc<FaceModel>>, name: PeerName, side: u32) -> Self {
        let renderer = model.map(FaceRenderer::new);
        Self { name, side, renderer, newest: None }
    }

    /// Replaces the face.
    pub(crate) fn set_model(&mut self, model: Arc<FaceModel>) {
        match &mut self.renderer {
            Some(renderer) => renderer.set_model(model),
            None => self.renderer = Some(FaceRenderer::new(model)),
        }
        self.newest = None;
    }

    /// Sets the side of the following pictures, pixels.
    pub(crate) fn set_side(&mut self, side: u32) {
        self.side = side;
        self.newest = None;
    }

    /// Returns the side of the pictures, pixels.
    pub(crate) fn side(&self) -> u32 {
        self.side
    }

    /// Returns the name of the renderer.
    pub(crate) fn renderer(&self) -> &str {
        self.renderer.as_ref().map_or("none", FaceRenderer::name)
    }

    /// Returns the picture of a moment, and whether it was rendered: one that shows the same as the one before is
    /// not.
    ///
    /// # Errors
    /// If the side is out of range.
    pub(crate) fn at(
        &mut self,
        feature: Option<&Feature>,
        time: MediaTime,
    ) -> anyhow::Result<(SquareFrame, bool)> {
        let shown = feature.filter(|_| self.renderer.is_some()).copied();
        // The time of a feature is not in its picture.
        let is_same = |before: &Option<Feature>| match (before, &shown) {
            (Some(a), Some(b)) => (a.pose, a.code) == (b.pose, b.code),
            (None, None) => true,
            _ => false,
        };
        if let Some((_, frame)) = self.newest.as_ref().filter(|(before, _)| is_same(before)) {
            return Ok((frame.clone().at(time), false));
        }
        let frame = match (&mut self.renderer, &shown) {
            (Some(renderer), Some(feature)) => renderer.render_frame_at(feature, self.side)?,
            _ => name_picture(&self.name, self.side)?,
        };
        self.newest = Some((shown, frame.clone()));
        Ok((frame.at(time), shown.is_some()))
    }
}

/// Draws the name of a peer without a face.
fn name_picture(name: &PeerName, side: u32) -> anyhow::Result<SquareFrame> {
    let mut fonts = Fonts::new(TextOptions::default(), FontDefinitions::default());
    let mut view = fonts.with_pixels_per_point(1.0);
    let text =
        if name.is_empty() { SOUND_ONLY.to_owned() } else { format!("{name}\n{SOUND_ONLY}") };
    let size = (TEXT_SIZE * side as f32).max(8.0);
    let font = FontId::proportional(size);
    let mut job = LayoutJob::simple(text, font, Color32::WHITE, LINE_WIDTH * side as f32);
    job.halign = egui::Align::Center;
    let galley = view.layout_job(job);
    let atlas = view.image();
    let mut rgb = BACKGROUND.repeat((side * side) as usize);
    let middle = side as f32 / 2.0;
    let top = middle - galley.size().y / 2.0;
    for row in &galley.rows {
        for glyph in &row.glyphs {
            let at = row.pos + glyph.pos.to_vec2() + glyph.uv_rect.offset;
            let at = [(middle + at.x).round() as i64, (top + at.y).round() as i64];
            let (min, max) = (glyph.uv_rect.min, glyph.uv_rect.max);
            draw_glyph(&mut rgb, side, &atlas, at, [min, max]);
        }
    }
    Ok(SquareFrame::new(side, MediaTime::ZERO, rgb)?)
}

/// Blends a part of the atlas, from `min` to before `max`, into a picture at a place that may lie outside.
fn draw_glyph(
    rgb: &mut [u8],
    side: u32,
    atlas: &ColorImage,
    at: [i64; 2],
    [min, max]: [[u16; 2]; 2],
) {
    for y in min[1]..max[1] {
        for x in min[0]..max[0] {
            let to = [at[0] + i64::from(x - min[0]), at[1] + i64::from(y - min[1])];
            if to.iter().any(|v| !(0..i64::from(side)).contains(v)) {
                continue;
            }
            let coverage = u32::from(atlas[(usize::from(x), usize::from(y))].a());
            let pixel = 3 * (to[1] * i64::from(side) + to[0]) as usize;
            for (below, text) in rgb[pixel..pixel + 3].iter_mut().zip(TEXT) {
                let blended = u32::from(text) * coverage + u32::from(*below) * (255 - coverage);
                *below = (blended / 255) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number of pixels that are not background, and whether there are any in the outermost rows and columns.
    fn drawn(name: &str, side: u32) -> (usize, bool) {
        let frame = name_picture(&PeerName::new(name), side).unwrap();
        let is_text = |x: u32, y: u32| frame.rgb_at(x, y) != BACKGROUND;
        let all = (0..side * side).filter(|i| is_text(i % side, i / side)).count();
        let at_edge = (0..side).any(|i| is_text(i, 0) || is_text(0, i));
        (all, at_edge)
    }

    #[test]
    fn a_peer_without_a_face_is_shown_by_its_name() {
        let (without, _) = drawn("", 256);
        let (with, at_edge) = drawn("Ada Lovelace", 256);
        assert!(without > 100 && with > without + 100 && !at_edge, "{without} {with}");
        // Too long for a line, or for the picture, and too small to read.
        for (name, side) in [("of the house of many, many words", 256), (&"W".repeat(64), 64)] {
            assert!(drawn(name, side).0 > 100, "{name}");
        }
    }

    #[test]
    fn a_picture_that_shows_the_same_is_not_made_again() {
        let mut pictures = RecordedPeer::new(None, PeerName::new("Ada"), 64);
        let times = [0, 40_000].map(MediaTime::from_micros);
        let [first, second] = times.map(|time| pictures.at(None, time).unwrap().0);
        assert_eq!([first.time(), second.time()], times);
        assert_eq!(first.rgb(), second.rgb());
    }
}
