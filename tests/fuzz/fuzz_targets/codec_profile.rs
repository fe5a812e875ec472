//! Fuzz target: see `fuzz::fuzzing::codec_profile`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::fuzzing::codec_profile(bytes));
