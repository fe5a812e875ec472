//! Fuzz target: see `fuzz::fuzzing::packet`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::fuzzing::packet(bytes));
