//! Writes pictures of the actor and its landmarks in pixels: `cargo run --release -p actor --example stills -- OUT_DIR SIDE FPS SECONDS`.

#![expect(clippy::disallowed_methods, reason = "an example reads arguments and writes files")]

use std::path::PathBuf;

use actor::Actor;
use types::MediaTime;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let out = PathBuf::from(args.next().unwrap_or_else(|| "stills".into()));
    let side: u32 = args.next().map_or(Ok(512), |a| a.parse())?;
    let fps: u32 = args.next().map_or(Ok(1), |a| a.parse())?;
    let seconds: u64 = args.next().map_or(Ok(6), |a| a.parse())?;
    std::fs::create_dir_all(&out)?;
    let actor = Actor::new(7);
    for i in 0..seconds * u64::from(fps) {
        let shown = actor.render(&actor.script(MediaTime::of_frame(i, fps)), side);
        let path = out.join(format!("{i:05}.png"));
        image::save_buffer(path, shown.frame.rgb(), side, side, image::ExtendedColorType::Rgb8)?;
        let lines: Vec<String> = shown
            .landmarks
            .points
            .iter()
            .map(|p| format!("{:.3} {:.3} {:.3}", p[0], p[1], p[2]))
            .collect();
        std::fs::write(out.join(format!("{i:05}.txt")), lines.join("\n"))?;
    }
    Ok(())
}
