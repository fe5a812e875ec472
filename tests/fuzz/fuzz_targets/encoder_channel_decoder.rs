//! Fuzz target: see `fuzz::fuzzing::encoder_channel_decoder`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::fuzzing::encoder_channel_decoder(bytes));
