/// What `feathercall model info` shows.
#[derive(Clone, Debug, PartialEq)]
pub struct FaceInfo {
    /// Format version.
    pub version: u16,
    /// Numbers in the field.
    pub parameters: usize,
    /// Bytes a peer downloads, of those that are here.
    pub public_bytes: usize,
    /// Bytes that stay with the sender.
    pub private_bytes: usize,
    /// Bytes of the codec's profile.
    pub profile_bytes: usize,
    /// The layers that are here, coarse to fine.
    pub layers: Vec<LayerInfo>,
    /// Layers of the whole file.
    pub n_layers: usize,
    /// Bytes of each part of the field over all layers, compressed.
    pub parts: Vec<(&'static str, usize)>,
    /// Identity of the public part.
    pub content_hash: [u8; 32],
}

/// One layer of a face file.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerInfo {
    /// Its bytes.
    pub bytes: usize,
    /// Bytes of the public file up to its end: what a peer needs to draw with it.
    pub bytes_to_here: usize,
    /// Bytes of each part of the field in it.
    pub parts: Vec<(&'static str, usize)>,
}

/// Bytes by name, in order of first appearance.
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
