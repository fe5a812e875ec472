use crate::ModelError;

/// Why bytes are not a face file. None of these changes anything on disk.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FaceFileError {
    /// Something else altogether. Choose another file.
    #[error("not a face file; make one with `feathercall enroll`")]
    NotAFace,
    /// Written by another version. Enroll again, or use that version.
    #[error(
        "face file version {found} cannot be read, only version {newest}; \
         make a new one with `feathercall enroll`"
    )]
    UnsupportedVersion { found: u16, newest: u16 },
    /// Cut short, as by a full disk or a broken transfer. Copy or enroll again.
    #[error("the face file is cut short: {want} bytes expected, {got} found")]
    Truncated { want: usize, got: usize },
    /// Larger than any face. Refuse it.
    #[error("the face file's {part} is {got} bytes long, more than the {limit} allowed")]
    TooLong { part: &'static str, got: usize, limit: usize },
    /// Its hash does not fit: a bit flipped. Copy or enroll again.
    #[error("the face file is damaged: the hash of its {part} does not match")]
    Damaged { part: &'static str },
    /// A section is not there or there twice. Enroll again.
    #[error("the face file must have one {part}, found {got}")]
    Sections { part: &'static str, got: usize },
    /// A packed part does not unpack to its size. Refuse it.
    #[error("the face file's {part} cannot be unpacked")]
    Unpack { part: &'static str },
    /// The numbers do not make a field. Refuse it.
    #[error(transparent)]
    Model(#[from] ModelError),
}
