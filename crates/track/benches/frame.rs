//! The sender's budget is 10 ms for the landmarks of a frame and their fit, 40 ms to find a face.

use std::hint::black_box;

use actor::Actor;
use criterion::{Criterion, criterion_group, criterion_main};
use track::{FaceShape, Fitter, Tracker, solve_identity};
use types::{Frame, MediaTime};

const SIDE: u32 = 512;

fn frame(c: &mut Criterion) {
    let actor = Actor::new(7);
    let shown = |i| actor.render(&actor.script(MediaTime::of_frame(i, 25)), SIDE).frame;
    let frames: Vec<Frame> = (0..25).map(shown).collect();
    let shape = FaceShape::builtin().expect("the shape ships with the product");
    let mut tracker = Tracker::builtin().expect("the weights ship with the product");
    let known: Vec<_> = frames.iter().filter_map(|frame| tracker.track(frame)).collect();
    let identity = solve_identity(&shape, SIDE, &known).expect("the actor shows a face");
    let mut fitter = Fitter::new(&shape, &identity);
    let gray = Frame::new(SIDE, SIDE, MediaTime::ZERO, vec![110; (SIDE * SIDE * 3) as usize])
        .expect("as many bytes as the size says");

    let mut group = c.benchmark_group("track");
    // To and fro, so that the head moves from frame to frame as heads do.
    let mut order = (0..25).chain((0..25).rev()).cycle();
    group.bench_function("follow and fit", |b| {
        b.iter(|| {
            let landmarks = tracker.track(&frames[order.next()?])?;
            fitter.fit(black_box(&landmarks), SIDE)
        });
    });
    group.bench_function("fit", |b| {
        let mut order = (0..25).chain((0..25).rev()).cycle();
        b.iter(|| fitter.fit(&known[order.next()?], SIDE));
    });
    group.bench_function("find", |b| {
        b.iter(|| {
            tracker.reset();
            tracker.track(&frames[0])
        });
    });
    group.bench_function("find no face", |b| b.iter(|| tracker.track(&gray)));
    group.finish();
}

criterion_group!(benches, frame);
criterion_main!(benches);
