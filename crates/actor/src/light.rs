use std::sync::LazyLock;

use glam::Vec3;

/// Directions to the lights in camera space, and their linear colors: key (window, left), fill
/// (room, right), rim (lamp, behind).
const KEY: (Vec3, Vec3) = (Vec3::new(-0.52, -0.56, -0.645), Vec3::new(1.42, 1.36, 1.26));
const FILL: (Vec3, Vec3) = (Vec3::new(0.78, -0.12, -0.615), Vec3::new(0.25, 0.275, 0.32));
const RIM: (Vec3, Vec3) = (Vec3::new(0.70, -0.45, 0.555), Vec3::new(0.42, 0.37, 0.32));
const SKY: Vec3 = Vec3::new(0.32, 0.34, 0.37);
const GROUND: Vec3 = Vec3::new(0.17, 0.14, 0.12);

/// Returns the unit direction to the key light, which casts shadows, camera space.
pub(crate) fn key_direction() -> Vec3 {
    KEY.0.normalize_or(Vec3::NEG_Z)
}

/// Returns the diffuse light on a surface.
///
/// `wrap` softens the terminator per channel, as subsurface scattering does; `shadow` is the
/// visibility of the key light and `open` that of the sky, 0..=1.
pub(crate) fn diffuse(normal: Vec3, wrap: Vec3, shadow: f32, open: f32) -> Vec3 {
    let lambert = |direction: Vec3, wrap: Vec3| {
        let cosine = normal.dot(direction);
        ((Vec3::splat(cosine) + wrap) / (Vec3::ONE + wrap)).max(Vec3::ZERO)
    };
    // Subsurface scattering reddens the edge of a shadow.
    let bleed = Vec3::new(
        shadow.powf(1.0 - wrap.x * 0.8),
        shadow.powf(1.0 - wrap.y * 0.5),
        shadow.powf(1.0 - wrap.z * 0.5),
    );
    let up = 0.5 - 0.5 * normal.y;
    let ambient = (GROUND + (SKY - GROUND) * up) * open;
    KEY.1 * lambert(KEY.0, wrap) * bleed
        + FILL.1 * lambert(FILL.0, wrap) * open
        + RIM.1 * lambert(RIM.0, wrap * 0.3) * open
        + ambient
}

/// Returns the specular light of key, fill and rim on a glossy surface; `to_eye` points at the camera.
pub(crate) fn highlight(normal: Vec3, to_eye: Vec3, power: i32, shadow: f32) -> Vec3 {
    let lobe = |(direction, color): (Vec3, Vec3)| {
        let half = (direction + to_eye).normalize_or(normal);
        let facing = smooth(normal.dot(direction) * 3.0);
        color * (normal.dot(half).max(0.0).powi(power) * facing)
    };
    lobe(KEY) * shadow + lobe(FILL) + lobe(RIM) * 0.8
}

fn smooth(x: f32) -> f32 {
    x.clamp(0.0, 1.0)
}

/// Returns the specular light of a hair strand along `tangent`.
///
/// # Source
/// Kajiya and Kay 1989, "Rendering fur with three dimensional textures".
pub(crate) fn strand_highlight(tangent: Vec3, to_eye: Vec3, power: i32, shadow: f32) -> Vec3 {
    let lobe = |(direction, color): (Vec3, Vec3)| {
        let half = (direction + to_eye).normalize_or(to_eye);
        let along = tangent.dot(half);
        color * (1.0 - along * along).max(0.0).powi(power / 2)
    };
    lobe(KEY) * shadow + lobe(FILL) * 0.7 + lobe(RIM) * 0.5
}

/// Steps of [`srgb_table`], even in the square root of linear light up to 4.
const TABLE: usize = 16_384;
const TABLE_END: f32 = 2.0;

/// Returns a table of [`encoded`] over the squares of `0..=TABLE_END` in even steps.
fn srgb_table() -> &'static [u8] {
    static TABLE_BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
        (0..TABLE).map(|i| encoded((i as f32 / (TABLE - 1) as f32 * TABLE_END).powi(2))).collect()
    });
    &TABLE_BYTES
}

/// Encodes linear light as sRGB with a soft shoulder instead of clipping.
fn encoded(linear: f32) -> u8 {
    let over = linear - 0.6;
    let bent = if over > 0.0 { 0.6 + 0.4 * (1.0 - (-over / 0.4).exp()) } else { linear };
    let encoded =
        if bent <= 0.003_130_8 { 12.92 * bent } else { 1.055 * bent.powf(1.0 / 2.4) - 0.055 };
    (encoded * 255.0 + 0.5) as u8
}

/// Returns the 8-bit sRGB of linear light, with a soft shoulder instead of clipping.
pub(crate) fn srgb_from_linear(color: Vec3) -> [u8; 3] {
    let table = srgb_table();
    color.to_array().map(|c| {
        let at = c.max(0.0).sqrt() * ((TABLE - 1) as f32 / TABLE_END) + 0.5;
        table[(at as usize).min(TABLE - 1)]
    })
}

/// Returns the linear light of an 8-bit sRGB color (IEC 61966-2-1).
pub(crate) fn linear_from_srgb(color: [u8; 3]) -> Vec3 {
    Vec3::from_array(color.map(|c| {
        let c = f32::from(c) / 255.0;
        if c <= 0.040_45 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srgb_survives_the_round_trip_through_linear_light() {
        for v in [0_u8, 1, 10, 90, 180] {
            assert_eq!(srgb_from_linear(linear_from_srgb([v; 3])), [v; 3]);
        }
    }

    #[test]
    fn a_shadow_is_darker_and_redder() {
        let normal = key_direction();
        let lit = diffuse(normal, Vec3::new(0.4, 0.2, 0.15), 1.0, 1.0);
        let dark = diffuse(normal, Vec3::new(0.4, 0.2, 0.15), 0.3, 1.0);
        assert!(dark.y < lit.y && dark.x / lit.x > dark.y / lit.y);
    }
}
