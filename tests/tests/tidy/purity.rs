//! The pure crates are checked with the strict lints, and those forbid all that the lints of other
//! crates forbid.

use super::{crate_folder, read, root};

/// Crates that touch no clock, thread, file, socket or environment; docs/ARCHITECTURE.md, "The
/// middle is pure".
const PURE: [&str; 10] = [
    "types",
    "numerics",
    "face_shape",
    "actor",
    "track",
    "codec",
    "transport",
    "voice",
    "face",
    "render",
];

/// Paths that a configuration of clippy forbids.
fn forbidden(configuration: &str) -> Vec<&str> {
    let entries = configuration.split("path = \"").skip(1);
    entries.map(|entry| entry.split('"').next().unwrap()).collect()
}

#[test]
fn the_pure_crates_have_the_strict_lints() {
    let strict = read(&crate_folder(PURE[0]).join("clippy.toml"));
    for name in PURE {
        assert_eq!(
            read(&crate_folder(name).join("clippy.toml")),
            strict,
            "crates/{name}/clippy.toml"
        );
    }
    let strict = forbidden(&strict);
    assert!(strict.len() > 20, "{strict:?}");
    for path in forbidden(&read(&root().join("clippy.toml"))) {
        let is_forbidden = strict.iter().any(|strict| path.starts_with(strict));
        assert!(is_forbidden || path.starts_with("tokio::"), "the strict lints allow {path}");
    }
}

#[test]
fn the_pure_crates_do_not_depend_on_tokio() {
    for name in PURE {
        assert!(!read(&crate_folder(name).join("Cargo.toml")).contains("\ntokio"), "{name}");
    }
}
