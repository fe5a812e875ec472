//! Frames without a face, of many kinds and sizes.

use numerics::SplitMix64;
use track::Tracker;
use types::{Frame, MediaTime};

/// Most frames in a row with a false detection.
const MAX_FALSE: usize = 3;

/// Generates an image without a face; `kind` is 0..8.
fn picture(kind: usize, random: &mut SplitMix64) -> Frame {
    let (width, height) = (32 + random.index(300), 32 + random.index(240));
    let tone = random.index(256) as i32;
    let spread = 10 + random.index(120) as i32;
    let pitch = 3 + random.index(60);
    let slope = [random.index(9) as i32 - 4, random.index(9) as i32 - 4];
    let blobs: Vec<[i32; 4]> = (0..=random.index(6))
        .map(|_| {
            let place = [random.index(width), random.index(height), 5 + random.index(width / 2)];
            let [x, y, r] = place.map(|v| v as i32);
            [x, y, r, random.index(256) as i32]
        })
        .collect();
    let coarse: Vec<i32> = (0..64).map(|_| random.index(256) as i32).collect();
    let mut rgb = Vec::with_capacity(width * height * 3);
    for i in 0..width * height {
        let (x, y) = ((i % width) as i32, (i / width) as i32);
        let cell = |v: i32| v / pitch as i32;
        let value = match kind {
            0 => 0,
            1 => 255,
            2 => random.index(256) as i32,                 // noise
            3 => tone + (slope[0] * x + slope[1] * y) / 4, // a ramp
            4 => tone + if (cell(x) + cell(y)) % 2 == 0 { spread } else { -spread }, // checks
            5 => tone + ((x * slope[0] + y * slope[1]) / pitch as i32 % 2) * spread, // stripes
            6 => blobs
                .iter()
                .rev()
                .find(|b| (x - b[0]).pow(2) + (y - b[1]).pow(2) < b[2].pow(2))
                .map_or(tone, |b| b[3]), // discs
            _ => {
                // A texture: eight by eight tones, interpolated, with slight noise.
                let at = |v: i32, n: usize| v as f32 * 7.0 / n as f32;
                let (fx, fy) = (at(x, width), at(y, height));
                let (x0, y0) = (fx as usize, fy as usize);
                let tone = |x: usize, y: usize| coarse[(y.min(7)) * 8 + x.min(7)] as f32;
                let (u, v) = (fx.fract(), fy.fract());
                let top = tone(x0, y0) * (1.0 - u) + tone(x0 + 1, y0) * u;
                let low = tone(x0, y0 + 1) * (1.0 - u) + tone(x0 + 1, y0 + 1) * u;
                (top * (1.0 - v) + low * v) as i32 + random.index(8) as i32
            }
        };
        rgb.extend([value.clamp(0, 255) as u8; 3]);
    }
    Frame::new(width as u32, height as u32, MediaTime::ZERO, rgb).expect("three bytes per pixel")
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a longer run is asked for by a variable")]
fn frames_without_a_face_have_no_detection() {
    // `FEATHERCALL_NO_FACE_PICTURES=2500` tests 10,000 frames; docs/TRACKER.md has the result.
    let n = std::env::var("FEATHERCALL_NO_FACE_PICTURES").map_or(24, |n| n.parse().unwrap());
    let mut tracker = Tracker::builtin().unwrap();
    let mut random = SplitMix64::new(1);
    let (mut seen, mut longest) = (0, 0);
    for i in 0..n {
        let frame = picture(i % 8, &mut random);
        tracker.reset();
        let mut held = 0;
        for _ in 0..=MAX_FALSE {
            held = if tracker.track(&frame).is_some() { held + 1 } else { 0 };
            seen += usize::from(held > 0);
            longest = longest.max(held);
        }
        if held > MAX_FALSE {
            println!("false detection in picture {i} of kind {}", i % 8);
        }
    }
    println!("{} frames, {seen} false detections, at most {longest} in a row", n * (MAX_FALSE + 1));
    assert!(longest <= MAX_FALSE);
}

#[test]
fn frames_of_extreme_sizes_do_not_panic() {
    let mut tracker = Tracker::builtin().unwrap();
    for (width, height) in
        [(1, 1), (1, 4320), (7680, 1), (2, 3), (23, 23), (25, 24), (24, 7680), (7680, 4320)]
    {
        let rgb: Vec<u8> = (0..width * height).flat_map(|i| [(i * 31 % 251) as u8; 3]).collect();
        let frame = Frame::new(width, height, MediaTime::ZERO, rgb).unwrap();
        let _ = tracker.track(&frame);
    }
}
