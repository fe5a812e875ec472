//! An hour of a call in which everything bad happens at once: loss, jitter, duplicates, outages,
//! changed paths, lost signaling, standstills, restarts, and users who change everything.

use std::time::Duration;

use bytes::Bytes;
use numerics::SplitMix64;
use transport::Role;
use types::Rate;

use super::path::Conditions;
use super::world::{GUEST, HOST, World, config, face_file, millis, nod, secs};
use crate::event::Command;
use crate::session::SessionConfig;

const HOUR_S: u64 = 3600;
/// A call in a usable network is connected again within this time, whatever has happened.
const LONGEST_ABSENCE: Duration = Duration::from_mins(1);

/// What happens to the peers, decided by one seed.
struct Mischief {
    random: SplitMix64,
    /// When the network comes back, as a second of the call.
    network_back_s: u64,
    rendezvous_back_s: u64,
    n_restarts: u8,
    n_outages: usize,
}

impl Mischief {
    fn chance(&mut self, per_hour: f64) -> bool {
        self.random.uniform_f64() < per_hour / HOUR_S as f64
    }

    fn seconds(&mut self, low: u64, high: u64) -> u64 {
        low + self.random.bits() % (high - low + 1)
    }

    /// Changes the world at the beginning of second `s`.
    fn strike(&mut self, world: &mut World, s: u64) {
        if s == self.network_back_s {
            world.restore_network();
        }
        world.rendezvous_is_up = s >= self.rendezvous_back_s;
        if self.chance(120.0) {
            world.conditions = self.conditions();
        }
        if self.chance(40.0) && world.network_is_up {
            world.network_is_up = false;
            self.network_back_s = s + self.seconds(1, 20);
            self.n_outages += 1;
        }
        if self.chance(20.0) {
            world.break_links();
        }
        if self.chance(10.0) {
            self.rendezvous_back_s = s + self.seconds(1, 15);
        }
        if self.chance(6.0) {
            // Both computers sleep, as the virtual clock is theirs in common.
            world.now += secs(self.seconds(4, 600));
        }
        if self.chance(12.0) {
            self.restart(world);
        }
        if self.chance(240.0) {
            self.command(world);
        }
    }

    fn conditions(&mut self) -> Conditions {
        Conditions {
            latency: millis(self.seconds(5, 300)),
            jitter: millis(self.seconds(0, 60)),
            loss: self.random.uniform_f64() * 0.3,
            duplicates: self.random.uniform_f64() * 0.1,
            repeats_dtls: true,
        }
    }

    fn restart(&mut self, world: &mut World) {
        self.n_restarts += 1;
        let index = self.random.index(2);
        world.restart(index, soak_config(index, 10 + self.n_restarts));
    }

    fn command(&mut self, world: &mut World) {
        let flag = self.random.chance(0.5);
        let command = match self.random.index(4) {
            0 => Command::SetMuted(flag),
            1 => Command::SetCameraOn(flag),
            2 => Command::SetRate(Rate::ALL[self.random.index(Rate::ALL.len())]),
            _ => Command::SendChat("still there?".into()),
        };
        world.command(self.random.index(2), command);
    }
}

fn soak_config(index: usize, salt: u8) -> SessionConfig {
    let role = if index == HOST { Role::Host } else { Role::Guest };
    let face = Some(Bytes::from(face_file(1 + index).public_bytes()));
    SessionConfig { face, ..config(role, salt) }
}

/// Checks what holds in every second, whatever happens.
fn check_bounds(world: &mut World, s: u64) {
    for peer in &mut world.peers {
        assert_eq!(peer.end, None, "after {s} s");
        assert!(peer.links.len() <= 3, "after {s} s: {:?}", peer.links);
        let counts = peer.session.receiver().counts;
        assert!(counts.bad_packets == 0, "after {s} s: {counts:?}");
        // The world keeps these for tests; here they would grow for an hour.
        peer.events.clear();
        peer.control_sent.clear();
        peer.encoder_commands.clear();
        peer.features.truncate(peer.features.len().min(1));
    }
    world.sealed.clear();
    assert!(world.in_flight.len() < 2000, "{} on their way after {s} s", world.in_flight.len());
}

#[test]
fn an_hour_of_everything_at_once_keeps_every_bound() {
    let mut world = World::new();
    world.add(soak_config(HOST, 1));
    world.add(soak_config(GUEST, 2));
    let random = SplitMix64::new(18);
    let mut mischief =
        Mischief { random, network_back_s: 0, rendezvous_back_s: 0, n_restarts: 0, n_outages: 0 };
    let (mut connected_s, mut absent_s, mut n_datagrams) = (0, 0, 0);
    let mut received = [0; 2];
    for s in 0..HOUR_S {
        mischief.strike(&mut world, s);
        for frame in 0..5 {
            for index in [HOST, GUEST] {
                world.send_feature(index, &nod(25 * s + 5 * frame));
            }
            world.run_for(millis(200));
        }
        let is_connected = world.peers.iter().all(super::world::Peer::is_connected);
        connected_s += u64::from(is_connected);
        absent_s = if is_connected { 0 } else { absent_s + 1 };
        assert!(absent_s <= LONGEST_ABSENCE.as_secs(), "absent since {} s", s - absent_s);
        for (received, peer) in received.iter_mut().zip(&world.peers) {
            *received += peer.features.len();
        }
        check_bounds(&mut world, s);
        let sent = world.n_datagrams - n_datagrams;
        n_datagrams = world.n_datagrams;
        assert!(sent < 400, "{sent} datagrams in second {s}");
    }
    assert!(mischief.n_restarts >= 5 && mischief.n_outages >= 20);
    assert!(connected_s > HOUR_S / 2, "connected for {connected_s} s");
    assert!(received.iter().all(|n| *n > 5000), "features received: {received:?}");
}
