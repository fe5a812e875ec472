//! A short selection of the attacks of `cargo xtask attack` on the real program. Each takes less
//! than ten seconds, and its criterion leaves room for a busy machine.

use std::path::Path;

/// Runs an attack and fails if the program does not meet its criterion.
fn assert_held(name: &str) {
    let outcome = tests::attack::run_one(Path::new(env!("CARGO_BIN_EXE_feathercall")), name);
    assert!(outcome.passed, "{name}: {}", outcome.figure);
}

#[test]
fn candidates_of_type_tcp_are_not_connected_to() {
    assert_held("tcp-candidates");
}

#[test]
fn another_certificate_than_the_announced_one_is_reported() {
    assert_held("fingerprint");
}

#[test]
fn a_stranger_who_knows_the_room_cannot_take_the_guests_seat() {
    assert_held("seat-theft");
}

#[test]
fn a_guest_that_stands_still_does_not_keep_its_seat() {
    assert_held("dead-seat");
}
