//! `feathercall model`

use std::path::Path;

use data_encoding::HEXLOWER;
use serde_json::json;

use crate::consent;
use crate::date::date;
use crate::destination::{self, Destination, Kind};
use crate::face_files::{self, StoredFace};

/// Prints the sizes, layers and hash of a face file.
pub(super) fn info(path: &Path, is_json: bool) -> anyhow::Result<()> {
    let StoredFace { face, is_encrypted } = face_files::load(path)?;
    let info = face.info();
    let hash = HEXLOWER.encode(&info.content_hash);
    if is_json {
        let parts = by_name(&info.parts);
        let layers: Vec<_> = info
            .layers
            .iter()
            .map(|layer| {
                let parts = by_name(&layer.parts);
                json!({
                    "bytes": layer.bytes,
                    "bytes_to_here": layer.bytes_to_here,
                    "parts": parts,
                })
            })
            .collect();
        println!(
            "{}",
            json!({
                "version": info.version,
                "parameters": info.parameters,
                "public_bytes": info.public_bytes,
                "private_bytes": info.private_bytes,
                "profile_bytes": info.profile_bytes,
                "n_layers": info.n_layers,
                "layers": layers,
                "parts": parts,
                "content_hash": hash,
                "encrypted": is_encrypted,
                "consent": face.consent.map(|given| json!({
                    "date": date(given.given),
                    "form": consent::form_name(given.form),
                })),
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
    println!("{}", if is_encrypted { "encrypted on this computer" } else { "not encrypted" });
    match face.consent {
        Some(given) => println!("consent given on {} (UTC)", date(given.given)),
        None => println!("no record of consent"),
    }
    Ok(())
}

/// Writes the public part of a face, which peers receive.
pub(super) fn export(
    path: &Path,
    out: &Path,
    is_forced: bool,
    is_json: bool,
) -> anyhow::Result<()> {
    let destination = Destination { option: "--out", path: out, kind: Kind::PublicFace };
    destination::check(&[destination], &[path], is_forced)?;
    let public = face_files::load(path)?.face.public_bytes();
    capture::write_file(out, &public)?;
    let (name, n_bytes) = (out.display().to_string(), public.len());
    if is_json {
        println!("{}", json!({ "out": name, "bytes": n_bytes }));
    } else {
        println!("{name}: {n_bytes} bytes, the part that peers receive");
    }
    Ok(())
}

/// Encrypts a face file in place.
pub(super) fn encrypt(path: &Path, is_json: bool) -> anyhow::Result<()> {
    match face_files::encrypt(path)? {
        place if is_json => {
            let place = place.map(|place| place.to_string());
            println!("{}", json!({ "face": path.display().to_string(), "key_place": place }));
        }
        Some(place) => println!("{}: encrypted; the key is in {place}", path.display()),
        None => println!("{} is encrypted already", path.display()),
    }
    Ok(())
}

/// Writes an unencrypted copy of a face file.
pub(super) fn decrypt(
    path: &Path,
    out: &Path,
    is_forced: bool,
    is_json: bool,
) -> anyhow::Result<()> {
    let destination = Destination { option: "--out", path: out, kind: Kind::PlainFace };
    destination::check(&[destination], &[path], is_forced)?;
    let whole = face_files::load(path)?.face.to_bytes();
    capture::write_file(out, &whole)?;
    let (name, n_bytes) = (out.display().to_string(), whole.len());
    if is_json {
        println!("{}", json!({ "out": name, "bytes": n_bytes }));
    } else {
        println!("{name}: {n_bytes} bytes, not encrypted; guard it like your keys");
    }
    Ok(())
}

fn by_name(parts: &[(&'static str, usize)]) -> serde_json::Map<String, serde_json::Value> {
    parts.iter().map(|(name, bytes)| ((*name).to_owned(), (*bytes).into())).collect()
}
