/// Why sizes and parameters do not make a [`FaceModel`](crate::FaceModel).
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A size is outside the limits of the file format.
    #[error("a size of the face model is outside the limits of this version")]
    Sizes,
    /// A box is flat, too large or far away: no enrollment makes such a face.
    #[error("the {name} box of the face model has a shape that no face has; use another face")]
    Box { name: &'static str },
    /// A picture, or reading the file, would cost more than with any enrolled face.
    #[error(
        "the face model costs too much: {got} {what}, more than the {limit} allowed; use another face"
    )]
    Cost { what: &'static str, got: u64, limit: u64 },
    /// The number of parameters does not match the sizes.
    #[error("a face model of these sizes has {want} parameters, got {got}")]
    Length { want: usize, got: usize },
    /// A parameter is NaN or infinite: training diverged.
    #[error("parameter {index} of the face model is NaN or infinite")]
    NotFinite { index: usize },
}
