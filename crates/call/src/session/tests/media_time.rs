//! Media time that does not go with real time.

use types::Feature;

use super::world::{GUEST, HOST, World, config, face_file, millis, nod, secs};
use super::*;

fn newest(world: &World, index: usize) -> Feature {
    *world.peers[index].features.last().expect("features have crossed")
}

#[test]
fn nine_seconds_of_a_peer_whose_clock_runs_ahead_are_at_most_twelve() {
    for factor in [2, 20, 200] {
        let mut world = connected_with_faces();
        for frame in 0..225 {
            world.send_feature(GUEST, &nod(frame * factor));
            world.run_for(millis(40));
        }
        world.run_for(secs(1));
        let first = world.peers[HOST].features[0].time;
        let span = newest(&world, HOST).time.saturating_since(first);
        assert!((secs(5)..secs(12)).contains(&span), "{span:?} at {factor} times the speed");
        assert!(world.peers[HOST].stats.bad_messages > 20, "{factor}");
    }
}

#[test]
fn a_restarted_host_is_shown_at_once_though_its_clock_starts_again() {
    let mut world = connected_with_faces();
    world.nod_for(HOST, 0..500);
    world.kill(HOST);
    world.run_for(secs(7));
    let face = Some(Bytes::from(face_file(1).public_bytes()));
    world.restart(HOST, SessionConfig { face, ..config(Role::Host, 3) });
    world.run_for(secs(12));
    world.peers[GUEST].features.clear();
    world.nod_for(HOST, 0..50);
    let first = world.peers[GUEST].features.first().map(|feature| feature.time);
    assert_eq!(first, Some(super::nod(0).time), "it is another peer, whose time begins at 0");
    assert_eq!(world.peers[GUEST].stats.bad_messages, 0);
}
