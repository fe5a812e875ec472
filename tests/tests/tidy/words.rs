//! Retired words stay retired; docs/GLOSSARY.md has the terms that replace them.

use std::path::PathBuf;

use super::documents::documents;
use super::{files_below, read, root, shown};

/// Retired words, each with the folder where it is retired and the term to use instead. A `*` at
/// the end stands for any rest of a word.
///
/// Only words that have no other use in that folder are here; the glossary has more.
const RETIRED: &[(&str, &str, &str)] = &[
    // Turns of phrase.
    ("anew", "", "again, or from the start"),
    ("so many", "", "a number, or `that many`"),
    ("so often", "", "a rate, or `that often`"),
    ("learnt", "", "learned"),
    ("of one's own", "", "its own"),
    ("on the way", "", "in transit, in between, or while"),
    ("stands alone", "", "is a key unit, or references nothing"),
    ("stand alone", "", "are key units, or reference nothing"),
    ("that which", "", "what, or the noun itself"),
    ("the same of", "", "the noun itself"),
    // Codec.
    ("bend", "crates/codec", "midpoint residual"),
    ("bends", "crates/codec", "midpoint residuals"),
    ("bent", "crates/codec", "corrected by a midpoint residual"),
    ("bend_*", "", "midpoint_*"),
    ("Halving", "", "Midpoint"),
    ("caught_up", "", "corrected start"),
    ("on_the_way", "", "intermediate features"),
    ("put right", "", "corrected"),
    ("Expectation", "", "Prediction"),
    ("promise*", "", "prediction"),
    ("price", "crates", "Lagrangian lambda"),
    ("guess", "crates/codec", "context"),
    ("HOPELESS", "", "pruning margin"),
    ("Market", "", "RateDistortion"),
    ("riding", "crates", "redundant"),
    ("rides along", "", "is sent redundantly"),
    ("ride along", "", "are sent redundantly"),
    ("set_riding", "", "set_redundancy"),
    ("UnitId", "", "UnitNumber"),
    // Tracking.
    ("Effort", "", "RefinementBudget, or RenderSettings"),
    ("Leisure", "", "RefinementBudget"),
    ("Care", "crates", "RefinementBudget"),
    ("Pace", "crates", "LoadEstimator"),
    // Transport and calls.
    ("Shown", "crates", "PlayoutSource"),
    ("ReceiverStats", "", "JitterBufferStats"),
    ("SenderSettings", "", "PacketizerSettings"),
    ("Signal::Here", "", "Signal::Announce"),
    ("LineEvent", "", "SignalingEvent"),
    ("Showing", "", "FaceSource"),
    ("Tally", "", "Statistics"),
    ("tally", "", "statistics"),
    ("obey", "", "apply"),
    ("FaceCoder", "", "FaceEncoder"),
    // Faces and pictures.
    ("yardstick", "", "baseline field"),
    ("behind_pass", "", "backdrop layer"),
    ("posing", "crates/enroll", "pose refinement"),
    ("painted", "crates/app", "rendered file"),
];

/// Files that tell the history of the code, so that they may use its old words.
const EXEMPT: [&str; 3] = ["docs/lab", "docs/CHANGELOG.md", "tests/tests/tidy/words.rs"];

/// Sources, shaders, documents and workflows.
fn texts() -> Vec<PathBuf> {
    let mut texts = documents();
    for folder in ["crates", "tests"] {
        for extension in ["rs", "wgsl", "toml"] {
            texts.extend(files_below(&root().join(folder), extension));
        }
    }
    texts.extend(files_below(&root().join(".github"), "yml"));
    texts.retain(|path| !EXEMPT.iter().any(|exempt| path.starts_with(root().join(exempt))));
    texts
}

#[test]
fn retired_words_do_not_return() {
    let mut found = Vec::new();
    for path in texts() {
        for (number, line) in (1..).zip(read(&path).lines()) {
            for (word, folder, instead) in RETIRED {
                if path.starts_with(root().join(folder)) && contains(line, word) {
                    found.push(format!("{}:{number}: `{word}`: say {instead}", shown(&path)));
                }
            }
        }
    }
    assert!(found.is_empty(), "{} retired words:\n{}", found.len(), found.join("\n"));
}

/// Whether a line contains a word, not as a part of a longer one.
fn contains(line: &str, word: &str) -> bool {
    let (stem, is_prefix) = word.strip_suffix('*').map_or((word, false), |stem| (stem, true));
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(stem).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + stem.len()..].chars().next();
        !before.is_some_and(is_part) && (is_prefix || !after.is_some_and(is_part))
    })
}

#[test]
fn a_retired_word_is_found_as_a_word_only() {
    for (line, word, is_there) in [
        ("begin anew", "anew", true),
        ("sinewave", "anew", false),
        ("fn bend_step()", "bend_*", true),
        ("unbend_step()", "bend_*", false),
        ("fn set_riding(", "riding", false),
        ("so many words", "so many", true),
    ] {
        assert_eq!(contains(line, word), is_there, "{word} in {line}");
    }
}
