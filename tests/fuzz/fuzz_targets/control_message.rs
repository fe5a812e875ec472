//! Fuzz target: see `fuzz::fuzzing::control_message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::fuzzing::control_message(bytes));
