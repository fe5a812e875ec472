//! Fuzz target: see `fuzz::fuzzing::face_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::fuzzing::face_file(bytes));
