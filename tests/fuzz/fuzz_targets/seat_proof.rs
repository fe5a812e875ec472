//! Fuzz target: see `fuzz::fuzzing::seat_proof`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::fuzzing::seat_proof(bytes));
