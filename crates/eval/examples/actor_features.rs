//! Writes the fixtures in `tests/fixtures/actor`: the actor's features as the built-in face's tracker
//! measures them, and the face's codec profile.
//!
//! `cargo run --release -p eval --example actor_features -- tests/fixtures/actor`

use std::path::PathBuf;

use anyhow::Context;
use face::FaceFile;

/// Number of frames: half a minute.
const N_FRAMES: usize = 750;

fn main() -> anyhow::Result<()> {
    let folder =
        PathBuf::from(std::env::args().nth(1).context("missing argument: the folder to write to")?);
    let face = FaceFile::parse(include_bytes!("../../../assets/demo.face"))?;
    let features = eval::actor_features(&face, N_FRAMES)?;
    anyhow::ensure!(
        features.len() == N_FRAMES,
        "a face was found in only {} frames",
        features.len()
    );
    let numbers = features.iter().flat_map(types::Feature::to_array);
    let bytes: Vec<u8> = numbers.flat_map(f32::to_le_bytes).collect();
    std::fs::create_dir_all(&folder)?;
    capture::write_file(&folder.join("features.bin"), &bytes)?;
    capture::write_file(&folder.join("profile.bin"), &face.codec_profile)?;
    Ok(())
}
