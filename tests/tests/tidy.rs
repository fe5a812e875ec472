//! The rules of the house that a program can check: who imports whom, and that documents point at
//! things that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Who may import whom, as in docs/ARCHITECTURE.md. A new arrow changes both, on purpose.
const ARROWS: &[(&str, &[&str])] = &[
    ("numerics", &[]),
    ("types", &[]),
    ("face_shape", &["types"]),
    ("actor", &["types", "numerics", "face_shape"]),
    ("capture", &["types", "actor"]),
    ("track", &["types", "numerics", "face_shape", "face"]),
    ("codec", &["types", "numerics"]),
    ("transport", &["types"]),
    ("face", &["types", "numerics"]),
    ("render", &["types", "face"]),
    ("enroll", &["types", "numerics", "face_shape", "capture", "track", "codec", "face"]),
    ("recipes", &["types", "numerics", "face_shape", "actor", "capture", "track"]),
    ("classic", &["types", "numerics", "capture", "face", "enroll"]),
    ("call", &["types", "numerics", "capture", "track", "codec", "transport", "face"]),
    ("eval", &["types", "capture", "track", "codec", "face", "render"]),
    ("app", &["types", "capture", "face", "render", "call", "enroll", "eval"]),
    ("xtask", &[]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Names under `[section]` of a manifest.
fn dependencies(manifest: &str, section: &str) -> BTreeSet<String> {
    manifest
        .lines()
        .skip_while(|line| line.trim() != section)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', '=', ' ']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn no_crate_imports_what_the_architecture_does_not_allow() {
    let allowed: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let mut n_crates = 0;
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let manifest = read(&folder.join("Cargo.toml"));
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}: folder is not package");
        let arrows = allowed.get(name.as_str()).unwrap_or_else(|| panic!("{name} has no row"));
        for dependency in dependencies(&manifest, "[dependencies]") {
            let is_ours = allowed.contains_key(dependency.as_str());
            assert!(
                !is_ours || arrows.contains(&dependency.as_str()),
                "{name} may not import {dependency}"
            );
        }
        n_crates += 1;
    }
    assert_eq!(n_crates, ARROWS.len());
}

#[test]
fn the_receive_path_needs_no_candle() {
    for name in ["types", "transport", "codec", "face", "render"] {
        let manifest = read(&root().join("crates").join(name).join("Cargo.toml"));
        let all = dependencies(&manifest, "[dependencies]");
        assert!(!all.iter().any(|d| d.starts_with("candle")), "{name} depends on candle");
    }
}

#[test]
fn every_version_is_written_once_at_the_root() {
    for name in ARROWS.iter().map(|(name, _)| format!("crates/{name}")).chain(["tests".into()]) {
        let manifest = read(&root().join(&name).join("Cargo.toml"));
        for section in ["[dependencies]", "[dev-dependencies]"] {
            let lines = manifest.lines().skip_while(|l| l.trim() != section).skip(1);
            for line in lines.take_while(|l| !l.starts_with('[')).filter(|l| !l.trim().is_empty()) {
                assert!(
                    line.contains("workspace = true") || line.starts_with('#'),
                    "{name}: `{line}` does not take its version from the workspace"
                );
            }
        }
    }
}

/// Two machines agree about integers; about floats only where each operation is one rounding.
#[test]
fn past_the_quantizer_there_are_no_floats() {
    let folder = root().join("crates/codec/src");
    // What learns, quantizes and dequantizes; and what measures all of it, in tests alone.
    let with_floats = ["fit.rs", "measured.rs", "profile.rs", "sensitivity.rs"];
    let mut n_files = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if with_floats.contains(&name.as_str()) {
            continue;
        }
        let source = read(&path);
        let code = source.split("#[cfg(test)]\nmod ").next().unwrap();
        for (number, line) in (1..).zip(code.lines()) {
            let code = line.split("//").next().unwrap();
            let has_float = ["f32", "f64", "f16"].iter().any(|float| code.contains(float));
            assert!(!has_float, "codec/src/{name}:{number}: `{}` is no integer", line.trim());
        }
        n_files += 1;
    }
    assert!(n_files >= 10, "{n_files}");
}

#[test]
fn links_in_documents_point_at_things_that_exist() {
    let mut documents = vec![root().join("README.md"), root().join(".github/CONTRIBUTING.md")];
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        documents.push(entry.unwrap().path());
    }
    for document in documents.iter().filter(|d| d.extension().is_some_and(|e| e == "md")) {
        for link in read(document).split("](").skip(1) {
            let target = link.split([')', '#', ' ']).next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let path = document.parent().unwrap().join(target);
            assert!(path.exists(), "{} links to {target}, which is not there", document.display());
        }
    }
}

#[test]
fn fixtures_say_where_they_come_from() {
    let folder = root().join("tests/fixtures");
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert!(path.join("README.md").exists(), "{} has no README.md", path.display());
        }
    }
}
