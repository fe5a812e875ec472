//! Fuzz target: see `fuzz::fuzzing::mp4`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: {
        // The reader contains panics of the H.264 decoder, so they must not abort the fuzzer.
        let abort = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let file = panic.location().map_or("", std::panic::Location::file);
            if !file.contains("rust_h264") {
                abort(panic);
            }
        }));
    },
    |bytes: &[u8]| fuzz::fuzzing::mp4(bytes)
);
