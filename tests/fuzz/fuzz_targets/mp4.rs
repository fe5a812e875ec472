//! Fuzz target: see `fuzz::fuzzing::mp4`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::fuzzing::mp4(bytes));
