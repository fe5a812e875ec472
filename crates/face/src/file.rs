//! Face files: sections, table of contents, hashes. `docs/FACE_FILE.md` is the specification.

use sha2::{Digest, Sha256};

use crate::consent::Consent;
use crate::cost::check_reading;
use crate::file_error::FaceFileError;
use crate::info::{FaceInfo, LayerInfo, sums};
use crate::layout::Layout;
use crate::model::FaceModel;
use crate::model_error::ModelError;
use crate::pack::{MAX_LAYERS, PartLengths, pack, unpack};
use crate::size_table::{sizes_from_bytes, sizes_to_bytes};

/// First bytes of every face file.
const MAGIC: &[u8; 8] = b"FEATFACE";
/// Version of the format; no other is read.
const VERSION: u16 = 2;
/// Largest public part that is written, bytes: the largest that the transport carries to a peer.
const MAX_PUBLIC_BYTES: usize = 4 << 20;
/// Largest number of parameters, several times the default. Bounds what a short file can make a
/// reader allocate, because the range coder can code many zeros in no bytes at all.
const MAX_PARAMETERS: usize = 4 << 20;
/// Largest codec profile, bytes.
const MAX_PROFILE: usize = 64 << 10;
/// Largest number of sections. Sections of unknown tags are skipped, so that a later version may
/// add some.
const MAX_SECTIONS: usize = 16;
/// Bytes of an entry of the table: tag, flags, length, SHA-256.
const TABLE_ENTRY: usize = 4 + 4 + 4 + 32;
/// Bytes before the table: magic, version, number of sections.
const FIXED: usize = MAGIC.len() + 4;
/// Flag of a section that never leaves its owner's computer.
const PRIVATE: u32 = 1;

const SIZES: [u8; 4] = *b"SIZE";
const PROFILE: [u8; 4] = *b"PROF";
const LAYER: [u8; 4] = *b"LAYR";
const SENDER: [u8; 4] = *b"SNDR";
const CONSENT: [u8; 4] = *b"CNST";

/// Face model as a face file stores it: in layers, coarse to fine, with quantized parameters.
///
/// Packing quantizes, so [`PackedModel::model`] differs slightly from the model that was packed. A
/// codec profile must be measured on the packed model, because that is the one a peer draws.
#[derive(Clone, Debug)]
pub struct PackedModel {
    model: FaceModel,
    sizes_bytes: Vec<u8>,
    /// Layers that are present, coarse to fine.
    layers: Vec<Layer>,
    /// Layers that the table names and the file lacks.
    missing: Vec<Entry>,
}

/// Face file: what a peer needs to draw a person, and what that person needs to send.
///
/// Little-endian: the magic `FEATFACE`, version u16, number of sections u16, the table (tag, flags
/// u32, length u32, SHA-256 of the section), the SHA-256 of everything before it, then the sections
/// in the order of the table: sizes, codec profile, layers from coarse to fine, and the sender's
/// part with the record of consent, which are private (flag 1) and which
/// [`FaceFile::public_bytes`] leaves out.
/// `docs/FACE_FILE.md` specifies every section.
///
/// A file cut off at the end of a layer is a valid face file with a coarser model of the same
/// sizes; [`FaceFile::progress`] tells how much of a file in transfer is usable.
///
/// ```
/// use face::{FaceFile, FaceModel, PackedModel, Sizes};
/// let packed = PackedModel::new(&FaceModel::untrained(Sizes::tiny(), 1))?;
/// let file = FaceFile::new(packed, vec![1, 2], Some(vec![3]))?;
/// let public = file.public_bytes();
/// let received = FaceFile::parse(&public)?;
/// assert_eq!(received.model, file.model);
/// assert_eq!(received.content_hash(), file.content_hash());
/// assert!(received.sender.is_none());
///
/// let progress = FaceFile::progress(&public[..public.len() - 1])?.expect("the table is complete");
/// assert_eq!((progress.layers, progress.total_layers), (2, 3));
/// let coarser = FaceFile::parse(&public[..progress.usable_bytes])?;
/// assert_eq!(coarser.model.sizes(), file.model.sizes());
/// # Ok::<(), face::FaceFileError>(())
/// ```
#[derive(Clone, Debug)]
pub struct FaceFile {
    /// Model that the layers decode to.
    pub model: FaceModel,
    /// Bytes of the codec profile; opaque to this crate.
    pub codec_profile: Vec<u8>,
    /// Bytes of the sender's part (identity, embedder, torso reference); opaque to this crate.
    /// `None` in a file received from a peer.
    pub sender: Option<Vec<u8>>,
    /// Record of the person's consent. `None` in a file received from a peer, of a synthetic person,
    /// or of a version without such records.
    pub consent: Option<Consent>,
    sizes_bytes: Vec<u8>,
    layers: Vec<Layer>,
    missing: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Layer {
    bytes: Vec<u8>,
    parts: PartLengths,
}

/// Entry of the table.
#[derive(Clone, Copy, Debug)]
struct Entry {
    tag: [u8; 4],
    flags: u32,
    length: usize,
    hash: [u8; 32],
}

/// Progress of a face file in transfer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FileProgress {
    /// Number of complete layers.
    pub layers: usize,
    /// Number of layers of the whole file.
    pub total_layers: usize,
    /// Bytes up to the end of the last complete layer: the prefix that [`FaceFile::parse`] accepts.
    /// 0 before the first layer is complete.
    pub usable_bytes: usize,
}

impl PackedModel {
    /// Packs a model.
    ///
    /// Renders a few hundred small images to measure how much each channel contributes to the
    /// image; takes one to two seconds for the default sizes.
    ///
    /// # Errors
    /// If the sizes have more parameters than the format allows.
    pub fn new(model: &FaceModel) -> Result<Self, FaceFileError> {
        Self::from_sections(sizes_to_bytes(model.sizes()), pack(model), Vec::new())
    }

    /// Returns the model that the layers decode to.
    pub fn model(&self) -> &FaceModel {
        &self.model
    }

    fn from_sections(
        sizes_bytes: Vec<u8>,
        layers: Vec<Vec<u8>>,
        missing: Vec<Entry>,
    ) -> Result<Self, FaceFileError> {
        let n_layers = layers.len() + missing.len();
        if layers.is_empty() || n_layers > MAX_LAYERS {
            return Err(FaceFileError::Sections { part: "first layer", got: n_layers });
        }
        let sizes = sizes_from_bytes(&sizes_bytes)?;
        let layout = Layout::new(&sizes);
        if layout.len > MAX_PARAMETERS {
            return Err(ModelError::Sizes.into());
        }
        check_reading(&sizes, n_layers)?;
        let slices: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
        let (params, parts) = unpack(&sizes, &layout, &slices)?;
        let model = FaceModel::new(sizes, params)?;
        let layers =
            layers.into_iter().zip(parts).map(|(bytes, parts)| Layer { bytes, parts }).collect();
        Ok(Self { model, sizes_bytes, layers, missing })
    }
}

impl FaceFile {
    /// Largest face file, bytes, private part included.
    pub const MAX_BYTES: usize = 8 << 20;

    /// Joins a packed model, the bytes of its codec profile and, in the owner's own file, the bytes
    /// of the sender's part.
    ///
    /// # Errors
    /// If the codec profile is longer than 64 KiB, the public part than 4 MiB, or the file than
    /// [`FaceFile::MAX_BYTES`].
    pub fn new(
        packed: PackedModel,
        codec_profile: Vec<u8>,
        sender: Option<Vec<u8>>,
    ) -> Result<Self, FaceFileError> {
        check_profile(&codec_profile)?;
        let file = Self::from_parts(packed, codec_profile, sender);
        for (part, got, limit) in [
            ("public part", file.length(false), MAX_PUBLIC_BYTES),
            ("whole", file.length(true) + TABLE_ENTRY + Consent::BYTES, Self::MAX_BYTES),
        ] {
            if got > limit {
                return Err(FaceFileError::TooLong { part, got, limit });
            }
        }
        Ok(file)
    }

    /// Returns whether a file begins like a face file of any version.
    pub fn is_face(start: &[u8]) -> bool {
        start.starts_with(MAGIC)
    }

    /// Reads a face file with or without its private part, or a prefix of one that ends with a
    /// layer.
    ///
    /// # Errors
    /// If the bytes are not a face file, or one of another version, truncated, damaged, or with
    /// sizes out of bounds. Memory use is bounded for any input.
    pub fn parse(bytes: &[u8]) -> Result<Self, FaceFileError> {
        if !Self::is_face(bytes) {
            return Err(FaceFileError::NotAFace);
        }
        if bytes.len() > Self::MAX_BYTES {
            let got = bytes.len();
            return Err(FaceFileError::TooLong { part: "whole", got, limit: Self::MAX_BYTES });
        }
        let (entries, mut at) =
            table(bytes)?.ok_or(FaceFileError::Truncated { want: FIXED + 32, got: bytes.len() })?;
        let mut found: Vec<([u8; 4], &[u8])> = Vec::new();
        let mut layers: Vec<Vec<u8>> = Vec::new();
        let mut missing = Vec::new();
        let mut previous = None;
        for entry in entries {
            let Entry { tag, length, .. } = entry;
            if at == bytes.len() && length > 0 && previous == Some(LAYER) {
                missing.push(entry);
                continue;
            }
            previous = Some(tag);
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
        let (sizes, profile, sender) = (required(SIZES)?, required(PROFILE)?, optional(SENDER)?);
        let consent = optional(CONSENT)?.map(|bytes| Consent::parse(&bytes)).transpose()?;
        check_profile(&profile)?;
        let packed = PackedModel::from_sections(sizes, layers, missing)?;
        Ok(Self { consent, ..Self::from_parts(packed, profile, sender) })
    }

    /// Returns how much of a face file the first bytes of a transfer hold, or `None` before its
    /// table is complete.
    ///
    /// # Errors
    /// If they are not the first bytes of a face file of this version.
    pub fn progress(bytes: &[u8]) -> Result<Option<FileProgress>, FaceFileError> {
        let Some((entries, start)) = table(bytes)? else { return Ok(None) };
        let mut progress = FileProgress { layers: 0, total_layers: 0, usable_bytes: 0 };
        let mut at = start;
        for entry in entries {
            at += entry.length;
            if entry.tag == LAYER {
                progress.total_layers += 1;
                if at <= bytes.len() {
                    progress.layers += 1;
                    progress.usable_bytes = at;
                }
            }
        }
        Ok(Some(progress))
    }

    fn from_parts(packed: PackedModel, codec_profile: Vec<u8>, sender: Option<Vec<u8>>) -> Self {
        let PackedModel { model, sizes_bytes, layers, missing } = packed;
        Self { model, codec_profile, sender, consent: None, sizes_bytes, layers, missing }
    }

    /// Returns the whole file including its private part, for its owner only.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.assemble(true)
    }

    /// Returns the file without its private part: the bytes that are sent to a peer.
    pub fn public_bytes(&self) -> Vec<u8> {
        self.assemble(false)
    }

    /// Returns the SHA-256 of [`FaceFile::public_bytes`], which identifies the face if all layers
    /// are present. An incomplete file has another hash.
    pub fn content_hash(&self) -> [u8; 32] {
        Sha256::digest(self.public_bytes()).into()
    }

    /// Returns how many layers are present and how many the whole file has.
    pub fn n_layers(&self) -> (usize, usize) {
        (self.layers.len(), self.layers.len() + self.missing.len())
    }

    /// Returns sizes in bytes of the file and its parts.
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

    fn sections<'a>(
        &'a self,
        private: bool,
        consent: Option<&'a [u8; Consent::BYTES]>,
    ) -> Vec<([u8; 4], u32, &'a [u8])> {
        let mut sections =
            vec![(SIZES, 0, &self.sizes_bytes[..]), (PROFILE, 0, &self.codec_profile)];
        sections.extend(self.layers.iter().map(|layer| (LAYER, 0, &layer.bytes[..])));
        // Nothing follows the layers of an incomplete file.
        if private && self.missing.is_empty() {
            sections.extend(self.sender.as_deref().map(|sender| (SENDER, PRIVATE, sender)));
            sections.extend(consent.map(|consent| (CONSENT, PRIVATE, &consent[..])));
        }
        sections
    }

    fn length(&self, private: bool) -> usize {
        let consent = self.consent.map(Consent::to_bytes);
        let sections = self.sections(private, consent.as_ref());
        let table = (sections.len() + self.missing.len()) * TABLE_ENTRY;
        FIXED + table + 32 + sections.iter().map(|(_, _, s)| s.len()).sum::<usize>()
    }

    fn assemble(&self, private: bool) -> Vec<u8> {
        let consent = self.consent.map(Consent::to_bytes);
        let sections = self.sections(private, consent.as_ref());
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

fn check_profile(profile: &[u8]) -> Result<(), FaceFileError> {
    let (got, limit) = (profile.len(), MAX_PROFILE);
    if got > limit {
        return Err(FaceFileError::TooLong { part: "codec profile", got, limit });
    }
    Ok(())
}

/// Reads the table at the start of a face file. Returns its entries and the offset of the first
/// section, or `None` before the table is complete.
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
        if length > FaceFile::MAX_BYTES {
            let part = section_name(tag);
            return Err(FaceFileError::TooLong { part, got: length, limit: FaceFile::MAX_BYTES });
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(&entry[12..]);
        entries.push(Entry { tag, flags: number(4), length, hash });
    }
    Ok(Some((entries, end + 32)))
}

impl FaceModel {
    /// Reads the model of a face file; see [`FaceFile::parse`].
    ///
    /// # Errors
    /// As [`FaceFile::parse`].
    pub fn parse(bytes: &[u8]) -> Result<Self, FaceFileError> {
        Ok(FaceFile::parse(bytes)?.model)
    }

    /// Returns a face file of this model with an empty codec profile and no private part.
    ///
    /// # Errors
    /// As [`PackedModel::new`] and [`FaceFile::new`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, FaceFileError> {
        Ok(FaceFile::new(PackedModel::new(self)?, Vec::new(), None)?.public_bytes())
    }
}

fn section_name(tag: [u8; 4]) -> &'static str {
    match tag {
        SIZES => "size table",
        PROFILE => "codec profile",
        LAYER => "layer",
        SENDER => "sender part",
        CONSENT => "record of consent",
        _ => "unknown section",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::LazyLock;

    use crate::sizes::Sizes;
    use proptest::prelude::*;

    fn file() -> FaceFile {
        static FILE: LazyLock<FaceFile> = LazyLock::new(|| {
            let model = FaceModel::noise(Sizes::tiny(), 11);
            FaceFile::new(PackedModel::new(&model).unwrap(), vec![7; 20], Some(vec![9; 30]))
                .unwrap()
        });
        FILE.clone()
    }

    #[test]
    fn consent_is_recorded_in_the_own_file_and_nowhere_else() {
        let consent = Consent {
            given: std::time::Duration::from_secs(1_764_547_201),
            form: crate::ConsentForm::Terminal,
        };
        let with = FaceFile { consent: Some(consent), ..file() };
        let bytes = with.to_bytes();
        assert_eq!(FaceFile::parse(&bytes).unwrap().consent, Some(consent));
        assert_eq!(bytes.len(), file().to_bytes().len() + TABLE_ENTRY + Consent::BYTES);
        assert_eq!(with.public_bytes(), file().public_bytes());
        assert_eq!(FaceFile::parse(&with.public_bytes()).unwrap().consent, None);
        // A file cut off behind its sender part is not taken for one without consent.
        let cut = FaceFile::parse(&bytes[..bytes.len() - Consent::BYTES]).unwrap_err();
        assert!(matches!(cut, FaceFileError::Truncated { .. }), "{cut}");
    }

    #[test]
    fn writing_and_parsing_returns_the_same_file() {
        let bytes = file().to_bytes();
        let again = FaceFile::parse(&bytes).unwrap();
        assert_eq!(again.to_bytes(), bytes);
        assert_eq!(again.model, file().model);
        assert_eq!(again.sender.as_deref(), Some(&[9; 30][..]));
        assert_eq!(again.info().public_bytes, again.public_bytes().len());
    }

    #[test]
    fn public_bytes_hold_no_private_part() {
        let public = file().public_bytes();
        assert!(!public.windows(30).any(|w| w == [9; 30]));
        assert_eq!(FaceFile::parse(&public).unwrap().content_hash(), file().content_hash());
    }

    #[test]
    fn every_flipped_byte_is_detected() {
        let bytes = file().to_bytes();
        for at in (0..bytes.len()).step_by(37).chain(0..200) {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            let error = FaceFile::parse(&bad).expect_err("a flipped byte must be detected");
            match at {
                0..8 => assert_eq!(error, FaceFileError::NotAFace),
                8..10 => assert!(matches!(error, FaceFileError::UnsupportedVersion { .. })),
                12.. => assert!(matches!(error, FaceFileError::Damaged { .. })),
                _ => {}
            }
        }
    }

    #[test]
    fn a_truncated_file_is_refused_except_at_the_end_of_a_layer() {
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
    fn progress_counts_the_complete_layers() {
        let file = file();
        let bytes = file.public_bytes();
        let layers = file.info().layers;
        assert_eq!(FaceFile::progress(&bytes[..100]), Ok(None));
        assert_eq!(FaceFile::progress(&[]), Ok(None));
        assert_eq!(FaceFile::progress(b"GIF"), Err(FaceFileError::NotAFace));
        let first = layers[0].bytes_to_here;
        let none = FileProgress { layers: 0, total_layers: 3, usable_bytes: 0 };
        assert_eq!(FaceFile::progress(&bytes[..first - 1]), Ok(Some(none)));
        for (idx, layer) in layers.iter().enumerate() {
            let here = FileProgress {
                layers: idx + 1,
                total_layers: 3,
                usable_bytes: layer.bytes_to_here,
            };
            assert_eq!(FaceFile::progress(&bytes[..layer.bytes_to_here]), Ok(Some(here)));
            let coarser = FaceFile::parse(&bytes[..layer.bytes_to_here]).unwrap();
            assert_eq!(coarser.n_layers(), (idx + 1, 3));
            // A coarser file keeps the bytes it was read from, so that the transfer can be resumed.
            assert_eq!(coarser.public_bytes(), bytes[..layer.bytes_to_here]);
        }
        assert_eq!(layers[2].bytes_to_here, bytes.len());
        assert_eq!(file.info().n_layers, 3);
    }

    #[test]
    fn reading_a_prefix_does_not_change_the_complete_model() {
        let file = file();
        let bytes = file.public_bytes();
        for layer in file.info().layers {
            let _ = FaceFile::parse(&bytes[..layer.bytes_to_here]).unwrap();
        }
        assert_eq!(FaceFile::parse(&bytes).unwrap().model, file.model);
    }

    #[test]
    fn the_error_for_version_1_says_what_to_do() {
        let mut bytes = file().to_bytes();
        bytes[8] = 1;
        let error = FaceFile::parse(&bytes).unwrap_err();
        assert_eq!(error, FaceFileError::UnsupportedVersion { found: 1, newest: 2 });
        assert!(error.to_string().contains("feathercall enroll"), "{error}");
        assert_eq!(FaceFile::progress(&bytes[..20]), Err(error));
    }

    /// Returns edited bytes with valid hashes, so that the checks behind the hashes are reached.
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

    #[test]
    fn a_file_with_a_flat_head_box_is_refused_though_its_hashes_are_right() {
        let bytes = |number: usize, x: f32| {
            let at = 17 * 2 + 4 * number;
            x.to_le_bytes().into_iter().enumerate().map(move |(i, byte)| (at + i, byte))
        };
        let flat: Vec<_> = bytes(0, -0.0005).chain(bytes(3, 0.0005)).collect();
        let error = FaceFile::parse(&resealed(&flat, 0, &[])).unwrap_err();
        assert_eq!(error, ModelError::Box { name: "head" }.into());
        assert!(FaceFile::parse(&resealed(&[], 0, &[])).is_ok());
    }

    fn edits(n: std::ops::Range<usize>) -> impl Strategy<Value = Vec<(usize, u8)>> {
        proptest::collection::vec((any::<usize>(), any::<u8>()), n)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn parsing_arbitrary_bytes_does_not_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut with_magic = MAGIC.to_vec();
            with_magic.extend(&bytes);
            prop_assert!(FaceFile::parse(&with_magic).is_err());
            let _ = FaceFile::progress(&with_magic);
        }

        #[test]
        fn hostile_sizes_neither_panic_nor_allocate_without_bound(edit in edits(1..4)) {
            let _ = FaceFile::parse(&resealed(&edit, 0, &[]));
        }

        #[test]
        fn a_hostile_layer_does_not_panic(layer in 0_usize..3, edit in edits(1..4)) {
            let _ = FaceFile::parse(&resealed(&[], layer, &edit));
        }

        #[test]
        fn a_hostile_layer_header_does_not_panic(
            layer in 0_usize..3, at in 0_usize..400, value: u8,
        ) {
            let _ = FaceFile::parse(&resealed(&[], layer, &[(at, value)]));
        }
    }
}
