/// Why a face cannot be drawn here, or a picture not be read back.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    /// Ask for a picture between the two.
    #[error("a picture of {side} pixels a side is outside {min}..={max} of this renderer")]
    Side { side: u32, min: u32, max: u32 },
    /// The adapter is too small for any face. Draw on the CPU, or take another adapter.
    #[error("the graphics adapter offers {limit} {what}, drawing a face needs {need}")]
    Adapter { what: &'static str, need: u64, limit: u64 },
    /// The device lacks the feature that the asked precision needs. Ask for half precision.
    #[error("the graphics device was made without filtering of full floats")]
    Precision,
    /// The device was lost or reset while it drew. Make a new device and a new renderer.
    #[error("the graphics device did not finish the picture: {0}")]
    Poll(#[from] wgpu::PollError),
    /// As [`RenderError::Poll`].
    #[error("the picture could not be read back from the graphics device")]
    Map,
    /// Start a read-back first.
    #[error("no read-back was started")]
    NothingStarted,
}
