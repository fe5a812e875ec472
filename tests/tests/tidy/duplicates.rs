//! Cargo.lock has no second version of a crate that deny.toml does not give a reason for.

use std::collections::{BTreeMap, BTreeSet};

use super::{read, root};

/// The text between the quotes of `key = "..."` in each line that starts with it.
fn values<'a>(text: &'a str, key: &str) -> impl Iterator<Item = &'a str> {
    let start = format!("{key} = \"");
    text.lines().filter_map(move |line| line.strip_prefix(&start)?.strip_suffix('"'))
}

/// Versions of a crate are ordered by their numbers.
fn numbers(version: &str) -> Vec<u64> {
    version.split(['.', '+', '-']).map_while(|part| part.parse().ok()).collect()
}

/// All versions but the newest of each crate in Cargo.lock, as `name@version`.
fn older_versions() -> BTreeSet<String> {
    let lock = read(&root().join("Cargo.lock"));
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, version) in values(&lock, "name").zip(values(&lock, "version")) {
        versions.entry(name).or_default().push(version);
    }
    let mut older = BTreeSet::new();
    for (name, mut versions) in versions {
        versions.sort_by_key(|version| numbers(version));
        versions.pop();
        older.extend(versions.iter().map(|version| format!("{name}@{version}")));
    }
    older
}

#[test]
fn second_versions_of_crates_have_a_reason() {
    let configuration = read(&root().join("deny.toml"));
    let (_, skip) = configuration.split_once("\nskip = [").expect("deny.toml has a list `skip`");
    let (skip, _) = skip.split_once("\n]").unwrap();
    let skipped: BTreeSet<String> = skip
        .split("crate = \"")
        .skip(1)
        .map(|entry| entry.split('"').next().unwrap().to_owned())
        .collect();
    let older = older_versions();
    let new: Vec<_> = older.difference(&skipped).collect();
    let gone: Vec<_> = skipped.difference(&older).collect();
    assert!(new.is_empty(), "second versions without a reason in deny.toml: {new:?}");
    assert!(gone.is_empty(), "deny.toml lists versions that are no longer in Cargo.lock: {gone:?}");
}
