//! Fuzz target: see `fuzz::fuzzing::y4m`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::fuzzing::y4m(bytes));
