//! `refit-profile ME.face SOURCE OUT.face [HELD_OUT]`: the same face with a new codec profile.
//!
//! For faces that were enrolled before the codec changed: learns nothing but how the person moves
//! and what of it shows. SOURCE is what the face was enrolled from, a clip or `actor`; HELD_OUT is
//! the share of it, from its end, that enrollment kept back (0.15 unless given).

use std::path::Path;

use anyhow::{Context, bail};
use face::FaceFile;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (face, source, out, held_out) = match &arguments[..] {
        [face, source, out] => (face, source, out, 0.15),
        [face, source, out, held_out] => (face, source, out, held_out.parse()?),
        _ => bail!("refit-profile ME.face SOURCE OUT.face [HELD_OUT]"),
    };
    let bytes = std::fs::read(face).with_context(|| format!("cannot read {face}"))?;
    let mut file = FaceFile::parse(&bytes)?;
    let profile = enroll::refit_profile(&file, Path::new(source), held_out)?;
    println!("{} components, {} bytes", profile.n_components(), codec::Profile::BYTES);
    file.codec_profile = profile.to_bytes();
    std::fs::write(out, file.to_bytes()).with_context(|| format!("cannot write {out}"))
}
