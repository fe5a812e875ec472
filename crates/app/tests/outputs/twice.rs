//! Two programs that write to one place at a time.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Bench, failed};

/// A program that runs until the test has seen enough.
struct Running(Child);

impl Running {
    /// Starts a command and waits until the file `sign` of the bench has this many bytes.
    fn start(bench: &Bench, command: &mut Command, sign: &str, bytes: u64) -> Self {
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        let running = Self(command.spawn().unwrap());
        let deadline = Instant::now() + Duration::from_mins(2);
        while !bench.path(sign).metadata().is_ok_and(|file| file.len() >= bytes) {
            assert!(Instant::now() < deadline, "{sign} does not appear");
            std::thread::sleep(Duration::from_millis(20));
        }
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_second_enrollment_to_a_face_is_told_and_a_crash_does_not_block_the_next() {
    let bench = Bench::new("two-enrollments");
    let args = ["enroll", "--from", "actor", "--plain", "--budget", "5m", "--out", "new.face"];
    let sign = ".feathercall-new.face.tmp";
    let first = Running::start(&bench, &mut bench.feathercall(&args), sign, 0);
    let told = failed(&mut bench.feathercall(&args));
    assert!(told.contains("new.face") && told.contains("another program is using it"), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    // Killed, it cannot clean up.
    drop(first);
    assert!(bench.path(sign).exists());
    let steps = ["--size", "64", "--steps", "1", "--from", "long.y4m", "--i-consent", "--plain"];
    bench.succeeds(&[&["enroll", "--out", "new.face"][..], &steps].concat());
    assert!(bench.path("new.face").exists() && !bench.path(sign).exists());
}

#[test]
fn a_second_recording_to_a_name_is_told() {
    let bench = Bench::new("two-recordings");
    for (out, part) in [("call.mp4", "call.part.mp4"), ("call", "call.part/000000.png")] {
        let args = ["demo", "--headless", "--seconds", "60", "--record", out];
        let first = Running::start(&bench, &mut bench.feathercall(&args), part, 1);
        let told = failed(&mut bench.feathercall(&args));
        assert!(told.contains(out) && told.contains("another program is using it"), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
        drop(first);
    }
    let stats = ["call", "--headless", "--no-audio", "--stats", "stats.jsonl"];
    let _first = Running::start(&bench, &mut bench.feathercall(&stats), "stats.jsonl", 0);
    let told = failed(&mut bench.feathercall(&stats));
    assert!(told.contains("another program is using it"), "{told}");
}
