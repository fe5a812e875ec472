//! WGSL sources.

use crate::precision::Precision;

/// Shader: the file of its entry point, and its complete source in each precision.
pub(crate) struct Shader {
    pub(crate) name: &'static str,
    half: &'static str,
    float: &'static str,
}

impl Shader {
    /// Returns the complete source.
    pub(crate) fn text(&self, precision: Precision) -> &'static str {
        match precision {
            Precision::Half => self.half,
            Precision::Float => self.float,
        }
    }
}

/// Concatenates files of `shaders/`, once for each precision; WGSL has no includes.
macro_rules! shader {
    ($name:literal; $($piece:literal),*) => {
        Shader {
            name: $name,
            half: concat!(
                include_str!("../shaders/lib/half.wgsl"),
                $(include_str!(concat!("../shaders/", $piece)),)*
                include_str!(concat!("../shaders/", $name)),
            ),
            float: concat!(
                include_str!("../shaders/lib/float.wgsl"),
                $(include_str!(concat!("../shaders/", $piece)),)*
                include_str!(concat!("../shaders/", $name)),
            ),
        }
    };
}

pub(crate) const MIX_PICTURES: Shader = shader!("mix_pictures.wgsl"; "lib/mix.wgsl");
pub(crate) const MIX_VOLUME: Shader = shader!("mix_volume.wgsl"; "lib/mix.wgsl");
pub(crate) const ADD_PICTURES: Shader = shader!("add_pictures.wgsl";);
pub(crate) const ADD_VOLUME: Shader = shader!("add_volume.wgsl";);
pub(crate) const MULTIPLY_ADDS: Shader = shader!("multiply_adds.wgsl";);
pub(crate) const PICTURE: Shader = shader!(
    "picture.wgsl";
    "lib/field.wgsl", "lib/shade.wgsl", "lib/backdrop.wgsl", "lib/head.wgsl"
);

/// Returns the file name and the complete source of every shader, once for each precision, for
/// tools that check shaders without a GPU.
pub fn shader_sources() -> Vec<(&'static str, &'static str)> {
    [&MIX_PICTURES, &MIX_VOLUME, &ADD_PICTURES, &ADD_VOLUME, &MULTIPLY_ADDS, &PICTURE]
        .into_iter()
        .flat_map(|shader| [(shader.name, shader.half), (shader.name, shader.float)])
        .collect()
}
