//! Draws the image of docs/TRACKER.md that shows the limits of the tracker on the actor.
//!
//! `cargo run --release -p track --example tracker_limits -- docs/images/tracker.jpg`
//!
//! A dot is a landmark; green ones are expected to be off by less than 1 % of the distance of the
//! outer eye corners, red ones by 6 % and more.

#![expect(clippy::disallowed_methods, reason = "an example reads its arguments")]

use std::error::Error;

use actor::{Actor, Performance};
use glam::{EulerRot, Quat, Vec3};
use image::{ImageFormat, RgbImage};
use track::Tracker;
use types::{HeadPose, MediaTime, SquareFrame};

const SIDE: u32 = 300;

/// What is shown, from left to right: turn to the side, nod, and whether a hand-sized bar covers
/// the mouth.
const CASES: [(f32, f32, bool); 5] = [
    (0.0, 0.0, false),
    (40.0, 0.0, false),
    (70.0, 0.0, false),
    (0.0, 35.0, false),
    (0.0, 0.0, true),
];

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: tracker_limits OUT.jpg")?;
    let actor = Actor::new(7);
    let rest = actor.script(MediaTime::from_micros(1_500_000));
    let mut strip = RgbImage::new(SIDE * CASES.len() as u32, SIDE);
    for (column, (yaw, pitch, covered)) in (0..).zip(CASES) {
        let turn = Quat::from_euler(EulerRot::YXZ, yaw.to_radians(), pitch.to_radians(), 0.0);
        // Nearer than the script has it.
        let place = Vec3::new(0.0, 0.0, 1.1);
        let pose = HeadPose::new(turn.to_scaled_axis(), place)?;
        let shown = actor.render(&Performance { pose, ..rest.clone() }, SIDE);
        let frame = if covered { with_bar(&shown.frame)? } else { shown.frame };
        let found = Tracker::builtin()?.track(&frame);
        for (y, line) in (0..).zip(frame.rgb().chunks_exact(3 * SIDE as usize)) {
            for (x, rgb) in (column * SIDE..).zip(line.as_chunks::<3>().0) {
                strip.put_pixel(x, y, image::Rgb(*rgb));
            }
        }
        let Some(found) = found else {
            println!("yaw {yaw}, pitch {pitch}, covered {covered}: no face");
            continue;
        };
        println!("yaw {yaw}, pitch {pitch}, covered {covered}: {:.2} sure", found.confidence);
        let eyes = 0.33 * SIDE as f32;
        for ([x, y, _], spread) in found.points.iter().zip(&found.spread) {
            let bad = ((spread / eyes - 0.01) / 0.05).clamp(0.0, 1.0);
            let color = [(255.0 * bad) as u8, (255.0 * (1.0 - bad)) as u8, 60];
            // Two pixels square, so that it is seen.
            for (dx, dy) in [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)] {
                let (x, y) = (x + dx - 0.5, y + dy - 0.5);
                let inside = 0.0..SIDE as f32;
                if inside.contains(&x) && inside.contains(&y) {
                    strip.put_pixel(column * SIDE + x as u32, y as u32, image::Rgb(color));
                }
            }
        }
    }
    strip.save_with_format(path, ImageFormat::Jpeg)?;
    Ok(())
}

/// Covers the mouth with a skin-colored bar.
fn with_bar(frame: &SquareFrame) -> Result<SquareFrame, Box<dyn Error>> {
    let mut rgb = frame.rgb().to_vec();
    for (i, pixel) in rgb.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let (x, y) = (i as f32 % SIDE as f32 / SIDE as f32, (i as u32 / SIDE) as f32 / SIDE as f32);
        if (0.3..0.75).contains(&x) && (0.58..0.76).contains(&y) {
            *pixel = [196, 150, 125];
        }
    }
    Ok(SquareFrame::new(frame.side(), frame.time(), rgb)?)
}
