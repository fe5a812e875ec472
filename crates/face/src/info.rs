//! Sizes of a face file and its parts.

/// Sizes of a face file and its parts, for `feathercall model info`.
#[derive(Clone, Debug, PartialEq)]
pub struct FaceInfo {
    /// Version of the format.
    pub version: u16,
    /// Number of parameters of the field.
    pub parameters: usize,
    /// Bytes of the public part, as far as present.
    pub public_bytes: usize,
    /// Bytes of the private part.
    pub private_bytes: usize,
    /// Bytes of the codec profile.
    pub profile_bytes: usize,
    /// Layers that are present, coarse to fine.
    pub layers: Vec<LayerInfo>,
    /// Number of layers of the whole file.
    pub n_layers: usize,
    /// Compressed bytes of each part of the field in all layers present.
    pub parts: Vec<(&'static str, usize)>,
    /// SHA-256 of the public part.
    pub content_hash: [u8; 32],
}

/// Sizes of one layer of a face file.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerInfo {
    /// Bytes of the layer.
    pub bytes: usize,
    /// Bytes of the public part up to the end of the layer.
    pub bytes_to_here: usize,
    /// Compressed bytes of each part of the field in the layer.
    pub parts: Vec<(&'static str, usize)>,
}

/// Returns the sum of bytes for each name, in order of first appearance.
pub(crate) fn sums(parts: &[(&'static str, usize)]) -> Vec<(&'static str, usize)> {
    let mut sums: Vec<(&'static str, usize)> = Vec::new();
    for &(name, bytes) in parts {
        match sums.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += bytes,
            None => sums.push((name, bytes)),
        }
    }
    sums
}
