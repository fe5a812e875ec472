//! Checkpoints of an enrollment in `<out>.part`, a safetensors file, encrypted like the face file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use types::MediaTime;
use vault::{Content, Key, Keys, OpenError};

use crate::adam::Adam;
use crate::recording::Run;

/// State from which an interrupted enrollment continues.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Checkpoint {
    /// Identifies the enrollment by its side, sizes, seed and frames. A checkpoint with another
    /// fingerprint is refused.
    pub(crate) fingerprint: String,
    pub(crate) field: Vec<f32>,
    pub(crate) field_adam: Adam,
    pub(crate) embedder: Vec<f32>,
    pub(crate) embedder_adam: Adam,
    /// State of the code corrections.
    pub(crate) corrections: Vec<f32>,
    /// State of the pose refinement.
    pub(crate) poses: Vec<f32>,
    /// Share of the training done, 0..=1.
    pub(crate) progress: f32,
    /// State of the random number generator.
    pub(crate) noise: u64,
    /// The parts of the source that were read. Under a time limit they depend on the machine, so that
    /// an enrollment that is resumed has to read them again.
    pub(crate) runs: Vec<Run>,
}

/// Largest checkpoint that is read, in bytes.
const MAX_BYTES: u64 = 1 << 30;

impl Checkpoint {
    /// Writes the checkpoint to `path` atomically, encrypted if there is a key: it holds a model of
    /// the person and of every frame.
    ///
    /// # Errors
    /// If the file cannot be written; a previous checkpoint then stays unchanged.
    pub(crate) fn write(&self, path: &Path, key: Option<&Key>) -> anyhow::Result<()> {
        let arrays = [
            ("field", &self.field),
            ("field.first", &self.field_adam.first),
            ("field.second", &self.field_adam.second),
            ("embedder", &self.embedder),
            ("embedder.first", &self.embedder_adam.first),
            ("embedder.second", &self.embedder_adam.second),
            ("corrections", &self.corrections),
            ("poses", &self.poses),
        ];
        let bytes: Vec<(&str, Vec<u8>)> = arrays
            .iter()
            .map(|(name, v)| (*name, v.iter().flat_map(|x| x.to_le_bytes()).collect()))
            .collect();
        let views: Vec<(&str, TensorView<'_>)> = bytes
            .iter()
            .map(|(name, b)| Ok((*name, TensorView::new(Dtype::F32, vec![b.len() / 4], b)?)))
            .collect::<Result<_, safetensors::SafeTensorError>>()?;
        let runs: Vec<String> = self
            .runs
            .iter()
            .map(|run| format!("{}+{}", run.first.as_micros(), run.n_frames))
            .collect();
        let about = HashMap::from([
            ("fingerprint".to_owned(), self.fingerprint.clone()),
            ("steps".to_owned(), self.field_adam.steps.to_string()),
            ("embedder_steps".to_owned(), self.embedder_adam.steps.to_string()),
            ("progress".to_owned(), self.progress.to_string()),
            ("noise".to_owned(), self.noise.to_string()),
            ("runs".to_owned(), runs.join(" ")),
        ]);
        let mut file = serialize(views, Some(about))?;
        if let Some(key) = key {
            file = key.seal(Content::TrainingState, &file)?;
        }
        Ok(capture::write_file(path, &file)?)
    }

    /// Reads the checkpoint in `path`; `None` if there is no file. See [`SavedState::open`].
    ///
    /// # Errors
    /// If the file is damaged, has another fingerprint, or needs another key.
    pub(crate) fn read(
        path: &Path,
        fingerprint: &str,
        key: Option<&Key>,
        keys: Option<&Keys>,
    ) -> anyhow::Result<Option<Self>> {
        let Some(state) = SavedState::open(path, key, keys)? else { return Ok(None) };
        if state.text("fingerprint")? != fingerprint {
            bail!("{} belongs to another enrollment; enroll without --resume", path.display());
        }
        let tensors = SafeTensors::deserialize(&state.bytes).with_context(|| state.damaged())?;
        let array = |key: &str| -> anyhow::Result<Vec<f32>> {
            let view = tensors.tensor(key).with_context(|| state.damaged())?;
            let values: Vec<f32> =
                view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            ensure!(values.iter().all(|v| v.is_finite()), state.damaged());
            Ok(values)
        };
        let adam = |name: &str, steps: &str| -> anyhow::Result<Adam> {
            Ok(Adam {
                first: array(&format!("{name}.first"))?,
                second: array(&format!("{name}.second"))?,
                steps: state.number(steps)?,
            })
        };
        Ok(Some(Self {
            fingerprint: fingerprint.to_owned(),
            field: array("field")?,
            field_adam: adam("field", "steps")?,
            embedder: array("embedder")?,
            embedder_adam: adam("embedder", "embedder_steps")?,
            corrections: array("corrections")?,
            poses: array("poses")?,
            progress: state.number("progress")?,
            noise: state.number("noise")?,
            runs: state.runs()?,
        }))
    }
}

/// File of a checkpoint, decrypted, of which only the header has been parsed.
pub(crate) struct SavedState {
    path: PathBuf,
    bytes: Vec<u8>,
    header: HashMap<String, String>,
}

impl SavedState {
    /// Opens the checkpoint in `path`, encrypted with this key, with another of `keys` (the key for
    /// new files changes when a key store appears or goes away) or in plain form; `None` if there is
    /// no file.
    ///
    /// # Errors
    /// If the file cannot be read, is damaged or needs another key.
    pub(crate) fn open(
        path: &Path,
        key: Option<&Key>,
        keys: Option<&Keys>,
    ) -> anyhow::Result<Option<Self>> {
        let mut bytes = match capture::read_file(path, MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        if vault::is_sealed(&bytes) {
            let context = || format!("cannot resume from {}", path.display());
            let key =
                key.context("it is encrypted; enroll without --plain").with_context(context)?;
            bytes = match (key.open(Content::TrainingState, &bytes), keys) {
                (Err(OpenError::OtherKey { .. }), Some(keys)) => {
                    keys.open(Content::TrainingState, &bytes).with_context(context)?
                }
                (opened, _) => opened.with_context(context)?,
            };
        }
        let mut state = Self { path: path.to_owned(), bytes, header: HashMap::new() };
        let (_, metadata) =
            SafeTensors::read_metadata(&state.bytes).with_context(|| state.damaged())?;
        state.header = metadata.metadata().clone().with_context(|| state.damaged())?;
        Ok(Some(state))
    }

    /// Returns the parts of the source that were read; none if a version before 3 wrote the file.
    ///
    /// # Errors
    /// If the file is damaged.
    pub(crate) fn runs(&self) -> anyhow::Result<Vec<Run>> {
        let runs = self.header.get("runs").map_or("", String::as_str);
        let run = |text: &str| {
            let (first, n_frames) = text.split_once('+')?;
            let first = MediaTime::from_micros(first.parse().ok()?);
            Some(Run { first, n_frames: n_frames.parse().ok()? })
        };
        let runs: Option<Vec<Run>> = runs.split_whitespace().map(run).collect();
        runs.with_context(|| self.damaged())
    }

    fn text(&self, key: &str) -> anyhow::Result<&str> {
        self.header.get(key).map(String::as_str).with_context(|| self.damaged())
    }

    fn number<T: FromStr>(&self, key: &str) -> anyhow::Result<T> {
        self.text(key)?.parse().ok().with_context(|| self.damaged())
    }

    fn damaged(&self) -> String {
        format!("{} is damaged; enroll without --resume", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folder(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("enroll-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            fingerprint: "a face".to_owned(),
            field: vec![1.0, 2.5],
            field_adam: Adam { first: vec![0.1, 0.2], second: vec![0.3, 0.4], steps: 17 },
            embedder: vec![3.0],
            embedder_adam: Adam { first: vec![0.5], second: vec![0.6], steps: 17 },
            corrections: vec![7.0, 8.0, 9.0],
            poses: vec![-1.0],
            progress: 0.25,
            noise: u64::MAX - 3,
            runs: vec![
                Run { first: MediaTime::ZERO, n_frames: 24 },
                Run { first: MediaTime::from_micros(7_000_040), n_frames: 72 },
            ],
        }
    }

    #[test]
    fn a_checkpoint_is_restored_only_for_its_own_enrollment() {
        let folder = folder("checkpoint");
        let path = folder.join("me.face.part");
        let read = |fingerprint: &str| Checkpoint::read(&path, fingerprint, None, None);
        assert_eq!(read("a face").unwrap(), None);
        checkpoint().write(&path, None).unwrap();
        assert_eq!(read("a face").unwrap(), Some(checkpoint()));
        let other = read("another").unwrap_err().to_string();
        assert!(other.contains("another enrollment"), "{other}");
        fs::write(&path, b"nonsense").unwrap();
        assert!(read("a face").unwrap_err().to_string().contains("damaged"));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn an_encrypted_checkpoint_is_private_and_needs_its_key() {
        let folder = folder("sealed-checkpoint");
        let path = folder.join("me.face.part");
        let [own_keys, other_keys] = ["own", "other"].map(|name| Keys::in_file(folder.join(name)));
        let (own, other) = (own_keys.own().unwrap().0, other_keys.own().unwrap().0);
        checkpoint().write(&path, Some(&own)).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"a face"), "it is legible");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600);
        }
        let read = |key, keys| Checkpoint::read(&path, "a face", key, keys);
        assert_eq!(read(Some(&own), None).unwrap(), Some(checkpoint()));
        // New files may have another key by now.
        assert_eq!(read(Some(&other), Some(&own_keys)).unwrap(), Some(checkpoint()));
        for (key, says) in [(Some(&other), "encrypted with key"), (None, "without --plain")] {
            let error = read(key, Some(&other_keys)).unwrap_err();
            assert!(format!("{error:#}").contains(says), "{error:#}");
        }
        // A checkpoint of an older version is still read.
        checkpoint().write(&path, None).unwrap();
        assert_eq!(read(Some(&own), None).unwrap(), Some(checkpoint()));
        fs::remove_dir_all(folder).unwrap();
    }
}
