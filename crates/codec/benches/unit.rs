//! Time to encode and decode a unit. The budget for both together is 50 microseconds.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

use codec::{AccessUnit, Decoder, EncodedUnit, Encoder, ErrorSensitivity, Profile};
use types::{Code, Feature, HeadPose, MediaTime, UnitNumber};

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
    let sensitivity = ErrorSensitivity::from_geometry(&features);
    let profile = Profile::from_features(&features, &sensitivity, 3e-6).expect("a plausible face");
    let encode = |encoder: &mut Encoder| -> Vec<AccessUnit> {
        features
            .iter()
            .map(|feature| {
                let EncodedUnit { number, unit, .. } =
                    encoder.push(feature, true).expect("the last frame becomes a unit");
                encoder.acknowledge(number);
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
            |decoder| {
                let numbered = (0..).map(UnitNumber).zip(&units);
                numbered.filter(|(id, unit)| decoder.decode(*id, unit).is_ok()).count()
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, unit);
criterion_main!(benches);
