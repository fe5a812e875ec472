use sha2::{Digest, Sha256};

use crate::file_error::FaceFileError;
use crate::info::{FaceInfo, LayerInfo, sums};
use crate::pack::{MAX_LAYERS, PartLengths, pack, unpack};
use crate::size_table::{sizes_from_bytes, sizes_to_bytes};
use crate::{FaceModel, Layout, ModelError};

/// First bytes of every face file.
const MAGIC: &[u8; 8] = b"FEATFACE";
/// The only version of the format that is read.
const VERSION: u16 = 2;
/// Largest face file that is read.
pub const MAX_FACE_FILE: usize = 8 << 20;
/// Most numbers of a field: several times what is shipped. It bounds what a short file can make a
/// reader allocate, as many numbers may be coded in no bytes at all.
const MAX_PARAMETERS: usize = 4 << 20;
/// Largest codec profile that is read.
const MAX_PROFILE: usize = 64 << 10;
/// Most sections of a file; unknown ones are kept out, so that a later version may add some.
const MAX_SECTIONS: usize = 16;
/// Tag, flags, length, SHA-256.
const TABLE_ENTRY: usize = 4 + 4 + 4 + 32;
/// Magic, version, number of sections.
const FIXED: usize = MAGIC.len() + 4;
/// Flag of a section that stays with its owner.
const PRIVATE: u32 = 1;

const SIZES: [u8; 4] = *b"SIZE";
const PROFILE: [u8; 4] = *b"PROF";
const LAYER: [u8; 4] = *b"LAYR";
const SENDER: [u8; 4] = *b"SNDR";

/// A face file: what a peer needs to draw a person, and what the person needs to send.
///
/// Little-endian throughout: the magic `FEATFACE`, version u16, number of sections u16, the table
/// (tag, flags u32, length u32, SHA-256 of the section), the SHA-256 of all before it, then the
/// sections in table order: sizes, codec profile, the layers from coarse to fine, and what is
/// private (flag 1), which [`FaceFile::public_bytes`] leaves out. What each section holds is
/// written in docs/MODEL.md.
///
/// A file that ends after one of its layers is a face as well, a coarser one of the same sizes;
/// [`FaceFile::arrived`] tells how much of a file still coming is one.
///
/// ```
/// use face::{FaceFile, FaceModel, Sizes};
/// let file = FaceFile::new(&FaceModel::untrained(Sizes::tiny(), 1), vec![1, 2], Some(vec![3]))?;
/// let public = file.public_bytes();
/// let seen_by_a_peer = FaceFile::parse(&public)?;
/// assert_eq!(seen_by_a_peer.model, file.model);
/// assert_eq!(seen_by_a_peer.content_hash(), file.content_hash());
/// assert!(seen_by_a_peer.sender.is_none());
///
/// let arrived = FaceFile::arrived(&public[..public.len() - 1])?.expect("the table is there");
/// assert_eq!((arrived.layers, arrived.of), (2, 3));
/// let coarser = FaceFile::parse(&public[..arrived.bytes])?;
/// assert_eq!(coarser.model.sizes(), file.model.sizes());
/// # Ok::<(), face::FaceFileError>(())
/// ```
#[derive(Clone, Debug)]
pub struct FaceFile {
    /// The field, as its bytes say it, never finer.
    pub model: FaceModel,
    /// Bytes of the codec's profile; opaque here.
    pub codec_profile: Vec<u8>,
    /// Bytes of the sender's part (identity, embedder, torso reference); opaque here.
    pub sender: Option<Vec<u8>>,
    /// The sections that `model` was read from.
    sizes_bytes: Vec<u8>,
    /// From coarse to fine.
    layers: Vec<Layer>,
    /// Layers that the table names and the file lacks.
    missing: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Layer {
    bytes: Vec<u8>,
    parts: PartLengths,
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
struct Entry {
    tag: [u8; 4],
    flags: u32,
    length: usize,
    hash: [u8; 32],
}

/// How much of a face file that is still coming can be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Arrived {
    /// Layers that are whole.
    pub layers: usize,
    /// Layers in all.
    pub of: usize,
    /// Bytes up to the end of the last whole layer: what [`FaceFile::parse`] takes if `layers`
    /// is at least 1.
    pub bytes: usize,
}

impl FaceFile {
    /// Packs a field into a file. The file's `model` is what remains after packing.
    ///
    /// Draws a few hundred small pictures to see what each part of the field is worth; a second or
    /// two for the shipped sizes.
    ///
    /// # Errors
    /// If a section is over its limit.
    pub fn new(
        model: &FaceModel,
        codec_profile: Vec<u8>,
        sender: Option<Vec<u8>>,
    ) -> Result<Self, FaceFileError> {
        let layers = pack(model);
        let sizes = sizes_to_bytes(model.sizes());
        let file = Self::from_sections(sizes, codec_profile, layers, Vec::new(), sender)?;
        let got = file.length(true);
        if got > MAX_FACE_FILE {
            return Err(FaceFileError::TooLong { part: "whole", got, limit: MAX_FACE_FILE });
        }
        Ok(file)
    }

    /// Reads a face file, with or without its private part, or the beginning of one that ends
    /// with a layer.
    ///
    /// # Errors
    /// If the bytes are no face file, of another version, cut short, damaged or out of bounds.
    /// What is allocated is bounded whatever the bytes say.
    pub fn parse(bytes: &[u8]) -> Result<Self, FaceFileError> {
        if !bytes.starts_with(MAGIC) {
            return Err(FaceFileError::NotAFace);
        }
        if bytes.len() > MAX_FACE_FILE {
            let got = bytes.len();
            return Err(FaceFileError::TooLong { part: "whole", got, limit: MAX_FACE_FILE });
        }
        let (entries, mut at) =
            table(bytes)?.ok_or(FaceFileError::Truncated { want: FIXED + 32, got: bytes.len() })?;
        let mut found: Vec<([u8; 4], &[u8])> = Vec::new();
        let mut layers: Vec<Vec<u8>> = Vec::new();
        let mut missing = Vec::new();
        for entry in entries {
            let Entry { tag, length, .. } = entry;
            if at == bytes.len() && length > 0 && !layers.is_empty() {
                missing.push(entry);
                continue;
            }
            let section = bytes
                .get(at..at + length)
                .ok_or(FaceFileError::Truncated { want: at + length, got: bytes.len() })?;
            at += length;
            if Sha256::digest(section)[..] != entry.hash {
                return Err(FaceFileError::Damaged { part: section_name(tag) });
            }
            if tag == LAYER {
                layers.push(section.to_vec());
            } else {
                found.push((tag, section));
            }
        }
        if at != bytes.len() {
            return Err(FaceFileError::TooLong { part: "whole", got: bytes.len(), limit: at });
        }
        missing.retain(|entry| entry.tag == LAYER);
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
        let (sizes, profile) = (required(SIZES)?, required(PROFILE)?);
        Self::from_sections(sizes, profile, layers, missing, optional(SENDER)?)
    }

    /// How much of a face file is there whose first bytes these are; `None` before its table is.
    ///
    /// # Errors
    /// If they are not the first bytes of a face file of this version.
    pub fn arrived(bytes: &[u8]) -> Result<Option<Arrived>, FaceFileError> {
        let Some((entries, start)) = table(bytes)? else { return Ok(None) };
        let mut arrived = Arrived { layers: 0, of: 0, bytes: 0 };
        let mut at = start;
        for entry in entries {
            at += entry.length;
            if entry.tag == LAYER {
                arrived.of += 1;
                if at <= bytes.len() {
                    arrived.layers += 1;
                    arrived.bytes = at;
                }
            }
        }
        Ok(Some(arrived))
    }

    fn from_sections(
        sizes_bytes: Vec<u8>,
        codec_profile: Vec<u8>,
        layers: Vec<Vec<u8>>,
        missing: Vec<Entry>,
        sender: Option<Vec<u8>>,
    ) -> Result<Self, FaceFileError> {
        if codec_profile.len() > MAX_PROFILE {
            return Err(FaceFileError::TooLong {
                part: "codec profile",
                got: codec_profile.len(),
                limit: MAX_PROFILE,
            });
        }
        let n_layers = layers.len() + missing.len();
        if layers.is_empty() || n_layers > MAX_LAYERS {
            return Err(FaceFileError::Sections { part: "first layer", got: n_layers });
        }
        let sizes = sizes_from_bytes(&sizes_bytes)?;
        let layout = Layout::new(&sizes);
        if layout.len > MAX_PARAMETERS {
            return Err(ModelError::Sizes.into());
        }
        let slices: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
        let (params, parts) = unpack(&sizes, &layout, &slices)?;
        let model = FaceModel::new(sizes, params)?;
        let layers =
            layers.into_iter().zip(parts).map(|(bytes, parts)| Layer { bytes, parts }).collect();
        Ok(Self { model, codec_profile, sender, sizes_bytes, layers, missing })
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

    /// The layers that are here, and how many the whole file has.
    pub fn n_layers(&self) -> (usize, usize) {
        (self.layers.len(), self.layers.len() + self.missing.len())
    }

    /// Numbers about the file.
    pub fn info(&self) -> FaceInfo {
        let public_bytes = self.length(false);
        let mut to_here = public_bytes - self.layers.iter().map(|l| l.bytes.len()).sum::<usize>();
        let mut layers = Vec::new();
        for layer in &self.layers {
            to_here += layer.bytes.len();
            layers.push(LayerInfo {
                bytes: layer.bytes.len(),
                bytes_to_here: to_here,
                parts: sums(&layer.parts),
            });
        }
        let all: PartLengths = self.layers.iter().flat_map(|l| l.parts.iter().copied()).collect();
        FaceInfo {
            version: VERSION,
            parameters: self.model.params().len(),
            public_bytes,
            private_bytes: self.length(true) - public_bytes,
            profile_bytes: self.codec_profile.len(),
            layers,
            n_layers: self.n_layers().1,
            parts: sums(&all),
            content_hash: self.content_hash(),
        }
    }

    fn sections(&self, private: bool) -> Vec<([u8; 4], u32, &[u8])> {
        let mut sections =
            vec![(SIZES, 0, &self.sizes_bytes[..]), (PROFILE, 0, &self.codec_profile)];
        sections.extend(self.layers.iter().map(|layer| (LAYER, 0, &layer.bytes[..])));
        // Of a face that is not whole nothing comes after the layers.
        if let (true, true, Some(sender)) = (private, self.missing.is_empty(), &self.sender) {
            sections.push((SENDER, PRIVATE, sender));
        }
        sections
    }

    fn length(&self, private: bool) -> usize {
        let sections = self.sections(private);
        let table = (sections.len() + self.missing.len()) * TABLE_ENTRY;
        FIXED + table + 32 + sections.iter().map(|(_, _, s)| s.len()).sum::<usize>()
    }

    fn assemble(&self, private: bool) -> Vec<u8> {
        let sections = self.sections(private);
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(((sections.len() + self.missing.len()) as u16).to_le_bytes());
        let here = sections.iter().map(|&(tag, flags, section)| Entry {
            tag,
            flags,
            length: section.len(),
            hash: Sha256::digest(section).into(),
        });
        for Entry { tag, flags, length, hash } in here.chain(self.missing.iter().copied()) {
            bytes.extend(tag);
            bytes.extend(flags.to_le_bytes());
            bytes.extend((length as u32).to_le_bytes());
            bytes.extend(hash);
        }
        bytes.extend(Sha256::digest(&bytes));
        for (_, _, section) in sections {
            bytes.extend(section);
        }
        bytes
    }
}

/// The table of a face file whose first bytes these are, and where it ends; `None` before it is
/// all there.
fn table(bytes: &[u8]) -> Result<Option<(Vec<Entry>, usize)>, FaceFileError> {
    let n = bytes.len().min(MAGIC.len());
    if bytes[..n] != MAGIC[..n] {
        return Err(FaceFileError::NotAFace);
    }
    let Some(&[found_low, found_high, n_low, n_high]) =
        bytes.get(MAGIC.len()..).and_then(|rest| rest.first_chunk())
    else {
        return Ok(None);
    };
    let found = u16::from_le_bytes([found_low, found_high]);
    if found != VERSION {
        return Err(FaceFileError::UnsupportedVersion { found, newest: VERSION });
    }
    let n = u16::from_le_bytes([n_low, n_high]) as usize;
    if n > MAX_SECTIONS {
        return Err(FaceFileError::TooLong { part: "table", got: n, limit: MAX_SECTIONS });
    }
    let end = FIXED + n * TABLE_ENTRY;
    let Some(hash) = bytes.get(end..end + 32) else { return Ok(None) };
    if Sha256::digest(&bytes[..end])[..] != *hash {
        return Err(FaceFileError::Damaged { part: "table of contents" });
    }
    let mut entries = Vec::new();
    for entry in bytes[FIXED..end].as_chunks::<TABLE_ENTRY>().0 {
        let number = |at: usize| {
            u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]])
        };
        let tag = [entry[0], entry[1], entry[2], entry[3]];
        let length = number(8) as usize;
        if length > MAX_FACE_FILE {
            let part = section_name(tag);
            return Err(FaceFileError::TooLong { part, got: length, limit: MAX_FACE_FILE });
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(&entry[12..]);
        entries.push(Entry { tag, flags: number(4), length, hash });
    }
    Ok(Some((entries, end + 32)))
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
        PROFILE => "codec profile",
        LAYER => "layer",
        SENDER => "sender part",
        _ => "unknown section",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::LazyLock;

    use crate::Sizes;
    use proptest::prelude::*;

    fn file() -> FaceFile {
        static FILE: LazyLock<FaceFile> = LazyLock::new(|| {
            let model = FaceModel::noise(Sizes::tiny(), 11);
            FaceFile::new(&model, vec![7; 20], Some(vec![9; 30])).unwrap()
        });
        FILE.clone()
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
    fn a_file_cut_short_says_so_except_after_a_layer() {
        let file = file();
        let bytes = file.to_bytes();
        assert_eq!(FaceFile::parse(b"GIF89a").unwrap_err(), FaceFileError::NotAFace);
        let ends: Vec<usize> = {
            let mut at = bytes.len() - 30;
            let mut ends = vec![];
            for layer in file.layers.iter().rev() {
                ends.push(at);
                at -= layer.bytes.len();
            }
            ends
        };
        assert_eq!(ends.len(), 3);
        for at in (0..bytes.len()).step_by(61).chain(ends.iter().flat_map(|&end| end - 1..end + 2))
        {
            let parsed = FaceFile::parse(&bytes[..at]);
            match parsed {
                Ok(coarser) => assert!(ends.contains(&at) && coarser.sender.is_none(), "{at}"),
                Err(FaceFileError::NotAFace) => assert!(at < 8),
                Err(FaceFileError::Truncated { .. }) => assert!(!ends.contains(&at), "{at}"),
                Err(other) => panic!("{other} at {at}"),
            }
        }
    }

    #[test]
    fn a_file_tells_which_of_its_layers_have_arrived() {
        let file = file();
        let bytes = file.public_bytes();
        let layers = file.info().layers;
        assert_eq!(FaceFile::arrived(&bytes[..100]), Ok(None));
        assert_eq!(FaceFile::arrived(&[]), Ok(None));
        assert_eq!(FaceFile::arrived(b"GIF"), Err(FaceFileError::NotAFace));
        let first = layers[0].bytes_to_here;
        let none = Arrived { layers: 0, of: 3, bytes: 0 };
        assert_eq!(FaceFile::arrived(&bytes[..first - 1]), Ok(Some(none)));
        for (idx, layer) in layers.iter().enumerate() {
            let here = Arrived { layers: idx + 1, of: 3, bytes: layer.bytes_to_here };
            assert_eq!(FaceFile::arrived(&bytes[..layer.bytes_to_here]), Ok(Some(here)));
            let coarser = FaceFile::parse(&bytes[..layer.bytes_to_here]).unwrap();
            assert_eq!(coarser.n_layers(), (idx + 1, 3));
            // What is kept of it is what came, to be gone on from.
            assert_eq!(coarser.public_bytes(), bytes[..layer.bytes_to_here]);
        }
        assert_eq!(layers[2].bytes_to_here, bytes.len());
        assert_eq!(file.info().n_layers, 3);
    }

    #[test]
    fn layers_seen_on_the_way_change_nothing_about_the_end() {
        let file = file();
        let bytes = file.public_bytes();
        for layer in file.info().layers {
            let _ = FaceFile::parse(&bytes[..layer.bytes_to_here]).unwrap();
        }
        assert_eq!(FaceFile::parse(&bytes).unwrap().model, file.model);
    }

    #[test]
    fn a_file_of_the_first_version_says_what_to_do() {
        let mut bytes = file().to_bytes();
        bytes[8] = 1;
        let error = FaceFile::parse(&bytes).unwrap_err();
        assert_eq!(error, FaceFileError::UnsupportedVersion { found: 1, newest: 2 });
        assert!(error.to_string().contains("feathercall enroll"), "{error}");
        assert_eq!(FaceFile::arrived(&bytes[..20]), Err(error));
    }

    /// Bytes with sound hashes, so that what lies behind them is reached.
    fn resealed(sizes: &[(usize, u8)], layer: usize, edit: &[(usize, u8)]) -> Vec<u8> {
        let mut file = file();
        let change = |bytes: &mut Vec<u8>, edit: &[(usize, u8)]| {
            for &(at, value) in edit {
                let at = at % bytes.len();
                bytes[at] = value;
            }
        };
        change(&mut file.sizes_bytes, sizes);
        change(&mut file.layers[layer].bytes, edit);
        file.to_bytes()
    }

    fn edits(n: std::ops::Range<usize>) -> impl Strategy<Value = Vec<(usize, u8)>> {
        proptest::collection::vec((any::<usize>(), any::<u8>()), n)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut with_magic = MAGIC.to_vec();
            with_magic.extend(&bytes);
            prop_assert!(FaceFile::parse(&with_magic).is_err());
            let _ = FaceFile::arrived(&with_magic);
        }

        #[test]
        fn no_hostile_sizes_panic_or_allocate(edit in edits(1..4)) {
            let _ = FaceFile::parse(&resealed(&edit, 0, &[]));
        }

        #[test]
        fn no_hostile_layer_panics(layer in 0_usize..3, edit in edits(1..4)) {
            let _ = FaceFile::parse(&resealed(&[], layer, &edit));
        }

        #[test]
        fn no_hostile_head_of_a_layer_panics(layer in 0_usize..3, at in 0_usize..400, value: u8) {
            let _ = FaceFile::parse(&resealed(&[], layer, &[(at, value)]));
        }
    }
}
