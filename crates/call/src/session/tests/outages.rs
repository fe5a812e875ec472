//! Set-up, outages and restarts over bad networks, on many seeds: every call begins or comes back,
//! none stays neither up nor ended, and the number of datagrams stays bounded.

use std::time::Duration;

use numerics::SplitMix64;
use transport::Role;

use super::path::Conditions;
use super::world::{GUEST, HOST, World, config, millis, secs};

const ROUND_TRIPS_MS: [u64; 4] = [40, 200, 600, 900];

fn conditions(round_trip_ms: u64, loss: f64) -> Conditions {
    Conditions { latency: millis(round_trip_ms / 2), loss, ..Conditions::clean() }
}

fn two_over(conditions: Conditions, seed: u64) -> World {
    let mut world = World::new();
    world.conditions = conditions;
    world.random = SplitMix64::new(seed);
    world.add(config(Role::Host, 1));
    world.add(config(Role::Guest, 2));
    world
}

fn are_connected(world: &World) -> bool {
    world.peers.iter().all(|peer| peer.end.is_none() && peer.is_connected())
}

/// Returns the time until both ends are connected, if that happens within `limit`.
fn time_to_connect(world: &mut World, limit: Duration) -> Option<Duration> {
    let start = world.now;
    while !are_connected(world) {
        if world.now >= start + limit {
            return None;
        }
        world.run_for(millis(20));
    }
    Some(world.now - start)
}

/// Datagrams of both ends in the first 30 s. The same call without loss needs up to 200 without
/// media, and with media 700 more.
const MAX_DATAGRAMS: usize = 600;

/// Checks that at least this share of calls begins within `limit`, and that the other guests end.
fn check_setup(conditions: Conditions, limit: Duration, share: f64) {
    let n_connected = (0..50).filter(|seed| {
        let mut world = two_over(conditions, *seed);
        let took = time_to_connect(&mut world, limit);
        world.run_for(secs(30).saturating_sub(took.unwrap_or(limit)));
        let n = world.n_datagrams;
        assert!(n <= MAX_DATAGRAMS, "{n} datagrams: {conditions:?}, seed {seed}");
        if took.is_none() {
            world.run_for(secs(60));
            // The host waits for another guest.
            let is_over = world.peers[GUEST].end.is_some();
            assert!(are_connected(&world) || is_over, "{conditions:?}, seed {seed}");
        }
        took.is_some()
    });
    let connected = n_connected.count() as f64 / 50.0;
    assert!(connected >= share, "{connected} of all calls: {conditions:?}");
}

#[test]
fn calls_begin_at_any_loss_and_round_trip() {
    for round_trip_ms in ROUND_TRIPS_MS {
        for (loss, limit_s) in [(0.0, 8), (0.1, 15), (0.3, 30)] {
            check_setup(conditions(round_trip_ms, loss), secs(limit_s), 1.0);
        }
        // With half of all datagrams lost, a handshake of twelve may outlast the limit of 30 s. The
        // admission that follows has no limit.
        check_setup(conditions(round_trip_ms, 0.5), secs(40), 0.9);
    }
}

/// A DTLS flight that is lost twice ends its link. Before there were parallel attempts, it ended
/// the call.
#[test]
fn calls_begin_although_dtls_repeats_its_flights_only_once() {
    for (loss, share) in [(0.1, 1.0), (0.2, 0.98), (0.3, 0.8)] {
        for round_trip_ms in ROUND_TRIPS_MS {
            let conditions = conditions(round_trip_ms, loss);
            check_setup(Conditions { repeats_dtls: false, ..conditions }, secs(31), share);
        }
    }
}

/// Begins a call, takes the network away for `outage`, and checks that the call comes back within
/// `limit` and stays.
fn check_outage(round_trip_ms: u64, outage: Duration, paths_change: bool, limit: Duration) {
    for seed in 0..10 {
        let mut world = two_over(conditions(round_trip_ms, 0.05), seed);
        time_to_connect(&mut world, secs(20)).expect("a call");
        world.run_for(secs(3));
        let before = world.n_datagrams;
        world.network_is_up = false;
        if paths_change {
            world.break_links();
        }
        world.run_for(outage);
        world.restore_network();
        let took = time_to_connect(&mut world, limit);
        let context = format!("{round_trip_ms} ms, {outage:?}, {paths_change}, seed {seed}");
        assert!(took.is_some(), "not back: {context}");
        let n = world.n_datagrams - before;
        assert!(n <= MAX_DATAGRAMS, "{n} datagrams: {context}");
        world.run_for(secs(60));
        assert!(are_connected(&world), "not stable: {context}");
    }
}

#[test]
fn calls_come_back_over_the_old_link_after_any_outage() {
    for round_trip_ms in ROUND_TRIPS_MS {
        for outage in [2, 5, 9, 15, 30] {
            check_outage(round_trip_ms, secs(outage), false, secs(6));
        }
    }
}

#[test]
fn calls_come_back_over_a_new_link_when_an_outage_has_changed_the_path() {
    for round_trip_ms in ROUND_TRIPS_MS {
        for outage in [2, 5, 9, 15, 30] {
            check_outage(round_trip_ms, secs(outage), true, secs(25));
        }
    }
}

#[test]
fn an_outage_of_more_than_a_minute_ends_the_call_at_both_ends() {
    for round_trip_ms in ROUND_TRIPS_MS {
        let mut world = two_over(conditions(round_trip_ms, 0.0), 1);
        time_to_connect(&mut world, secs(20)).expect("a call");
        world.network_is_up = false;
        world.run_for(secs(63));
        for peer in &world.peers {
            assert_eq!(peer.end.as_deref(), Some("PeerVanished"));
        }
    }
}

#[test]
fn one_direction_that_fails_is_no_call_and_comes_back_or_ends() {
    for (deaf, seconds, is_back) in [(HOST, 20, true), (GUEST, 20, true), (HOST, 200, false)] {
        let mut world = two_over(conditions(200, 0.0), 1);
        time_to_connect(&mut world, secs(20)).expect("a call");
        world.deaf = Some(deaf);
        world.run_for(secs(seconds));
        world.deaf = None;
        world.run_for(secs(20));
        assert_eq!(are_connected(&world), is_back, "peer {deaf} deaf for {seconds} s");
        assert!(is_back || world.peers.iter().all(|peer| peer.end.is_some()));
    }
}

#[test]
fn a_call_survives_the_restart_of_either_end() {
    for round_trip_ms in ROUND_TRIPS_MS {
        for (restarted, role) in [(HOST, Role::Host), (GUEST, Role::Guest)] {
            for pause in [0, 3, 10, 30].map(secs) {
                for seed in 0..5 {
                    let mut world = two_over(conditions(round_trip_ms, 0.1), seed);
                    time_to_connect(&mut world, secs(20)).expect("a call");
                    world.run_for(secs(2));
                    world.kill(restarted);
                    world.run_for(pause);
                    world.restart(restarted, config(role, 5));
                    // A guest that is not known by its token waits for the minute of the lost one.
                    let limit = if restarted == HOST { 30 } else { 75 };
                    let took = time_to_connect(&mut world, secs(limit));
                    let context = format!("peer {restarted}, {round_trip_ms} ms, {pause:?}");
                    assert!(took.is_some(), "{context}, seed {seed}");
                }
            }
        }
    }
}
