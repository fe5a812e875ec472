//! Fuzz target: see `fuzz::fuzzing::sound_payload`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::fuzzing::sound_payload(bytes));
