//! The field with its shading network evaluated at every sample, to compare deferred shading with.

use crate::frame_field::{FrameField, render_pixels};
use crate::frame_inputs::FrameInputs;
use crate::math::add_scaled;
use crate::model::FaceModel;
use crate::planes::PlaneSample;
use crate::shading::FeatureSum;

impl FaceModel {
    /// Renders an image like [`render_cpu`](crate::render_cpu), but evaluates the shading network
    /// at every sample and accumulates colors instead of features, as volume rendering does.
    ///
    /// For benchmarks of deferred shading only: the image differs from that of the definition.
    pub fn render_per_sample(
        &self,
        inputs: &FrameInputs,
        side: u32,
        n_samples: u32,
    ) -> Vec<[f32; 3]> {
        let folded = self.fold(inputs);
        let frame = FrameField::new(self, &folded, inputs);
        render_pixels(
            side,
            #[inline(always)]
            |point| ray_per_sample(&frame, point, n_samples),
        )
    }
}

#[inline(always)]
fn ray_per_sample(frame: &FrameField<'_>, point: [f32; 2], n_samples: u32) -> [f32; 3] {
    let backdrop = frame.backdrop(point);
    let Some(ray) = frame.march_head(point) else {
        return backdrop.map(|v| v.clamp(0.0, 1.0));
    };
    let network = frame.shading();
    let opacity = frame.field.part(&frame.field.layout.opacity);
    let (mut color, mut alpha) = ([0.0; 3], 0.0);
    ray.march.place_samples(
        n_samples,
        || 0.5,
        #[inline(always)]
        |bin| {
            let p = ray.ray.at(ray.distance(bin));
            let sample = PlaneSample::read(frame.field.sizes, frame.folded, p);
            let opacity = sample.opacity(opacity);
            let mut features = FeatureSum::EMPTY;
            features.add(opacity, &sample.feature);
            let shading = network.shade(&features.shading_inputs(ray.ray.direction));
            let share = opacity * ray.march.mass / n_samples as f32;
            add_scaled(&mut color, share, &shading.rgb);
            alpha += share;
        },
    );
    std::array::from_fn(|c| (color[c] + (1.0 - alpha) * backdrop[c]).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use types::{Code, Feature, HeadPose, MediaTime};

    /// With one sample a ray, deferring the network to the end of the ray changes nothing but
    /// alpha, which only the deferred network sees multiplied by the mass of the ray.
    #[test]
    fn with_one_sample_a_ray_it_nearly_equals_deferred_shading() {
        let file = crate::FaceFile::parse(include_bytes!("../../../assets/demo.face")).unwrap();
        let pose = HeadPose::from_array([0.05, -0.1, 0.0, 0.0, 0.0, 1.2]).unwrap();
        let feature = Feature { time: MediaTime::ZERO, pose, code: Code::NEUTRAL };
        let inputs = file.model.frame_inputs(&feature);
        let difference = |n_samples: u32| {
            let deferred = crate::render_cpu(&file.model, &inputs, 64, n_samples);
            let per_sample = file.model.render_per_sample(&inputs, 64, n_samples);
            let pairs = deferred.as_flattened().iter().zip(per_sample.as_flattened());
            pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        let (one, six) = (difference(1), difference(6));
        assert!(one < 0.1, "{one}");
        assert!(six > 2.0 * one, "{six} with six samples, {one} with one");
    }
}
