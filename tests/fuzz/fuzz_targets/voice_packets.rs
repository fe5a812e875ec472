//! Fuzz target: see `fuzz::fuzzing::voice_packets`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::fuzzing::voice_packets(bytes));
