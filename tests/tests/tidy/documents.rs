//! Documents exist where readers look for them, and their links lead somewhere.

use std::path::PathBuf;

use super::{crate_folder, crate_names, entries, files_below, read, root, shown};

/// Longest README of a crate, in lines.
const MAX_README_LINES: usize = 25;

/// README and CONTRIBUTING, everything in `docs/`, and the READMEs of crates, fixtures and fuzz
/// targets.
pub(super) fn documents() -> Vec<PathBuf> {
    let mut documents = vec![root().join("README.md")];
    for folder in [".github", "docs", "crates", "tests"] {
        documents.extend(files_below(&root().join(folder), "md"));
    }
    documents
}

#[test]
fn links_in_documents_point_at_things_that_exist() {
    for document in documents() {
        for link in read(&document).split("](").skip(1) {
            let target = link.split([')', '#', ' ']).next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let path = document.parent().unwrap().join(target);
            assert!(path.exists(), "{} links to {target}, which does not exist", shown(&document));
        }
    }
}

#[test]
fn every_fixture_folder_has_a_readme() {
    let folders = entries(&root().join("tests/fixtures"));
    assert!(!folders.is_empty(), "tests/fixtures is empty");
    for folder in folders {
        assert!(folder.join("README.md").exists(), "{} has no README.md", shown(&folder));
    }
}

#[test]
fn every_crate_has_a_short_readme() {
    for name in crate_names() {
        let n_lines = read(&crate_folder(&name).join("README.md")).lines().count();
        assert!(n_lines <= MAX_README_LINES, "crates/{name}/README.md has {n_lines} lines");
    }
}
