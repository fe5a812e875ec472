//! Quality governor: keeps rendering in step with the display.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use face::DEFAULT_SAMPLES;

/// Render settings of an image: samples, size and interval.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RenderSettings {
    /// Samples on a ray.
    pub n_samples: u32,
    /// Side of the image, pixels. If it is less than the side asked for, the image is shown
    /// enlarged.
    pub side: u32,
    /// Time between images, as a multiple of the shortest: `2` renders half as many images a second
    /// as the maximum rate allows.
    pub refreshes: u32,
}

/// Change from one set of render settings to another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QualityStep {
    /// Settings before the change.
    pub from: RenderSettings,
    /// Settings after the change.
    pub to: RenderSettings,
}

/// Quality levels, best first: samples on a ray, eighths of the side, refresh intervals between
/// images.
///
/// Fewer samples are the least visible, a smaller image is soft, and fewer images a second are the
/// most visible.
const LEVELS: [(u32, u32, u32); 8] = [
    (DEFAULT_SAMPLES, 8, 1),
    (4, 8, 1),
    (3, 8, 1),
    (3, 6, 1),
    (3, 4, 1),
    (3, 4, 2),
    (3, 4, 3),
    (3, 4, 4),
];
/// Cost of a ray beside its samples, in samples. Comparing 6 with 12 samples gave 14 to 36, on the
/// CPU and on a software adapter (docs/PERFORMANCE.md).
const RAY_COST: f64 = 20.0;
/// Quality is lowered when rendering takes a larger share of the interval than this: the rest of
/// the program needs the machine, too.
const MAX_LOAD: f64 = 0.85;
/// Quality is raised when rendering would then take a smaller share than this, far enough below
/// [`MAX_LOAD`] that it is not lowered again at once.
const RAISE_LOAD: f64 = 0.6;
/// Number of render times of which the median is taken.
const WINDOW: usize = 9;
/// Smallest number of render times that is judged.
const MIN_WINDOW: usize = 3;
/// Number of render times after a change that may still belong to images before it.
const STALE: u32 = 3;
/// Quality is raised after there has been room for this long.
const MIN_PATIENCE: Duration = Duration::from_secs(2);
/// The patience doubles, up to this, each time a raise has to be taken back.
const MAX_PATIENCE: Duration = Duration::from_mins(1);
/// A raise that lasts this long, and twice the patience, resets the patience.
const MIN_TRIAL: Duration = Duration::from_secs(10);

/// Quality governor: chooses samples, size and interval of images so that rendering keeps up with
/// the display.
///
/// Lowers the quality when images take too long to render and raises it when there is room again.
/// It is given the time and is deterministic: the same calls give the same settings. Images are
/// never rendered more often than the maximum rate, which saves power.
///
/// # Examples
/// ```
/// use std::time::{Duration, Instant};
///
/// let mut governor = render::Governor::new(512, 60);
/// let mut now = Instant::now();
/// for _ in 0..30 {
///     now += Duration::from_millis(50);
///     if governor.begin(now) {
///         // Render with `governor.settings()`; here that takes 40 ms.
///         governor.record(now, Duration::from_millis(40));
///     }
/// }
/// assert!(governor.settings().n_samples < face::DEFAULT_SAMPLES);
/// ```
#[derive(Debug)]
pub struct Governor {
    /// Side asked for, pixels.
    side: u32,
    refresh_interval: Duration,
    /// Index into [`LEVELS`].
    level: usize,
    /// Render times at this level, newest last; at most [`WINDOW`].
    times: VecDeque<Duration>,
    n_stale: u32,
    room_since: Option<Instant>,
    patience: Duration,
    raised_at: Option<Instant>,
    due: Option<Instant>,
}

impl Governor {
    /// Returns a governor for images of `side` x `side` pixels that starts with the best quality.
    ///
    /// The lowest quality halves the side, so `side` should be at least twice
    /// [`MIN_SIDE`](crate::MIN_SIDE).
    ///
    /// At most `max_rate` images are due in a second; 0 counts as 1.
    pub fn new(side: u32, max_rate: u32) -> Self {
        Self {
            side,
            refresh_interval: Duration::from_secs(1) / max_rate.max(1),
            level: 0,
            times: VecDeque::with_capacity(WINDOW),
            n_stale: 0,
            room_since: None,
            patience: MIN_PATIENCE,
            raised_at: None,
            due: None,
        }
    }

    /// Returns the settings of the next image.
    pub fn settings(&self) -> RenderSettings {
        settings(self.side, self.level)
    }

    /// Returns the time between two images at these settings.
    pub fn interval(&self) -> Duration {
        interval(self.refresh_interval, self.level)
    }

    /// Changes the side asked for, and predicts from the recent render times the best quality that
    /// keeps up at the new size; without at least three recent times the quality stays. Returns the
    /// change of quality, if any.
    pub fn set_side(&mut self, side: u32) -> Option<QualityStep> {
        if side == self.side {
            return None;
        }
        let from = self.settings();
        let fits = self.median().map(|median| {
            let unit = median.as_secs_f64() / cost(from);
            (0..LEVELS.len())
                .find(|&level| {
                    let load = unit * cost(settings(side, level))
                        / interval(self.refresh_interval, level).as_secs_f64();
                    load <= MAX_LOAD
                })
                .unwrap_or(LEVELS.len() - 1)
        });
        self.side = side;
        let to_level = fits.unwrap_or(self.level);
        let is_step = to_level != self.level;
        self.enter(to_level);
        is_step.then(|| QualityStep { from, to: self.settings() })
    }

    /// Returns whether an image is due at `now`, and if so schedules the next one.
    pub fn begin(&mut self, now: Instant) -> bool {
        if self.time_until_due(now) > Duration::ZERO {
            return false;
        }
        let interval = self.interval();
        // Stays in phase with the images before, unless one was missed altogether.
        self.due = Some(match self.due {
            Some(due) if due + interval > now => due + interval,
            _ => now + interval,
        });
        true
    }

    /// Returns how long after `now` the next image is due. It is due up to a quarter of an
    /// [interval](Self::interval) ahead of schedule: a refresh of the display may come slightly
    /// early, and the one after it would be much too late.
    pub fn time_until_due(&self, now: Instant) -> Duration {
        let early = self.interval() / 4;
        self.due.map_or(Duration::ZERO, |due| due.saturating_duration_since(now + early))
    }

    /// Records, at `now`, how long a recent image took to render. May change the quality, and then
    /// returns the change.
    pub fn record(&mut self, now: Instant, render_time: Duration) -> Option<QualityStep> {
        if self.n_stale > 0 {
            self.n_stale -= 1;
            return None;
        }
        if self.times.len() == WINDOW {
            self.times.pop_front();
        }
        self.times.push_back(render_time);
        self.end_trial(now);
        let median = self.median()?;
        let from = self.settings();
        if median > self.interval().mul_f64(MAX_LOAD) {
            self.room_since = None;
            if self.level + 1 == LEVELS.len() {
                return None;
            }
            if self.raised_at.take().is_some() {
                self.patience = (2 * self.patience).min(MAX_PATIENCE);
            }
            self.enter(self.first_to_fit(self.level + 1, median, from));
            return Some(QualityStep { from, to: self.settings() });
        }
        let level = self.level.checked_sub(1)?;
        let above = settings(self.side, level);
        let limit = interval(self.refresh_interval, level).mul_f64(RAISE_LOAD);
        if median.mul_f64(cost(above) / cost(from)) > limit {
            self.room_since = None;
            return None;
        }
        let since = *self.room_since.get_or_insert(now);
        if now.saturating_duration_since(since) < self.patience {
            return None;
        }
        self.enter(level);
        self.raised_at = Some(now);
        Some(QualityStep { from, to: above })
    }

    /// Returns the first level from `level` on that should keep up, if images with settings `at`
    /// take `median`.
    fn first_to_fit(&self, level: usize, median: Duration, at: RenderSettings) -> usize {
        let last = LEVELS.len() - 1;
        (level..last)
            .find(|&level| {
                let time = median.mul_f64(cost(settings(self.side, level)) / cost(at));
                time <= interval(self.refresh_interval, level).mul_f64(MAX_LOAD)
            })
            .unwrap_or(last)
    }

    /// Resets the patience when the last raise has lasted.
    fn end_trial(&mut self, now: Instant) {
        let trial = MIN_TRIAL.max(2 * self.patience);
        if self.raised_at.is_some_and(|raised| now.saturating_duration_since(raised) >= trial) {
            self.patience = MIN_PATIENCE;
            self.raised_at = None;
        }
    }

    fn enter(&mut self, level: usize) {
        self.level = level;
        self.times.clear();
        self.n_stale = STALE;
        self.room_since = None;
    }

    /// Returns the median render time, if there are enough.
    fn median(&self) -> Option<Duration> {
        let mut sorted: Vec<_> = self.times.iter().copied().collect();
        sorted.sort_unstable();
        (sorted.len() >= MIN_WINDOW).then(|| sorted[sorted.len() / 2])
    }
}

fn settings(side: u32, level: usize) -> RenderSettings {
    let (n_samples, eighths, refreshes) = LEVELS[level];
    RenderSettings { n_samples, side: side * eighths / 8, refreshes }
}

fn interval(refresh_interval: Duration, level: usize) -> Duration {
    refresh_interval * LEVELS[level].2
}

/// Returns the work of an image, in samples.
fn cost(settings: RenderSettings) -> f64 {
    f64::from(settings.side).powi(2) * (f64::from(settings.n_samples) + RAY_COST)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the virtual clock of a test starts at some instant")]
mod tests {
    use super::*;

    const SIDE: u32 = 512;

    /// A simulated display that refreshes 60 times a second, and a machine that renders for it.
    struct Machine {
        now: Instant,
        governor: Governor,
        n_images: u32,
        steps: Vec<QualityStep>,
    }

    impl Machine {
        fn new(max_rate: u32) -> Self {
            let governor = Governor::new(SIDE, max_rate);
            Self { now: Instant::now(), governor, n_images: 0, steps: Vec::new() }
        }

        /// Runs for some seconds; image `i` takes `full_ms(i)` milliseconds at full quality.
        fn run(&mut self, seconds: u64, full_ms: impl Fn(u32) -> f64) -> &mut Self {
            let end = self.now + Duration::from_secs(seconds);
            let refresh = Duration::from_secs(1) / 60;
            while self.now < end {
                if self.governor.begin(self.now) {
                    let share = cost(self.governor.settings()) / cost(settings(SIDE, 0));
                    let ms = full_ms(self.n_images) * share;
                    let time = Duration::from_secs_f64(ms * 1e-3);
                    self.n_images += 1;
                    self.steps.extend(self.governor.record(self.now + time, time));
                    // The next refresh after the image is done.
                    let refreshes = (time.as_secs_f64() / refresh.as_secs_f64()).floor() as u32;
                    self.now += refresh * refreshes;
                }
                self.now += refresh;
            }
            self
        }
    }

    #[test]
    fn a_fast_machine_keeps_full_quality() {
        let mut machine = Machine::new(60);
        machine.run(60, |_| 9.0);
        assert_eq!(machine.steps, []);
        assert!((3590..=3601).contains(&machine.n_images), "{}", machine.n_images);
    }

    #[test]
    fn quality_falls_in_samples_then_size_then_rate() {
        let mut machine = Machine::new(60);
        for full_ms in [15.0, 15.8, 25.0, 50.0, 100.0, 150.0, 230.0, 1000.0] {
            machine.run(5, |_| full_ms);
        }
        let settings: Vec<_> =
            machine.steps.iter().map(|s| (s.to.n_samples, s.to.side, s.to.refreshes)).collect();
        let want = [
            (4, 512, 1),
            (3, 512, 1),
            (3, 384, 1),
            (3, 256, 1),
            (3, 256, 2),
            (3, 256, 3),
            (3, 256, 4),
        ];
        assert_eq!(settings, want, "and then the lowest quality stays");
        let chained = machine.steps.windows(2).all(|pair| pair[0].to == pair[1].from);
        assert!(chained);
    }

    #[test]
    fn a_much_too_slow_machine_drops_to_the_lowest_quality_in_one_step() {
        let mut machine = Machine::new(60);
        machine.run(4, |_| 500.0);
        assert_eq!(machine.steps.len(), 1, "{:?}", machine.steps);
        assert_eq!(machine.governor.settings(), settings(SIDE, LEVELS.len() - 1));
    }

    #[test]
    fn it_finds_settings_that_keep_up_and_stays_there() {
        // 25 ms at full quality with a refresh interval of 16.7 ms: 512 pixels on two cores.
        let mut machine = Machine::new(60);
        machine.run(20, |_| 25.0);
        let found = machine.governor.settings();
        assert_eq!((found.side, found.refreshes), (384, 1), "{found:?}");
        let (n_steps, n_images) = (machine.steps.len(), machine.n_images);
        machine.run(120, |_| 25.0);
        assert_eq!(machine.steps.len(), n_steps, "{:?}", machine.steps);
        assert!(machine.n_images - n_images > 119 * 60);
    }

    #[test]
    fn jittery_render_times_do_not_make_it_oscillate() {
        let noise = |i: u32| f64::from((i.wrapping_mul(2_654_435_761)) >> 16) / 65_536.0;
        for full_ms in [12.0, 14.0, 16.0, 20.0, 30.0, 45.0] {
            let mut machine = Machine::new(60);
            // Every 23rd image takes five times as long.
            let ms = |i| full_ms * (0.8 + 0.4 * noise(i)) * if i % 23 == 0 { 5.0 } else { 1.0 };
            machine.run(20, ms);
            let n_steps = machine.steps.len();
            machine.run(300, ms);
            let more = machine.steps.len() - n_steps;
            assert!(more <= 6, "{more} steps in 5 min at {full_ms} ms: {:?}", machine.steps);
        }
    }

    #[test]
    fn quality_returns_when_there_is_room() {
        let mut machine = Machine::new(60);
        machine.run(10, |_| 60.0);
        assert!(machine.governor.settings().side < SIDE);
        machine.run(20, |_| 6.0);
        assert_eq!(machine.governor.settings(), settings(SIDE, 0));
    }

    #[test]
    fn a_raise_that_fails_is_tried_less_and_less_often() {
        // There is room at low quality and none at full quality.
        let mut governor = Governor::new(SIDE, 60);
        let mut now = Instant::now();
        let mut raises = Vec::new();
        for _ in 0..20_000 {
            now += Duration::from_millis(17);
            let ms = if governor.level == 0 { 20 } else { 1 };
            if let Some(step) = governor.record(now, Duration::from_millis(ms))
                && step.to.n_samples == DEFAULT_SAMPLES
            {
                raises.push(now);
            }
        }
        let gaps: Vec<_> = raises.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
        assert!(gaps.is_sorted() && gaps.last().is_some_and(|gap| *gap >= 59), "{gaps:?}");
    }

    #[test]
    fn images_come_no_faster_than_the_maximum_rate() {
        for (max_rate, most) in [(30, 300), (20, 200), (15, 150), (60, 600), (120, 600)] {
            let mut machine = Machine::new(max_rate);
            machine.run(10, |_| 1.0);
            let n = machine.n_images;
            assert!((most - 2..=most + 2).contains(&n), "{n} images in 10 s at {max_rate}");
        }
    }

    #[test]
    fn it_returns_the_time_until_an_image_is_due() {
        let mut governor = Governor::new(SIDE, 10);
        let now = Instant::now();
        assert_eq!(governor.time_until_due(now), Duration::ZERO);
        assert!(governor.begin(now) && !governor.begin(now));
        // A quarter of the interval early is not too early.
        assert_eq!(governor.time_until_due(now), Duration::from_millis(75));
        assert!(governor.begin(now + Duration::from_millis(75)));
    }

    #[test]
    fn a_larger_image_starts_with_settings_that_keep_up() {
        let mut machine = Machine::new(60);
        machine.run(1, |_| 7.0);
        let step = machine.governor.set_side(1024).expect("28 ms are too long");
        assert_eq!(step.from, settings(512, 0));
        assert_eq!(step.to, machine.governor.settings());
        let share = cost(step.to) / cost(step.from);
        assert!(7.0 * share < 1000.0 / 60.0 && step.to.side > 512, "{step:?}");
        assert_eq!(machine.governor.set_side(1024), None);
    }

    #[test]
    fn a_smaller_image_is_rendered_at_full_quality_at_once() {
        let mut machine = Machine::new(60);
        machine.run(20, |_| 30.0);
        assert!(machine.governor.settings().side < SIDE);
        machine.governor.set_side(128);
        assert_eq!(machine.governor.settings(), settings(128, 0));
    }
}
