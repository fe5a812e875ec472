//! Times frames of the actor on this machine: `cargo run --release -p actor --example speed`.

#![expect(clippy::disallowed_methods, reason = "a stopwatch reads the clock")]

use std::time::Instant;

use actor::Actor;
use types::MediaTime;

fn main() {
    let start = Instant::now();
    let actor = Actor::new(7);
    println!("new: {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
    for side in [128, 256, 512, 1024] {
        let mut times: Vec<f64> = (0..25)
            .map(|i| {
                let start = Instant::now();
                let shown = actor.render(&actor.script(MediaTime::of_frame(i * 7, 25)), side);
                assert_eq!(shown.frame.width(), side);
                start.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!("{side} px: median {:.1} ms, best {:.1} ms", times[12], times[0]);
    }
}
