//! Training recipes for the shipped assets of the tracker.
//!
//! Two programs: `train-tracker` trains the landmark network (`assets/tracker.safetensors`) and
//! `train-shape` the linear face shape (`assets/face_shape.safetensors`). This library holds what
//! both of them read.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use candle_core::Tensor;
use types::LANDMARKS;

/// Reads the landmark labels of a clip from the first array of a `.npz` archive.
///
/// The array is float32 of shape `[frames, 478, 3]`: pixels of the frame for `x` and `y`, the same
/// scale for `z`. Labels of a frame in which no face was found are not finite. Returns one vector
/// of 478 points for each frame.
///
/// # Errors
/// If the file cannot be read, is not such an archive, or holds an array of another shape or type.
pub fn read_clip_labels(path: &Path) -> Result<Vec<Vec<[f32; 3]>>> {
    let read = || -> Result<Vec<Vec<[f32; 3]>>> {
        let arrays = Tensor::read_npz(path)?;
        let (_, labels) = arrays.first().context("the archive holds no array")?;
        let (n_frames, n_points, n_axes) = labels.dims3()?;
        ensure!(
            (n_points, n_axes) == (LANDMARKS, 3),
            "the array has shape {:?}, expected [{n_frames}, {LANDMARKS}, 3]",
            labels.dims()
        );
        let values = labels.flatten_all()?.to_vec1::<f32>()?;
        let frames = values.as_chunks::<3>().0.chunks_exact(LANDMARKS);
        Ok(frames.map(<[_]>::to_vec).collect())
    };
    read().with_context(|| format!("cannot read the labels in {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use std::fs;
    use std::io::Write;
    use zip::write::SimpleFileOptions;

    /// A `.npy` file of zeros (format version 1.0) whose first value is 1.5.
    fn npy(shape: &str, n_values: usize) -> Vec<u8> {
        let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
        header += &" ".repeat(63 - (header.len() + 10) % 64);
        header.push('\n');
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(1.5_f32.to_le_bytes());
        bytes.resize(bytes.len() + 4 * (n_values - 1), 0);
        bytes
    }

    fn deflated(npy: &[u8]) -> Vec<u8> {
        let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let options =
            SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        archive.start_file("landmarks.npy", options).unwrap();
        archive.write_all(npy).unwrap();
        archive.finish().unwrap().into_inner()
    }

    #[test]
    fn labels_are_read_from_stored_and_deflated_archives() {
        let folder = std::env::temp_dir().join(format!("recipes-npz-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("clip.landmarks.npz");
        let stored = Tensor::full(2.0_f32, (2, LANDMARKS, 3), &Device::Cpu).unwrap();
        Tensor::write_npz(&[("landmarks", stored)], &path).unwrap();
        assert_eq!(read_clip_labels(&path).unwrap(), vec![vec![[2.0; 3]; LANDMARKS]; 2]);

        let n_values = LANDMARKS * 3;
        fs::write(&path, deflated(&npy("(1, 478, 3)", n_values))).unwrap();
        assert_eq!(read_clip_labels(&path).unwrap()[0][0], [1.5, 0.0, 0.0]);

        let wrong_shape = deflated(&npy("(478, 3)", n_values));
        let cut_short = &deflated(&npy("(1, 478, 3)", n_values))[..100];
        for bytes in [&wrong_shape[..], cut_short, b"", b"PK\x03\x04"] {
            fs::write(&path, bytes).unwrap();
            let error = format!("{:#}", read_clip_labels(&path).unwrap_err());
            assert!(error.contains("clip.landmarks.npz"), "{error}");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
