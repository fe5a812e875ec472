//! The state of an enrollment on disk: `<out>.part`, replaced whole or not at all.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};

use crate::adam::Adam;

/// What is needed to go on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Checkpoint {
    /// What the state belongs to: side, sizes, seed, frames. Another one is refused.
    pub(crate) fingerprint: String,
    pub(crate) field: Vec<f32>,
    pub(crate) field_adam: Adam,
    pub(crate) embedder: Vec<f32>,
    pub(crate) embedder_adam: Adam,
    /// What each frame was found to differ in: [`crate::corrections::Corrections::numbers`] and
    /// [`crate::posing::Posing::numbers`].
    pub(crate) corrections: Vec<f32>,
    pub(crate) poses: Vec<f32>,
    /// Share of the training that was done.
    pub(crate) progress: f32,
    /// State of the random numbers.
    pub(crate) noise: u64,
}

/// Largest checkpoint that is read.
const MAX_BYTES: u64 = 1 << 30;

impl Checkpoint {
    /// Writes `path` through a temporary file beside it.
    ///
    /// # Errors
    /// If the disk is full or the folder cannot be written; the previous file is left as it was.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
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
        let about = HashMap::from([
            ("fingerprint".to_owned(), self.fingerprint.clone()),
            ("steps".to_owned(), self.field_adam.steps.to_string()),
            ("embedder_steps".to_owned(), self.embedder_adam.steps.to_string()),
            ("progress".to_owned(), self.progress.to_string()),
            ("noise".to_owned(), self.noise.to_string()),
        ]);
        write_whole(path, &serialize(views, Some(about))?)
    }

    /// Reads a checkpoint that fits `fingerprint`; `None` if there is no file.
    ///
    /// # Errors
    /// If the file is damaged or belongs to another enrollment.
    pub(crate) fn read(path: &Path, fingerprint: &str) -> anyhow::Result<Option<Self>> {
        let length = match fs::metadata(path) {
            Ok(about) => about.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        if length > MAX_BYTES {
            bail!("{} is too large to be an enrollment's state", path.display());
        }
        let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let damaged = || format!("{} is damaged; enroll without --resume", path.display());
        let (_, metadata) = SafeTensors::read_metadata(&bytes).with_context(damaged)?;
        let about = metadata.metadata().clone().with_context(damaged)?;
        let tensors = SafeTensors::deserialize(&bytes).with_context(damaged)?;
        let text = |key: &str| about.get(key).cloned().with_context(damaged);
        if text("fingerprint")? != fingerprint {
            bail!("{} is the state of another enrollment; enroll without --resume", path.display());
        }
        let array = |key: &str| -> anyhow::Result<Vec<f32>> {
            let view = tensors.tensor(key).with_context(damaged)?;
            let values: Vec<f32> =
                view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            ensure!(values.iter().all(|v| v.is_finite()), damaged());
            Ok(values)
        };
        let adam = |name: &str, steps: &str| -> anyhow::Result<Adam> {
            Ok(Adam {
                first: array(&format!("{name}.first"))?,
                second: array(&format!("{name}.second"))?,
                steps: text(steps)?.parse().with_context(damaged)?,
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
            progress: text("progress")?.parse().with_context(damaged)?,
            noise: text("noise")?.parse().with_context(damaged)?,
        }))
    }
}

/// Writes a file through a temporary one beside it, so that it is whole or as it was before.
///
/// # Errors
/// If the disk is full or the folder cannot be written.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let temporary = Path::new(&name);
    let write = || -> std::io::Result<()> {
        let mut file = fs::File::create(temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(temporary, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(temporary))).with_context(|| {
        format!("cannot write {} ({} kB)", path.display(), bytes.len().div_ceil(1024))
    })
}

/// Makes sure that `path` can be written later, before minutes of work: leaves nothing behind.
///
/// # Errors
/// If its folder is missing or not ours to write to.
pub(crate) fn can_write(path: &Path) -> anyhow::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let temporary = Path::new(&name);
    fs::File::create(temporary)
        .and_then(|_| fs::remove_file(temporary))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
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
        }
    }

    #[test]
    fn a_checkpoint_survives_the_disk_and_belongs_to_one_enrollment() {
        let folder = folder("checkpoint");
        let path = folder.join("me.face.part");
        assert_eq!(Checkpoint::read(&path, "a face").unwrap(), None);
        checkpoint().write(&path).unwrap();
        assert_eq!(Checkpoint::read(&path, "a face").unwrap(), Some(checkpoint()));
        let other = Checkpoint::read(&path, "another").unwrap_err().to_string();
        assert!(other.contains("another enrollment"), "{other}");
        fs::write(&path, b"nonsense").unwrap();
        assert!(Checkpoint::read(&path, "a face").unwrap_err().to_string().contains("damaged"));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_write_that_fails_leaves_the_file_before_it_alone() {
        let folder = folder("whole");
        let path = folder.join("me.face");
        write_whole(&path, b"first").unwrap();
        // A folder in the temporary file's place cannot be written to.
        fs::create_dir(folder.join("me.face.tmp")).unwrap();
        let error = write_whole(&path, b"second").unwrap_err().to_string();
        assert!(error.contains("cannot write"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"first");
        fs::remove_dir_all(folder).unwrap();
    }
}
