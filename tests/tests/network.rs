//! Does a call live through this link? A ladder of them, from clean to hopeless.

use std::time::Duration;

use call::{Loss, Path};
use tests::netsim::{Seen, SimulatedCall};

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn over(loss: Loss) -> Seen {
    let path = Path { seed: 42, ..Path::clean() }.with_jitter(millis(15)).with_loss(loss);
    let seen = SimulatedCall::over(path).run_for(30);
    println!("{loss:?}: {seen:#?}");
    seen
}

#[test]
fn a_clean_link_shows_every_feature_one_frame_late() {
    let seen = SimulatedCall::over(Path::clean()).run_for(30);
    assert!(seen.share_received > 0.9999, "{seen:#?}");
    // 20 ms on the way, 40 until the next feature is there, 4 of margin, 1 of rounding.
    assert!(seen.latency_p95 <= millis(66), "{seen:#?}");
    assert_eq!(seen.rtt, Some(millis(40)), "{seen:#?}");
    assert!(seen.units_lost < 1e-9, "{seen:#?}");
    // Straight lines between samples of a sine: 0.6 (2 pi)^2 (0.04 s)^2 / 8.
    assert!(seen.worst_error < 0.005, "{seen:#?}");
}

#[test]
fn fewer_packets_cost_delay_and_nothing_else() {
    for (units, packets_per_s, latency) in [(2, 12.5, 110), (4, 6.25, 190)] {
        let seen = SimulatedCall::over(Path::clean()).units_per_packet(units).run_for(30);
        assert!((seen.packets_per_s - packets_per_s).abs() < 0.1, "{seen:#?}");
        assert!(seen.latency_p95 <= millis(latency), "{seen:#?}");
        assert!(seen.share_received > 0.999, "{seen:#?}");
    }
}

#[test]
fn jitter_alone_freezes_nothing() {
    let seen = over(Loss::Random(0.0));
    assert_eq!(seen.longest_freeze, Duration::ZERO);
    assert!(seen.share_received > 0.9 && seen.latency_p95 < millis(100));
}

#[test]
fn a_tenth_lost_freezes_nothing() {
    let seen = over(Loss::Random(0.1));
    assert_eq!(seen.longest_freeze, Duration::ZERO);
    assert!(seen.share_received > 0.9 && seen.units_lost < 0.002 && seen.latency_p95 < millis(150));
}

#[test]
fn three_in_ten_lost_never_freeze_the_face_for_100_ms() {
    let seen = over(Loss::Random(0.3));
    assert!(seen.longest_freeze < millis(100));
    assert!(seen.share_received > 0.9 && seen.units_lost < 0.01 && seen.latency_p95 < millis(250));
}

#[test]
fn every_other_packet_lost_never_freezes_the_face_for_200_ms() {
    let seen = over(Loss::Random(0.5));
    assert!(seen.longest_freeze < millis(200));
    assert!(seen.share_received > 0.88 && seen.units_lost < 0.02);
}

#[test]
fn a_burst_of_400_ms_freezes_the_face_for_100_ms_at_most() {
    let seen = over(Loss::Bursts { period: millis(5000), length: millis(400) });
    // Up to 455 ms without a packet: 40 are covered by the delay, 400 by concealment.
    assert!(seen.longest_freeze <= millis(100));
    assert!(seen.units_lost < 0.08 && seen.latency_p95 < millis(150));
}

#[test]
fn the_sender_learns_what_was_decoded() {
    let seen = over(Loss::Random(0.1));
    assert!(seen.confirmed > 0.3, "reports name the last 16 units");
}
