//! Fuzz target: see `fuzz::fuzzing::manual_answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::fuzzing::manual_answer(bytes));
