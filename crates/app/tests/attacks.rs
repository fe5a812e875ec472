//! A short selection of the attacks of `cargo xtask attack` on the real program. Each takes less
//! than twenty seconds, and its criterion leaves room for a busy machine.

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

#[test]
fn nothing_of_a_person_reaches_a_guest_who_was_not_let_in() {
    assert_held("admission");
}

#[test]
fn guests_with_faults_of_every_kind_leave_the_door_open_for_the_next_one() {
    assert_held("uninvited");
}

#[test]
fn a_silent_peer_comes_back_while_another_guest_knocks() {
    assert_held("lost-peer");
}

#[test]
fn another_guest_is_not_taken_for_the_peer_that_was_lost() {
    assert_held("another-guest");
}

#[test]
fn goodbyes_in_the_name_of_the_ends_do_not_end_their_call() {
    assert_held("forged-leave");
}

#[test]
fn another_host_in_the_seat_of_a_lost_one_does_not_end_the_call_of_its_guest() {
    assert_held("false-host");
}

#[test]
fn damaged_and_second_answers_end_no_call() {
    assert_held("answers");
}

#[test]
fn a_face_is_not_sent_as_often_as_it_is_asked_for() {
    assert_held("requests");
}

#[test]
fn another_face_in_a_call_is_not_fetched_without_a_word() {
    assert_held("face-exchange");
}

#[test]
fn what_a_peer_says_does_not_act_on_a_terminal() {
    assert_held("escapes");
}

#[test]
fn signals_end_a_call_with_a_goodbye() {
    assert_held("signals");
}
