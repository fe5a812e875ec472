use sha2::{Digest, Sha256};
use types::POSE_DIMS;

use crate::pack::{PartLengths, pack, unpack};
use crate::{Bounds, CHANNELS, FaceModel, HIDDEN, Layout, ModelError, Sizes};

/// First bytes of every face file.
const MAGIC: &[u8; 8] = b"FEATFACE";
/// The only version of the format so far.
const VERSION: u16 = 1;
/// Largest face file that is read.
pub const MAX_FACE_FILE: usize = 8 << 20;
/// Most numbers of a field: several times what is shipped.
const MAX_PARAMETERS: usize = 4 << 20;
/// Deflate cannot make more out of a byte, so no short file claims a large field.
const MOST_PER_BYTE: usize = 1032;
/// Largest codec profile that is read.
const MAX_PROFILE: usize = 64 << 10;
/// Most sections of a file; unknown ones are kept out, so that a later version may add some.
const MAX_SECTIONS: usize = 16;
/// Tag, flags, length, SHA-256.
const TABLE_ENTRY: usize = 4 + 4 + 4 + 32;
/// Flag of a section that stays with its owner.
const PRIVATE: u32 = 1;

const SIZES: [u8; 4] = *b"SIZE";
const FIELD: [u8; 4] = *b"FILD";
const PROFILE: [u8; 4] = *b"PROF";
const SENDER: [u8; 4] = *b"SNDR";

/// A face file: what a peer needs to draw a person, and what the person needs to send.
///
/// Little-endian throughout: the magic `FEATFACE`, version u16, number of sections u16, the table
/// (tag, flags u32, length u32, SHA-256 of the section), the SHA-256 of all before it, then the
/// sections in table order. A section with flag 1 is private: [`FaceFile::public_bytes`] leaves
/// it out. The layout of each section is in docs/MODEL.md.
///
/// ```
/// use face::{FaceFile, FaceModel, Sizes};
/// let file = FaceFile::new(&FaceModel::untrained(Sizes::tiny(), 1), vec![1, 2], Some(vec![3]))?;
/// let seen_by_a_peer = FaceFile::parse(&file.public_bytes())?;
/// assert_eq!(seen_by_a_peer.model, file.model);
/// assert_eq!(seen_by_a_peer.content_hash(), file.content_hash());
/// assert!(seen_by_a_peer.sender.is_none());
/// # Ok::<(), face::FaceFileError>(())
/// ```
#[derive(Clone, Debug)]
pub struct FaceFile {
    /// The field, as its bytes say it (8 bits a number), never finer.
    pub model: FaceModel,
    /// Bytes of the codec's profile; opaque here.
    pub codec_profile: Vec<u8>,
    /// Bytes of the sender's part (identity, embedder, torso reference); opaque here.
    pub sender: Option<Vec<u8>>,
    /// The sections that `model` was read from.
    sizes_bytes: Vec<u8>,
    field_bytes: Vec<u8>,
    part_bytes: PartLengths,
}

/// Why bytes are not a face file. None of these changes anything on disk.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FaceFileError {
    /// Something else altogether. Choose another file.
    #[error("not a face file; make one with `feathercall enroll`")]
    NotAFace,
    /// Written by another version. Enroll again, or use that version.
    #[error("face file version {found} cannot be read, only version {newest}; enroll again")]
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

/// What `feathercall model info` shows.
#[derive(Clone, Debug, PartialEq)]
pub struct FaceInfo {
    /// Format version.
    pub version: u16,
    /// Numbers in the field.
    pub parameters: usize,
    /// Bytes a peer downloads.
    pub public_bytes: usize,
    /// Bytes that stay with the sender.
    pub private_bytes: usize,
    /// Bytes of each part of the field, compressed.
    pub parts: Vec<(&'static str, usize)>,
    /// Identity of the public part.
    pub content_hash: [u8; 32],
}

impl FaceFile {
    /// Packs a field into a file. The file's `model` is what remains after packing.
    ///
    /// # Errors
    /// If a section is over its limit, or the packed field is no field (a weight beyond f16).
    pub fn new(
        model: &FaceModel,
        codec_profile: Vec<u8>,
        sender: Option<Vec<u8>>,
    ) -> Result<Self, FaceFileError> {
        let field_bytes = pack(model.sizes(), model.layout(), model.params());
        let file =
            Self::from_sections(sizes_to_bytes(model.sizes()), field_bytes, codec_profile, sender)?;
        let got = file.length(true);
        if got > MAX_FACE_FILE {
            return Err(FaceFileError::TooLong { part: "whole", got, limit: MAX_FACE_FILE });
        }
        Ok(file)
    }

    /// Reads a face file, with or without its private part.
    ///
    /// # Errors
    /// If the bytes are no face file, of another version, cut short, damaged or out of bounds.
    /// Nothing is allocated that the bytes do not pay for.
    pub fn parse(bytes: &[u8]) -> Result<Self, FaceFileError> {
        if bytes.get(..MAGIC.len()) != Some(MAGIC) {
            return Err(FaceFileError::NotAFace);
        }
        if bytes.len() > MAX_FACE_FILE {
            return Err(FaceFileError::TooLong {
                part: "whole",
                got: bytes.len(),
                limit: MAX_FACE_FILE,
            });
        }
        let need = |want: usize| {
            if bytes.len() < want {
                Err(FaceFileError::Truncated { want, got: bytes.len() })
            } else {
                Ok(())
            }
        };
        need(MAGIC.len() + 4)?;
        let found = u16::from_le_bytes([bytes[8], bytes[9]]);
        if found != VERSION {
            return Err(FaceFileError::UnsupportedVersion { found, newest: VERSION });
        }
        let n = u16::from_le_bytes([bytes[10], bytes[11]]) as usize;
        if n > MAX_SECTIONS {
            return Err(FaceFileError::TooLong { part: "table", got: n, limit: MAX_SECTIONS });
        }
        let table_end = 12 + n * TABLE_ENTRY;
        need(table_end + 32)?;
        if Sha256::digest(&bytes[..table_end])[..] != bytes[table_end..table_end + 32] {
            return Err(FaceFileError::Damaged { part: "table of contents" });
        }
        let mut at = table_end + 32;
        let mut found: Vec<([u8; 4], &[u8])> = Vec::new();
        for entry in bytes[12..table_end].as_chunks::<TABLE_ENTRY>().0 {
            let tag = [entry[0], entry[1], entry[2], entry[3]];
            let length = u32::from_le_bytes([entry[8], entry[9], entry[10], entry[11]]) as usize;
            if length > MAX_FACE_FILE {
                let part = section_name(tag);
                return Err(FaceFileError::TooLong { part, got: length, limit: MAX_FACE_FILE });
            }
            need(at + length)?;
            let section = &bytes[at..at + length];
            at += length;
            if Sha256::digest(section)[..] != entry[12..] {
                return Err(FaceFileError::Damaged { part: section_name(tag) });
            }
            found.push((tag, section));
        }
        if at != bytes.len() {
            return Err(FaceFileError::TooLong { part: "whole", got: bytes.len(), limit: at });
        }
        let optional = |tag| {
            let mut all = found.iter().filter(|(t, _)| *t == tag).map(|(_, s)| s.to_vec());
            let first = all.next();
            match all.count() {
                0 => Ok(first),
                more => Err(FaceFileError::Sections { part: section_name(tag), got: more + 1 }),
            }
        };
        let required =
            |tag| optional(tag)?.ok_or(FaceFileError::Sections { part: section_name(tag), got: 0 });
        Self::from_sections(
            required(SIZES)?,
            required(FIELD)?,
            required(PROFILE)?,
            optional(SENDER)?,
        )
    }

    fn from_sections(
        sizes_bytes: Vec<u8>,
        field_bytes: Vec<u8>,
        codec_profile: Vec<u8>,
        sender: Option<Vec<u8>>,
    ) -> Result<Self, FaceFileError> {
        if codec_profile.len() > MAX_PROFILE {
            return Err(FaceFileError::TooLong {
                part: "codec profile",
                got: codec_profile.len(),
                limit: MAX_PROFILE,
            });
        }
        let sizes = sizes_from_bytes(&sizes_bytes)?;
        let layout = Layout::new(&sizes);
        if layout.len > MAX_PARAMETERS.min(field_bytes.len() * MOST_PER_BYTE) {
            return Err(FaceFileError::Unpack { part: "field" });
        }
        let (params, part_bytes) = unpack(&sizes, &layout, &field_bytes)?;
        let model = FaceModel::new(sizes, params)?;
        Ok(Self { model, codec_profile, sender, sizes_bytes, field_bytes, part_bytes })
    }

    /// The whole file, private part included: for its owner only.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.assemble(true)
    }

    /// The file without its private part: what goes to a peer.
    pub fn public_bytes(&self) -> Vec<u8> {
        self.assemble(false)
    }

    /// SHA-256 of [`FaceFile::public_bytes`]: the same with and without the private part.
    pub fn content_hash(&self) -> [u8; 32] {
        Sha256::digest(self.public_bytes()).into()
    }

    /// Numbers about the file.
    pub fn info(&self) -> FaceInfo {
        let public_bytes = self.length(false);
        let mut parts: Vec<(&'static str, usize)> = Vec::new();
        for &(name, bytes) in &self.part_bytes {
            match parts.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += bytes,
                None => parts.push((name, bytes)),
            }
        }
        FaceInfo {
            version: VERSION,
            parameters: self.model.params().len(),
            public_bytes,
            private_bytes: self.length(true) - public_bytes,
            parts,
            content_hash: self.content_hash(),
        }
    }

    fn sections(&self, private: bool) -> Vec<([u8; 4], u32, &[u8])> {
        let mut sections = vec![
            (SIZES, 0, &self.sizes_bytes[..]),
            (FIELD, 0, &self.field_bytes[..]),
            (PROFILE, 0, &self.codec_profile[..]),
        ];
        if let (true, Some(sender)) = (private, &self.sender) {
            sections.push((SENDER, PRIVATE, sender));
        }
        sections
    }

    fn length(&self, private: bool) -> usize {
        let sections = self.sections(private);
        let fixed = MAGIC.len() + 4 + 32;
        fixed + sections.iter().map(|(_, _, s)| TABLE_ENTRY + s.len()).sum::<usize>()
    }

    fn assemble(&self, private: bool) -> Vec<u8> {
        let sections = self.sections(private);
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((sections.len() as u16).to_le_bytes());
        for (tag, flags, section) in &sections {
            bytes.extend(tag);
            bytes.extend(flags.to_le_bytes());
            bytes.extend((section.len() as u32).to_le_bytes());
            bytes.extend(Sha256::digest(section));
        }
        bytes.extend(Sha256::digest(&bytes));
        for (_, _, section) in sections {
            bytes.extend(section);
        }
        bytes
    }
}

impl FaceModel {
    /// The field of a face file; see [`FaceFile::parse`].
    ///
    /// # Errors
    /// As [`FaceFile::parse`].
    pub fn parse(bytes: &[u8]) -> Result<Self, FaceFileError> {
        Ok(FaceFile::parse(bytes)?.model)
    }

    /// A face file of this field alone, with an empty codec profile and no private part.
    ///
    /// # Errors
    /// As [`FaceFile::new`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, FaceFileError> {
        Ok(FaceFile::new(self, Vec::new(), None)?.public_bytes())
    }
}

fn section_name(tag: [u8; 4]) -> &'static str {
    match tag {
        SIZES => "size table",
        FIELD => "field",
        PROFILE => "codec profile",
        SENDER => "sender part",
        _ => "unknown section",
    }
}

/// 17 counts as u16 (the first two are [`CHANNELS`] and [`HIDDEN`]), then 27 f32.
fn sizes_to_bytes(s: &Sizes) -> Vec<u8> {
    let counts = [
        CHANNELS,
        HIDDEN,
        s.plane_xy,
        s.plane_z,
        s.n_expression,
        s.expression_xy,
        s.expression_z,
        s.density,
        s.n_density,
        s.density_expression,
        s.warp,
        s.torso_width,
        s.torso_height,
        s.n_torso,
        s.torso_blend_width,
        s.torso_blend_height,
        s.background,
    ];
    let mut bytes: Vec<u8> = counts.iter().flat_map(|&n| (n as u16).to_le_bytes()).collect();
    let numbers = [s.head.min, s.head.max].concat();
    let flat = [s.face.min, s.face.max, s.torso.min, s.torso.max].concat();
    let numbers = numbers.iter().chain(&flat).chain([&s.focal]);
    for v in numbers.chain(&s.pose_mean).chain(&s.pose_scale) {
        bytes.extend(v.to_le_bytes());
    }
    bytes
}

const COUNTS: usize = 17;
const NUMBERS: usize = 6 + 8 + 1 + 2 * POSE_DIMS;

fn sizes_from_bytes(bytes: &[u8]) -> Result<Sizes, FaceFileError> {
    let want = COUNTS * 2 + NUMBERS * 4;
    if bytes.len() != want {
        return Err(FaceFileError::Truncated { want, got: bytes.len() });
    }
    let (counts, numbers) = bytes.split_at(COUNTS * 2);
    let n: Vec<usize> =
        counts.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b) as usize).collect();
    let v: Vec<f32> = numbers.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let pose = |at: usize| std::array::from_fn(|i| v[at + i]);
    let sizes = Sizes {
        plane_xy: n[2],
        plane_z: n[3],
        n_expression: n[4],
        expression_xy: n[5],
        expression_z: n[6],
        density: n[7],
        n_density: n[8],
        density_expression: n[9],
        warp: n[10],
        torso_width: n[11],
        torso_height: n[12],
        n_torso: n[13],
        torso_blend_width: n[14],
        torso_blend_height: n[15],
        background: n[16],
        head: Bounds { min: [v[0], v[1], v[2]], max: [v[3], v[4], v[5]] },
        face: Bounds { min: [v[6], v[7]], max: [v[8], v[9]] },
        torso: Bounds { min: [v[10], v[11]], max: [v[12], v[13]] },
        focal: v[14],
        pose_mean: pose(15),
        pose_scale: pose(15 + POSE_DIMS),
    };
    if n[0] != CHANNELS || n[1] != HIDDEN || !sizes.sound() {
        return Err(ModelError::Sizes.into());
    }
    Ok(sizes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file() -> FaceFile {
        let model = FaceModel::noise(Sizes::tiny(), 11);
        FaceFile::new(&model, vec![7; 20], Some(vec![9; 30])).unwrap()
    }

    #[test]
    fn a_file_survives_its_bytes_to_the_bit() {
        let bytes = file().to_bytes();
        let again = FaceFile::parse(&bytes).unwrap();
        assert_eq!(again.to_bytes(), bytes);
        assert_eq!(again.model, file().model);
        assert_eq!(again.sender.as_deref(), Some(&[9; 30][..]));
        assert_eq!(again.info().public_bytes, again.public_bytes().len());
    }

    #[test]
    fn the_private_part_never_reaches_a_peer() {
        let public = file().public_bytes();
        assert!(!public.windows(30).any(|w| w == [9; 30]));
        assert_eq!(FaceFile::parse(&public).unwrap().content_hash(), file().content_hash());
    }

    #[test]
    fn every_flipped_byte_is_found() {
        let bytes = file().to_bytes();
        for at in (0..bytes.len()).step_by(37).chain(0..200) {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            let error = FaceFile::parse(&bad).expect_err("a flipped byte must be found");
            match at {
                0..8 => assert_eq!(error, FaceFileError::NotAFace),
                8..10 => assert!(matches!(error, FaceFileError::UnsupportedVersion { .. })),
                12.. => assert!(matches!(error, FaceFileError::Damaged { .. })),
                _ => {}
            }
        }
    }

    #[test]
    fn a_file_cut_short_says_so() {
        let bytes = file().to_bytes();
        assert_eq!(FaceFile::parse(b"GIF89a").unwrap_err(), FaceFileError::NotAFace);
        assert!(matches!(
            FaceFile::parse(&bytes[..bytes.len() - 1]),
            Err(FaceFileError::Truncated { .. })
        ));
    }

    /// Bytes with sound hashes, so that what lies behind them is reached.
    fn resealed(mut sizes: Vec<u8>, field: Vec<u8>, edit: &[(usize, u8)]) -> Vec<u8> {
        for &(at, value) in edit {
            let at = at % sizes.len();
            sizes[at] = value;
        }
        let mut file = file();
        file.sizes_bytes = sizes;
        file.field_bytes = field;
        file.to_bytes()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut with_magic = MAGIC.to_vec();
            with_magic.extend(&bytes);
            prop_assert!(FaceFile::parse(&with_magic).is_err());
        }

        #[test]
        fn no_hostile_sizes_panic_or_allocate(
            edit in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..4),
        ) {
            let whole = file();
            let bytes = resealed(whole.sizes_bytes, whole.field_bytes, &edit);
            // Sizes that no field of this length can have are refused, whatever they are.
            let _ = FaceFile::parse(&bytes);
        }

        #[test]
        fn no_hostile_field_panics(at in any::<usize>(), value in any::<u8>()) {
            let mut whole = file();
            let at = at % whole.field_bytes.len();
            whole.field_bytes[at] = value;
            let _ = FaceFile::parse(&whole.to_bytes());
        }
    }
}
