//! Fuzz target: see `fuzz::fuzzing::sealed_message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::fuzzing::sealed_message(bytes));
