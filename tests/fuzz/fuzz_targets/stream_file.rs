//! Fuzz target: see `fuzz::fuzzing::stream_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::fuzzing::stream_file(bytes));
