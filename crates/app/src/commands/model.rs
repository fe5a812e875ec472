//! `feathercall model info`

use std::fmt::Write as _;
use std::path::Path;

pub(super) fn info(path: &Path, is_json: bool) -> anyhow::Result<()> {
    let info = super::read_face(path)?.info();
    let hash = info.content_hash.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    if is_json {
        let parts: serde_json::Map<_, _> =
            info.parts.iter().map(|(name, bytes)| ((*name).to_owned(), (*bytes).into())).collect();
        println!(
            "{}",
            serde_json::json!({
                "version": info.version,
                "parameters": info.parameters,
                "public_bytes": info.public_bytes,
                "private_bytes": info.private_bytes,
                "parts": parts,
                "content_hash": hash,
            })
        );
        return Ok(());
    }
    println!("face file version {}", info.version);
    println!("{} parameters", info.parameters);
    println!("{} bytes go to a peer, {} stay with you", info.public_bytes, info.private_bytes);
    for (part, bytes) in &info.parts {
        println!("  {part:<24}{bytes:>9} bytes");
    }
    println!("content hash {hash}");
    Ok(())
}
