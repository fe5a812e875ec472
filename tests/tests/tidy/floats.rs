//! Past the quantizer the codec computes with integers only.

use super::{crate_folder, entries, read};

/// Files that learn, quantize, dequantize, or measure the codec in tests.
const WITH_FLOATS: [&str; 4] = ["fit.rs", "measured.rs", "profile.rs", "sensitivity.rs"];

/// Two machines agree about integers, but about floats only where each operation rounds once.
#[test]
fn past_the_quantizer_there_are_no_floats() {
    let mut n_files = 0;
    for path in entries(&crate_folder("codec").join("src")) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if WITH_FLOATS.contains(&name.as_str()) {
            continue;
        }
        let source = read(&path);
        let code = source.split("#[cfg(test)]\nmod ").next().unwrap();
        for (number, line) in (1..).zip(code.lines()) {
            let code = line.split("//").next().unwrap();
            let has_float = ["f32", "f64", "f16"].iter().any(|float| code.contains(float));
            assert!(!has_float, "codec/src/{name}:{number}: `{}` has floats", line.trim());
        }
        n_files += 1;
    }
    assert!(n_files >= 10, "{n_files}");
}
