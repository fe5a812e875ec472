/// Why a field cannot be rendered here, or an image not be read back.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    /// The side is out of range. Ask for one inside it.
    #[error("an image of {side} pixels a side is outside {min}..={max} of this renderer")]
    Side { side: u32, min: u32, max: u32 },
    /// A limit of the adapter is too low for this field. Render on the CPU, or use another adapter.
    #[error("the graphics adapter offers {limit} {what}, rendering a face needs {need}")]
    Adapter { what: &'static str, need: u64, limit: u64 },
    /// The device lacks a feature that the precision requires. Use half precision.
    #[error("the graphics device cannot filter 32-bit float textures")]
    Precision,
    /// The device was lost or reset while it rendered. Make a new device and a new renderer.
    #[error("the graphics device did not finish the image: {0}")]
    Poll(#[from] wgpu::PollError),
    /// The device was lost or reset while an image was read back. Make a new device and a new
    /// renderer.
    #[error("the image could not be read back from the graphics device")]
    Map,
    /// No read-back was started. Start one first.
    #[error("no read-back was started")]
    NothingStarted,
}
