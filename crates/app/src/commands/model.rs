//! `feathercall model info`

use std::path::Path;

use data_encoding::HEXLOWER;

use crate::face_files;

/// Prints the sizes, layers and hash of a face file.
pub(super) fn info(path: &Path, is_json: bool) -> anyhow::Result<()> {
    let info = face_files::read(path)?.info();
    let hash = HEXLOWER.encode(&info.content_hash);
    if is_json {
        let parts = by_name(&info.parts);
        let layers: Vec<_> = info
            .layers
            .iter()
            .map(|layer| {
                let parts = by_name(&layer.parts);
                serde_json::json!({
                    "bytes": layer.bytes,
                    "bytes_to_here": layer.bytes_to_here,
                    "parts": parts,
                })
            })
            .collect();
        println!(
            "{}",
            serde_json::json!({
                "version": info.version,
                "parameters": info.parameters,
                "public_bytes": info.public_bytes,
                "private_bytes": info.private_bytes,
                "profile_bytes": info.profile_bytes,
                "n_layers": info.n_layers,
                "layers": layers,
                "parts": parts,
                "content_hash": hash,
            })
        );
        return Ok(());
    }
    println!("face file version {}", info.version);
    println!("{} parameters", info.parameters);
    println!("{} bytes for peers, {} private", info.public_bytes, info.private_bytes);
    if info.layers.len() < info.n_layers {
        println!("only {} of {} layers are present", info.layers.len(), info.n_layers);
    }
    print!("  {:<20}{:>10}", "bytes", "all layers");
    for idx in 1..=info.layers.len() {
        print!("{:>10}", format!("layer {idx}"));
    }
    println!();
    for (part, bytes) in &info.parts {
        print!("  {part:<20}{bytes:>10}");
        for layer in &info.layers {
            let in_layer = layer.parts.iter().find(|(name, _)| name == part);
            print!("{:>10}", in_layer.map_or(0, |(_, bytes)| *bytes));
        }
        println!();
    }
    let row = |name: &str, sum: usize, of: fn(&face::LayerInfo) -> usize| {
        print!("  {name:<20}{sum:>10}");
        for layer in &info.layers {
            print!("{:>10}", of(layer));
        }
        println!();
    };
    row("sum", info.layers.iter().map(|layer| layer.bytes).sum(), |layer| layer.bytes);
    row("download so far", info.public_bytes, |layer| layer.bytes_to_here);
    println!("  {:<20}{:>10}", "codec profile", info.profile_bytes);
    println!("content hash {hash}");
    Ok(())
}

fn by_name(parts: &[(&'static str, usize)]) -> serde_json::Map<String, serde_json::Value> {
    parts.iter().map(|(name, bytes)| ((*name).to_owned(), (*bytes).into())).collect()
}
