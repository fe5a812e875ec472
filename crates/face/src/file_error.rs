use crate::model_error::ModelError;

/// Why a face file cannot be read or written. Nothing on disk has changed.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FaceFileError {
    /// The bytes are something else. Choose another file.
    #[error("not a face file; make one with `feathercall enroll`")]
    NotAFace,
    /// The file was written by another version. Enroll again, or use that version.
    #[error(
        "face file version {found} cannot be read, only version {newest}; \
         make a new one with `feathercall enroll`"
    )]
    UnsupportedVersion { found: u16, newest: u16 },
    /// The file ends too early, as after a full disk or a broken transfer. Copy it again or enroll
    /// again.
    #[error("the face file is truncated: {want} bytes expected, {got} found")]
    Truncated { want: usize, got: usize },
    /// A part is longer than the format allows. Refuse the file.
    #[error("the face file's {part} is {got} bytes long, more than the {limit} allowed")]
    TooLong { part: &'static str, got: usize, limit: usize },
    /// A hash does not match. Copy the file again or enroll again.
    #[error("the face file is damaged: the hash of its {part} does not match")]
    Damaged { part: &'static str },
    /// A section is missing or appears too often. Enroll again.
    #[error("the face file must have one {part}, found {got}")]
    Sections { part: &'static str, got: usize },
    /// A layer does not decode. Refuse the file.
    #[error("the face file's {part} cannot be decoded")]
    Unpack { part: &'static str },
    /// Sizes or parameters do not make a field. Refuse the file.
    #[error(transparent)]
    Model(#[from] ModelError),
}
