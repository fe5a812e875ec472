//! The sender's budget is a millisecond a feature, the receiver's the same.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

use codec::{AccessUnit, Decoder, Encoder, Profile, Quality};
use types::{Code, Feature, HeadPose, MediaTime};

/// Four seconds of a head that nods, turns and talks.
fn speech() -> Vec<Feature> {
    (0..100)
        .map(|i| {
            let t = i as f32 * 0.04;
            let wave = |rate: f32, phase: f32| (t * rate + phase).sin();
            let pose =
                [0.1 * wave(2.0, 0.0), 0.2 * wave(1.0, 1.0), 0.0, 0.01 * wave(1.3, 0.0), 0.0, 1.1];
            let code = std::array::from_fn(|dim| wave(3.0 + dim as f32 * 0.7, dim as f32));
            Feature {
                time: MediaTime::of_frame(i, 25),
                pose: HeadPose::from_array(pose).expect("in front of the camera"),
                code: Code::new(code).expect("sines are plausible"),
            }
        })
        .collect()
}

fn unit(c: &mut Criterion) {
    let features = speech();
    let profile = Profile::from_features(&features, Quality::Normal);
    let encode = |encoder: &mut Encoder| -> Vec<AccessUnit> {
        features
            .iter()
            .map(|feature| {
                let unit = encoder.encode(feature);
                if let Some(decoded) = encoder.reconstruction() {
                    encoder.acknowledge(decoded.id);
                }
                unit
            })
            .collect()
    };
    let units = encode(&mut Encoder::new(profile.clone()));

    let mut group = c.benchmark_group("codec");
    group.throughput(Throughput::Elements(features.len() as u64));
    group.bench_function("encode", |b| {
        b.iter_batched_ref(|| Encoder::new(profile.clone()), encode, BatchSize::SmallInput);
    });
    group.bench_function("decode", |b| {
        b.iter_batched_ref(
            || Decoder::new(profile.clone()),
            |decoder| units.iter().filter(|unit| decoder.decode(unit).is_ok()).count(),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, unit);
criterion_main!(benches);
