//! Calls over simulated links, from a clean one to one that loses every other packet.

use std::time::Duration;

use call::{Loss, Path};
use tests::netsim::{Received, SimulatedCall};

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn over(loss: Loss) -> Received {
    let path = Path { seed: 42, ..Path::clean() }.with_jitter(millis(15)).with_loss(loss);
    let received = SimulatedCall::over(path).run_for(30);
    println!("{loss:?}: {received:#?}");
    received
}

#[test]
fn over_a_clean_link_every_feature_is_displayed_one_frame_late() {
    let received = SimulatedCall::over(Path::clean()).run_for(30);
    assert!(received.share_received > 0.9999, "{received:#?}");
    // 20 ms of network, 40 until the next feature arrives, 4 of margin, 1 of rounding.
    assert!(received.latency_p95 <= millis(66), "{received:#?}");
    assert_eq!(received.rtt, Some(millis(40)), "{received:#?}");
    assert!(received.units_lost < 1e-9, "{received:#?}");
    // Error of linear interpolation of a sine: 0.6 (2 pi)^2 (0.04 s)^2 / 8.
    assert!(received.worst_error < 0.005, "{received:#?}");
}

#[test]
fn fewer_packets_cost_nothing_but_delay() {
    for (units, packets_per_s, latency) in [(2, 12.5, 110), (4, 6.25, 190)] {
        let received = SimulatedCall::over(Path::clean()).units_per_packet(units).run_for(30);
        assert!((received.packets_per_s - packets_per_s).abs() < 0.1, "{received:#?}");
        assert!(received.latency_p95 <= millis(latency), "{received:#?}");
        assert!(received.share_received > 0.999, "{received:#?}");
    }
}

#[test]
fn jitter_alone_causes_no_freeze() {
    let received = over(Loss::Random(0.0));
    assert_eq!(received.longest_freeze, Duration::ZERO);
    assert!(received.share_received > 0.9 && received.latency_p95 < millis(100));
}

#[test]
fn a_loss_of_10_percent_causes_no_freeze() {
    let received = over(Loss::Random(0.1));
    assert_eq!(received.longest_freeze, Duration::ZERO);
    assert!(
        received.share_received > 0.9
            && received.units_lost < 0.002
            && received.latency_p95 < millis(150)
    );
}

#[test]
fn a_loss_of_30_percent_freezes_the_face_for_less_than_100_ms() {
    let received = over(Loss::Random(0.3));
    assert!(received.longest_freeze < millis(100));
    assert!(
        received.share_received > 0.9
            && received.units_lost < 0.01
            && received.latency_p95 < millis(250)
    );
}

#[test]
fn a_loss_of_50_percent_freezes_the_face_for_less_than_200_ms() {
    let received = over(Loss::Random(0.5));
    assert!(received.longest_freeze < millis(200));
    assert!(received.share_received > 0.88 && received.units_lost < 0.02);
}

#[test]
fn a_burst_of_400_ms_freezes_the_face_for_at_most_100_ms() {
    let received = over(Loss::Bursts { period: millis(5000), length: millis(400) });
    // Up to 455 ms without a packet: the playout delay covers 40, concealment 400.
    assert!(received.longest_freeze <= millis(100));
    assert!(received.units_lost < 0.08 && received.latency_p95 < millis(150));
}

#[test]
fn the_sender_receives_acknowledgements() {
    let received = over(Loss::Random(0.1));
    assert!(received.confirmed > 0.3, "reports name the last 16 units");
}
