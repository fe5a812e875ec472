//! The corpora of the fuzz targets, replayed as plain tests.

use std::fs;
use std::path::Path;

use tests::fuzzing::TARGETS;

#[test]
fn every_corpus_file_passes_its_fuzz_target() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, target) in TARGETS {
        let mut files: Vec<_> = fs::read_dir(corpora.join(name))
            .unwrap_or_else(|error| panic!("the corpus of {name}: {error}"))
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        assert!(!files.is_empty(), "the corpus of {name} is empty");
        for file in files {
            eprintln!("replaying {}", file.display());
            target(&fs::read(&file).unwrap());
        }
    }
}

#[test]
fn every_fuzz_target_has_a_program() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let mut programs: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let mut targets = TARGETS.map(|(name, _)| name.to_owned()).to_vec();
    programs.sort();
    targets.sort();
    assert_eq!(programs, targets);
}
