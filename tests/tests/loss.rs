//! Does the face live through this loss? Real units of the actor, coded, packed, lost, acknowledged
//! over a way that loses as much, decoded and played out by the parts of a call.

use std::time::{Duration, Instant};

use call::{Loss, Path, SimulationReport, simulate};
use transport::PlayoutSource;
use types::{Feature, Rate};

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const RATES: [Rate; 3] = [Rate::Low, Rate::Normal, Rate::High];

/// Half a minute of the actor at both ends; what one sees of the other, if it goes well.
fn over(rate: Rate, loss: Loss, seed: u64) -> SimulationReport {
    let features = tests::actor::features();
    check(rate, loss, seed, &features, &features)
}

/// What always holds, whatever is lost.
#[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
fn check(
    rate: Rate,
    loss: Loss,
    seed: u64,
    features: &[Feature],
    answer: &[Feature],
) -> SimulationReport {
    let path = Path { seed, ..Path::clean() }.with_jitter(millis(15)).with_loss(loss);
    let seen = simulate(Instant::now(), features, answer, &tests::actor::profile(), rate, path);
    let name = format!("{rate:?}, {loss:?}, seed {seed}");
    let kbps = |bytes: usize| bytes as f64 * 0.2 / features.len() as f64;
    println!(
        "{name}: {:.3} kbit/s of payload, {} of {} units stand alone, {} decoded; {:.1} packets/s \
         of {:.1} bytes; longest freeze {:?}, p95 of age {:?}",
        kbps(seen.payload_bytes),
        seen.key_units,
        seen.units,
        seen.decoded,
        seen.packets as f64 * 25.0 / features.len() as f64,
        seen.packet_bytes as f64 / seen.packets as f64,
        seen.longest_freeze,
        seen.latency_p95,
    );
    assert_eq!(seen.diverged, 0, "{name}: a unit decodes to what was meant or not at all");
    assert_eq!(seen.stranded, 0, "{name}: whatever arrives restores the face");
    assert!(seen.decoded > 0, "{name}");
    seen
}

#[test]
fn without_loss_every_unit_arrives_and_one_stands_alone() {
    for rate in RATES {
        let seen = over(rate, Loss::Random(0.0), 42);
        assert_eq!((seen.decoded, seen.longest_freeze), (seen.units, Duration::ZERO));
        assert!(seen.key_units <= 3, "until the first acknowledgement: {}", seen.key_units);
    }
}

#[test]
fn three_in_ten_packets_lost_freeze_nothing() {
    for rate in RATES {
        for seed in [42, 7, 3] {
            let seen = over(rate, Loss::Random(0.3), seed);
            assert!(seen.longest_freeze <= millis(100), "{:?}", seen.longest_freeze);
            assert!(seen.decoded * 100 >= seen.units * 97, "{} {}", seen.decoded, seen.units);
        }
    }
}

#[test]
fn every_other_packet_lost_never_freezes_the_face_for_200_ms() {
    for rate in RATES {
        for seed in [42, 7, 3] {
            let seen = over(rate, Loss::Random(0.5), seed);
            assert!(seen.longest_freeze <= millis(200), "{:?}", seen.longest_freeze);
            assert!(seen.decoded * 100 >= seen.units * 94, "{} {}", seen.decoded, seen.units);
        }
    }
}

#[test]
fn bursts_of_400_ms_never_freeze_the_face_for_200_ms() {
    for rate in RATES {
        // Every five seconds, and seldom, when nothing has been learnt from the last.
        for period in [4970, 14_970] {
            let loss = Loss::Bursts { period: millis(period), length: millis(400) };
            let seen = over(rate, loss, 42);
            assert!(seen.longest_freeze <= millis(200), "{:?}", seen.longest_freeze);
        }
    }
}

#[test]
fn a_peer_that_sends_no_face_acknowledges_enough() {
    let features = tests::actor::features();
    for rate in RATES {
        let seen = check(rate, Loss::Random(0.5), 42, &features, &[]);
        assert!(seen.longest_freeze <= millis(200), "{:?}", seen.longest_freeze);
    }
}

/// Ten seconds without a packet either way, then everything is there again.
#[test]
fn the_first_packet_after_an_outage_restores_the_face() {
    let features = tests::actor::features();
    for rate in RATES {
        for length in [900, 3000, 10_000] {
            let loss = Loss::Bursts { period: millis(15_000), length: millis(length) };
            let seen = check(rate, loss, 42, &features, &features);
            // The outage ends at 15 s. The playout delay later, all is received again.
            let back = 25 * 15 + 13;
            let after = &seen.shown[back..back + 50];
            let n_received = after
                .iter()
                .filter(|shown| matches!(shown, Some((_, PlayoutSource::Interpolated))))
                .count();
            assert!(n_received >= 45, "{rate:?}, {length} ms: {n_received} of 50");
        }
    }
}

/// The pose that is shown, against the pose that was tracked: 30 % lost cost next to nothing.
#[test]
fn what_is_shown_under_loss_is_what_was_tracked() {
    let features = tests::actor::features();
    let error = |seen: &SimulationReport| {
        let pairs = features.iter().zip(&seen.shown).skip(50);
        let errors = pairs.filter_map(|(tracked, shown)| {
            let (shown, _) = (*shown)?;
            Some(tracked.pose.quat().angle_between(shown.pose.quat()).powi(2))
        });
        (errors.sum::<f32>() / (features.len() - 50) as f32).sqrt()
    };
    let clean = error(&over(Rate::Normal, Loss::Random(0.0), 42));
    let lossy = error(&over(Rate::Normal, Loss::Random(0.3), 42));
    println!("pose error {clean} rad without loss, {lossy} with");
    assert!(lossy < 1.25 * clean + 1e-4, "{lossy} {clean}");
}
