//! Budgets of the sender: 10 ms for landmarks and fit of a frame, 40 ms to find a face, and as much to
//! refine a frame on two cores.

use std::hint::black_box;

use actor::Actor;
use criterion::{Criterion, criterion_group, criterion_main};
use face::FaceFile;
use face_shape::FaceShape;
use track::{Aligned, Exposure, Fitter, Identity, Tracker, Unknowns};
use types::{FEATURE_DIMS, Feature, MediaTime, SquareFrame};

const SIDE: u32 = 512;

fn frame(c: &mut Criterion) {
    let actor = Actor::new(7);
    let shown = |i| actor.render(&actor.script(MediaTime::of_frame(i, 25)), SIDE).frame;
    let frames: Vec<SquareFrame> = (0..25).map(shown).collect();
    let shape = FaceShape::builtin().expect("the shape ships with the product");
    let mut tracker = Tracker::builtin().expect("the weights ship with the product");
    let known: Vec<_> = frames.iter().filter_map(|frame| tracker.track(frame)).collect();
    let identity = Identity::solve(&shape, SIDE, &known).expect("the actor shows a face");
    let mut fitter = Fitter::new(&shape, &identity);
    let gray = SquareFrame::new(SIDE, MediaTime::ZERO, vec![110; (SIDE * SIDE * 3) as usize])
        .expect("three bytes per pixel");

    let mut group = c.benchmark_group("track");
    // Forwards and backwards, so that the motion is continuous.
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

/// One alignment step of the demo person's field, for pose and torso and for all unknowns.
fn refine(c: &mut Criterion) {
    let file = FaceFile::parse(include_bytes!("../../../assets/demo.face"))
        .expect("the demo person ships with the product");
    let model = file.model;
    let numbers: [f32; FEATURE_DIMS] = std::array::from_fn(|i| match i {
        5 => 1.65,
        _ => 0.0,
    });
    let truth = Feature::from_array(MediaTime::ZERO, &numbers).expect("a head at rest");
    let picture = face::render_cpu(&model, &model.frame_inputs(&truth), 256, 4);
    let frame = SquareFrame::from_colors(256, MediaTime::ZERO, &picture).expect("a square picture");
    let mut off = numbers;
    (off[0], off[3], off[8]) = (0.01, 0.001, 0.2);
    let off = Feature::from_array(MediaTime::ZERO, &off).expect("a head nearly at rest");

    let mut group = c.benchmark_group("refine");
    for (name, unknowns) in
        [("pose and torso", Unknowns::PoseAndTorso), ("everything", Unknowns::All)]
    {
        group.bench_function(name, |b| {
            b.iter(|| Aligned::step(&model, &frame, &off, &off, Exposure::SAME, unknowns));
        });
    }
    group.bench_function("fold", |b| b.iter(|| model.fold(&model.frame_inputs(&off))));
    group.finish();
}

criterion_group!(benches, frame, refine);
criterion_main!(benches);
