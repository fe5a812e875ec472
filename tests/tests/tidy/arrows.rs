//! Crates import each other as the table in docs/ARCHITECTURE.md allows, and versions are written
//! once.

use std::collections::{BTreeMap, BTreeSet};

use super::{crate_folder, crate_names, files_below, read, root};

/// Header of the table of arrows in docs/ARCHITECTURE.md.
const TABLE: &str = "| crate | may import |";

/// Names between backticks.
fn quoted(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The table of docs/ARCHITECTURE.md: for each crate, the crates of ours that it may import.
fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let document = read(&root().join("docs/ARCHITECTURE.md"));
    let (_, table) =
        document.split_once(TABLE).expect("docs/ARCHITECTURE.md has a table of arrows");
    let mut allowed = BTreeMap::new();
    for row in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let [crates, imports] = cells[..] else {
            panic!("a row of the import table has two cells, this one {}: {row}", cells.len())
        };
        for name in quoted(crates) {
            let before = allowed.insert(name.clone(), quoted(imports));
            assert!(before.is_none(), "`{name}` has two rows in docs/ARCHITECTURE.md");
        }
    }
    let crates: BTreeSet<String> = crate_names().into_iter().collect();
    assert!(allowed.keys().eq(&crates), "rows {:?}, crates {crates:?}", allowed.keys());
    for (name, imports) in &allowed {
        assert!(imports.is_subset(&crates), "the row of `{name}` names what is not a crate");
    }
    allowed
}

/// Names under `[section]` of a manifest.
fn dependencies(name: &str, section: &str) -> BTreeSet<String> {
    let manifest = read(&crate_folder(name).join("Cargo.toml"));
    lines_of(&manifest, section)
        .filter_map(|line| line.split(['.', '=', ' ']).next())
        .map(str::to_owned)
        .collect()
}

/// Lines of a section that are neither empty nor comments.
fn lines_of<'a>(manifest: &'a str, section: &str) -> impl Iterator<Item = &'a str> {
    manifest
        .lines()
        .skip_while(move |line| line.trim() != section)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
}

#[test]
fn no_crate_imports_another_without_an_arrow() {
    let allowed = allowed();
    for (name, arrows) in &allowed {
        for dependency in dependencies(name, "[dependencies]") {
            let is_ours = allowed.contains_key(&dependency);
            assert!(
                !is_ours || arrows.contains(&dependency),
                "`{name}` may not import `{dependency}`"
            );
        }
    }
}

#[test]
fn every_arrow_is_used() {
    for (name, arrows) in allowed() {
        let dependencies = dependencies(&name, "[dependencies]");
        let sources: Vec<String> = files_below(&crate_folder(&name).join("src"), "rs")
            .iter()
            .map(|file| read(file))
            .collect();
        for arrow in arrows {
            assert!(dependencies.contains(&arrow), "`{name}` may import `{arrow}` but does not");
            let path = format!("{arrow}::");
            let is_used = sources.iter().any(|source| source.contains(&path));
            assert!(is_used, "`{name}` depends on `{arrow}` and never names it");
        }
    }
}

#[test]
fn the_package_of_a_folder_has_its_name() {
    for name in crate_names() {
        let manifest = read(&crate_folder(&name).join("Cargo.toml"));
        assert!(manifest.contains(&format!("name = \"{name}\"")), "crates/{name}");
    }
}

#[test]
fn the_receive_path_needs_no_candle() {
    for name in ["types", "transport", "codec", "face", "render"] {
        let all = dependencies(name, "[dependencies]");
        assert!(!all.iter().any(|d| d.starts_with("candle")), "`{name}` depends on candle");
    }
}

#[test]
fn every_version_is_written_once_at_the_root() {
    let packages = crate_names().into_iter().map(|name| crate_folder(&name));
    for folder in packages.chain([root().join("tests")]) {
        let manifest = read(&folder.join("Cargo.toml"));
        for section in ["[dependencies]", "[dev-dependencies]", "[build-dependencies]"] {
            for line in lines_of(&manifest, section) {
                assert!(
                    line.contains("workspace = true"),
                    "{}: `{line}` does not take its version from the workspace",
                    folder.display()
                );
            }
        }
    }
}
