//! A face of a few kilobytes that keeps a renderer busy: rays cross a grid of empty cells that is
//! thin in one direction and endless in the others.

use std::ops::Range;

use face::{FaceFile, FaceModel, PackedModel, Sizes};
use sha2::{Digest, Sha256};

/// The size table is the first section of a face file (section 1 of `docs/FACE_FILE.md`).
const TABLE_AT: usize = 12;
const ENTRY_BYTES: usize = 44;
const HASH_BYTES: usize = 32;
/// The head box follows the 17 sides of the size table (section 2 of the same document).
const HEAD_BOX: Range<usize> = 34..58;
const SIZE_TABLE_BYTES: usize = 142;

/// Returns the public part of the face, with the codec profile of an honest one.
///
/// The box of the head is written into the bytes: no honest program makes such a box.
///
/// # Errors
/// If the honest part of the face cannot be packed.
pub(super) fn render_bomb(codec_profile: &[u8]) -> anyhow::Result<Vec<u8>> {
    let sizes = Sizes { density: 128, ..Sizes::tiny() };
    let (sizes, layout, mut params) = FaceModel::untrained(sizes, 1).into_parts();
    // The corner of an untrained field is empty.
    let empty = params[layout.density.start];
    params[layout.density.clone()].fill(empty);
    let packed = PackedModel::new(&FaceModel::new(sizes, params)?)?;
    let mut bytes = FaceFile::new(packed, codec_profile.to_vec(), None)?.public_bytes();
    let head: [f32; 6] = [-0.000_51, -99.0, -99.0, 0.000_51, 99.0, 99.0];
    let head: Vec<u8> = head.into_iter().flat_map(f32::to_le_bytes).collect();
    replace_head_box(&mut bytes, &head);
    Ok(bytes)
}

/// Writes another head box and the hashes that go with it.
fn replace_head_box(bytes: &mut [u8], head: &[u8]) {
    let n_sections = usize::from(u16::from_le_bytes([bytes[10], bytes[11]]));
    let table_end = TABLE_AT + ENTRY_BYTES * n_sections;
    let sizes = table_end + HASH_BYTES;
    bytes[sizes..][HEAD_BOX].copy_from_slice(head);
    let hash = Sha256::digest(&bytes[sizes..][..SIZE_TABLE_BYTES]);
    bytes[TABLE_AT + ENTRY_BYTES - HASH_BYTES..][..HASH_BYTES].copy_from_slice(&hash);
    let hash = Sha256::digest(&bytes[..table_end]);
    bytes[table_end..sizes].copy_from_slice(&hash);
}
