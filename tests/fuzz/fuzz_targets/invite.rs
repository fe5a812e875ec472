//! Fuzz target: see `fuzz::fuzzing::invite`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::fuzzing::invite(bytes));
