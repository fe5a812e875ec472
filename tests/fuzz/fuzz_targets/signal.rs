//! Fuzz target: see `fuzz::fuzzing::signal`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::fuzzing::signal(bytes));
