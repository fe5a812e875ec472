//! Simulated calls with the features of the actor over lossy paths: reports and acknowledgements
//! are lost as often as units. The parts of a real call encode, packetize, decode and play out.

use std::time::{Duration, Instant};

use call::{Loss, Path, SimulationReport, simulate};
use transport::PlayoutSource;
use types::{Feature, Rate};

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const RATES: [Rate; 3] = [Rate::Low, Rate::Normal, Rate::High];

/// Simulates a call of 30 s with the actor at both ends.
fn over(rate: Rate, loss: Loss, seed: u64) -> SimulationReport {
    let features = tests::actor::features();
    check(rate, loss, seed, &features, &features)
}

/// Simulates a call, and asserts what holds under any loss.
#[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
fn check(
    rate: Rate,
    loss: Loss,
    seed: u64,
    features: &[Feature],
    peer_features: &[Feature],
) -> SimulationReport {
    let path = Path { seed, ..Path::clean() }.with_jitter(millis(15)).with_loss(loss);
    let report =
        simulate(Instant::now(), features, peer_features, &tests::actor::profile(), rate, path);
    let name = format!("{rate:?}, {loss:?}, seed {seed}");
    let kbps = |bytes: usize| bytes as f64 * 0.2 / features.len() as f64;
    println!(
        "{name}: {:.3} kbit/s of payload, {} of {} units are key units, {} decoded; {:.1} packets/s \
         of {:.1} bytes; longest freeze {:?}, p95 of age {:?}",
        kbps(report.payload_bytes),
        report.key_units,
        report.units,
        report.decoded,
        report.packets as f64 * 25.0 / features.len() as f64,
        report.packet_bytes as f64 / report.packets as f64,
        report.longest_freeze,
        report.latency_p95,
    );
    assert_eq!(
        report.diverged, 0,
        "{name}: a unit decodes to the encoder's reconstruction or not at all"
    );
    assert_eq!(report.stranded, 0, "{name}: each packet that arrives restores the face");
    assert!(report.decoded > 0, "{name}");
    report
}

#[test]
fn without_loss_every_unit_arrives_and_key_units_end_with_the_first_acknowledgement() {
    for rate in RATES {
        let report = over(rate, Loss::Random(0.0), 42);
        assert_eq!((report.decoded, report.longest_freeze), (report.units, Duration::ZERO));
        assert!(report.key_units <= 3, "until the first acknowledgement: {}", report.key_units);
    }
}

/// Asserts, at each rate and for three seeds, the longest freeze and the share of units that are
/// decoded, in percent, when packets are lost at random.
fn check_random_loss(share: f64, longest_freeze: Duration, decoded_percent: usize) {
    for rate in RATES {
        for seed in [42, 7, 3] {
            let report = over(rate, Loss::Random(share), seed);
            assert!(report.longest_freeze <= longest_freeze, "{:?}", report.longest_freeze);
            let (decoded, units) = (report.decoded, report.units);
            assert!(decoded * 100 >= units * decoded_percent, "{decoded} {units}");
        }
    }
}

#[test]
fn a_loss_of_30_percent_freezes_the_face_for_at_most_100_ms() {
    check_random_loss(0.3, millis(100), 97);
}

#[test]
fn a_loss_of_50_percent_freezes_the_face_for_at_most_200_ms() {
    check_random_loss(0.5, millis(200), 94);
}

#[test]
fn bursts_of_400_ms_freeze_the_face_for_at_most_200_ms() {
    for rate in RATES {
        // Every 5 s, and every 15 s, when the sender has forgotten the last burst.
        for period in [4970, 14_970] {
            let loss = Loss::Bursts { period: millis(period), length: millis(400) };
            let report = over(rate, loss, 42);
            assert!(report.longest_freeze <= millis(200), "{:?}", report.longest_freeze);
        }
    }
}

#[test]
fn a_peer_that_sends_no_face_acknowledges_often_enough() {
    let features = tests::actor::features();
    for rate in RATES {
        let report = check(rate, Loss::Random(0.5), 42, &features, &[]);
        assert!(report.longest_freeze <= millis(200), "{:?}", report.longest_freeze);
    }
}

/// Outages of up to 10 s in both directions.
#[test]
fn the_first_packet_after_an_outage_restores_the_face() {
    let features = tests::actor::features();
    for rate in RATES {
        for length in [900, 3000, 10_000] {
            let loss = Loss::Bursts { period: millis(15_000), length: millis(length) };
            let report = check(rate, loss, 42, &features, &features);
            // The outage ends at 15 s. After the playout delay, each feature is interpolated again.
            let back = 25 * 15 + 13;
            let after = &report.shown[back..back + 50];
            let n_interpolated = after
                .iter()
                .filter(|shown| matches!(shown, Some((_, PlayoutSource::Interpolated))))
                .count();
            assert!(n_interpolated >= 45, "{rate:?}, {length} ms: {n_interpolated} of 50");
        }
    }
}

/// Compares displayed poses with tracked ones.
#[test]
fn a_loss_of_30_percent_hardly_increases_the_error_of_the_displayed_pose() {
    let features = tests::actor::features();
    let error = |report: &SimulationReport| {
        let pairs = features.iter().zip(&report.shown).skip(50);
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
