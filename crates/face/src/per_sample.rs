//! The same field with its network at every sample: what deferred shading is compared with.

use crate::math::add_scaled;
use crate::ray::{
    march_head, picture, place_samples, read_behind, read_planes, sample_opacity, shade,
    shade_inputs,
};
use crate::sizes::CHANNELS;
use crate::{FaceModel, FoldedField, FrameInputs};

/// [`render_cpu`](crate::render_cpu) of a field like ours whose shading network is asked at every sample and
/// whose colors, not features, are added up along the ray: a variant for this comparison.
pub fn render_per_sample(
    model: &FaceModel,
    inputs: &FrameInputs,
    side: u32,
    samples: u32,
) -> Vec<[f32; 3]> {
    let folded = &model.fold(inputs);
    picture(
        side,
        #[inline(always)]
        |x, y| ray_per_sample(model, folded, inputs, [x, y], samples),
    )
}

#[inline(always)]
fn ray_per_sample(
    model: &FaceModel,
    folded: &FoldedField,
    inputs: &FrameInputs,
    [x, y]: [f32; 2],
    samples: u32,
) -> [f32; 3] {
    let (sizes, layout) = (model.sizes(), model.layout());
    let part = |range: &std::ops::Range<usize>| &model.params()[range.clone()];
    let behind = read_behind(model, folded, inputs, x, y);
    let Some(ray) = march_head(model, folded, inputs, x, y) else {
        return behind.map(|v| v.clamp(0.0, 1.0));
    };
    let (mut color, mut alpha) = ([0.0; 3], 0.0);
    place_samples(
        &ray.march,
        samples,
        #[inline(always)]
        |t| {
            let feature = read_planes(sizes, folded, ray.at(t).0);
            let opacity = sample_opacity(part(&layout.opacity), &feature);
            let mut seen = [0.0; CHANNELS];
            add_scaled(&mut seen, opacity, &feature);
            let shading = shade(
                part(&layout.shade_w1),
                &inputs.shade_bias,
                part(&layout.shade_w2),
                part(&layout.shade_b2),
                part(&layout.shade_w3),
                part(&layout.shade_b3),
                &shade_inputs(&seen, opacity, ray.direction),
            );
            let share = opacity * ray.march.mass / samples as f32;
            add_scaled(&mut color, share, &shading.rgb);
            alpha += share;
        },
    );
    std::array::from_fn(|c| (color[c] + (1.0 - alpha) * behind[c]).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{Code, Feature, HeadPose, MediaTime};

    /// With one sample a ray there is nothing to put off.
    #[test]
    fn with_one_sample_a_ray_it_is_the_field_itself() {
        let file = crate::FaceFile::parse(include_bytes!("../../../assets/demo.face")).unwrap();
        let pose = HeadPose::from_array([0.05, -0.1, 0.0, 0.0, 0.0, 1.2]).unwrap();
        let feature = Feature { time: MediaTime::ZERO, pose, code: Code::NEUTRAL };
        let inputs = file.model.frame_inputs(&feature);
        let far = |samples: u32| {
            let ours = crate::render_cpu(&file.model, &inputs, 64, samples);
            let variant = render_per_sample(&file.model, &inputs, 64, samples);
            let pairs = ours.as_flattened().iter().zip(variant.as_flattened());
            pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        // Alpha, which the network hears, is weighed by the ray's mass in one and not in the other.
        let (one, more) = (far(1), far(6));
        assert!(one < 0.1, "{one}");
        assert!(more > 2.0 * one, "with more samples it is another: {more} and {one}");
    }
}
