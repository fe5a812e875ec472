use wgpu::{Device, DeviceType, Features, TextureFormat};

/// Floating-point format of the folded field on the GPU.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Precision {
    /// 16 bits: supported by every GPU, half the memory traffic; the image is within two levels of
    /// 8-bit color of the definition.
    Half,
    /// 32 bits: faster on software adapters. Requires `FLOAT32_FILTERABLE`.
    Float,
}

impl Precision {
    /// Returns the fastest format on a device: [`Precision::Float`] on a software adapter that
    /// supports it, otherwise [`Precision::Half`].
    pub fn best_for(device: &Device) -> Self {
        let filterable = device.features().contains(Features::FLOAT32_FILTERABLE);
        if filterable && device.adapter_info().device_type == DeviceType::Cpu {
            Self::Float
        } else {
            Self::Half
        }
    }

    /// Returns the format of two-dimensional textures.
    pub(crate) fn picture_format(self) -> TextureFormat {
        match self {
            Self::Half => TextureFormat::Rgba16Float,
            Self::Float => TextureFormat::Rgba32Float,
        }
    }

    /// Returns the format of volume textures.
    pub(crate) fn volume_format(self) -> TextureFormat {
        match self {
            Self::Half => TextureFormat::Rgba16Float,
            Self::Float => TextureFormat::R32Float,
        }
    }
}
