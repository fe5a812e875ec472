//! Fuzz target: see `fuzz::fuzzing::access_unit`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::fuzzing::access_unit(bytes));
