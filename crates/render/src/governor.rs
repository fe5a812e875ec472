use std::collections::VecDeque;
use std::time::{Duration, Instant};

use face::DEFAULT_SAMPLES;

/// With how much work pictures are drawn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Effort {
    /// Samples a ray.
    pub n_samples: u32,
    /// Side of the picture, pixels; where it is less than what was asked for, it is shown larger.
    pub side: u32,
    /// A picture each so many beats.
    pub beats: u32,
}

/// An effort given up for another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Shift {
    /// Before.
    pub from: Effort,
    /// After.
    pub to: Effort,
}

/// What may be given up, in this order: samples a ray, eighths of the side, beats between pictures.
///
/// Fewer samples are seen least, a smaller picture is soft, fewer pictures a second are seen most.
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
/// What a ray costs besides its samples, in samples: 14 to 36 were measured by 6 and 12 samples,
/// on the CPU and on a software adapter (docs/PERFORMANCE.md).
const RAY: f64 = 20.0;
/// Pictures that take more than this share of the time between them are too much: the rest of the
/// program needs the machine too.
const TOO_MUCH: f64 = 0.85;
/// An effort is raised if pictures would then take less than this share: well under [`TOO_MUCH`],
/// so that it is not given up again at once.
const ROOM: f64 = 0.6;
/// Pictures whose median is judged.
const JUDGED: usize = 9;
/// Fewest pictures to judge by.
const FEWEST: usize = 3;
/// After a shift, times that may still be those of pictures before it.
const STALE: u32 = 3;
/// There must be room for this long before an effort is raised,
const PATIENCE: Duration = Duration::from_secs(2);
/// twice as long after each raised one that had to be given up within this time, but at most
const TRIAL: Duration = Duration::from_secs(10);
/// this.
const MOST_PATIENCE: Duration = Duration::from_mins(1);

/// Keeps pictures in step with the display: draws with less work when they take too long, and with
/// more when there is room again.
///
/// It is told the time and how long pictures take, and decides nothing by chance: the same calls
/// give the same efforts. No picture is drawn more often than the rate it was made with, which
/// spares the battery.
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
///         // Draw `governor.effort()`; here that takes 40 ms.
///         governor.took(now, Duration::from_millis(40));
///     }
/// }
/// assert!(governor.effort().n_samples < face::DEFAULT_SAMPLES);
/// ```
#[derive(Debug)]
pub struct Governor {
    asked: u32,
    beat: Duration,
    level: usize,
    /// At this level, newest last; at most [`JUDGED`].
    took: VecDeque<Duration>,
    n_stale: u32,
    room_since: Option<Instant>,
    patience: Duration,
    raised: Option<Instant>,
    due: Option<Instant>,
}

impl Governor {
    /// For pictures of `side` pixels, at most `max_rate` (at least one) a second.
    pub fn new(side: u32, max_rate: u32) -> Self {
        Self {
            asked: side,
            beat: Duration::from_secs(1) / max_rate.max(1),
            level: 0,
            took: VecDeque::with_capacity(JUDGED),
            n_stale: 0,
            room_since: None,
            patience: PATIENCE,
            raised: None,
            due: None,
        }
    }

    /// What the next picture is drawn with.
    pub fn effort(&self) -> Effort {
        effort(self.asked, self.level)
    }

    /// Time between two pictures at this effort.
    pub fn interval(&self) -> Duration {
        interval(self.beat, self.level)
    }

    /// Asks for pictures of another size. The effort is the first that should fit, judged by how
    /// long pictures have taken so far.
    pub fn set_side(&mut self, side: u32) -> Option<Shift> {
        if side == self.asked {
            return None;
        }
        let from = self.effort();
        let fits = self.median().map(|median| {
            let took = median.as_secs_f64() / cost(from);
            (0..LEVELS.len())
                .find(|&level| {
                    let share =
                        took * cost(effort(side, level)) / interval(self.beat, level).as_secs_f64();
                    share <= TOO_MUCH
                })
                .unwrap_or(LEVELS.len() - 1)
        });
        self.asked = side;
        let to_level = fits.unwrap_or(self.level);
        let is_shift = to_level != self.level;
        self.enter(to_level);
        is_shift.then(|| Shift { from, to: self.effort() })
    }

    /// Whether a picture is due at `now`; if so, it counts as begun.
    pub fn begin(&mut self, now: Instant) -> bool {
        if self.wait(now) > Duration::ZERO {
            return false;
        }
        let interval = self.interval();
        // In step with the beats before, unless one was missed altogether.
        self.due = Some(match self.due {
            Some(due) if due + interval > now => due + interval,
            _ => now + interval,
        });
        true
    }

    /// How long after `now` the next picture is due. A display's beat that comes a little early is
    /// taken, because the one after it would be much too late.
    pub fn wait(&self, now: Instant) -> Duration {
        let early = self.interval() / 4;
        self.due.map_or(Duration::ZERO, |due| due.saturating_duration_since(now + early))
    }

    /// Takes note, at `now`, of how long a recent picture took. Gives back what changed by it.
    pub fn took(&mut self, now: Instant, took: Duration) -> Option<Shift> {
        if self.n_stale > 0 {
            self.n_stale -= 1;
            return None;
        }
        if self.took.len() == JUDGED {
            self.took.pop_front();
        }
        self.took.push_back(took);
        self.end_trial(now);
        let median = self.median()?;
        let from = self.effort();
        if median > self.interval().mul_f64(TOO_MUCH) {
            self.room_since = None;
            if self.level + 1 == LEVELS.len() {
                return None;
            }
            if self.raised.take().is_some() {
                self.patience = (2 * self.patience).min(MOST_PATIENCE);
            }
            self.enter(self.first_to_fit(self.level + 1, median, from));
            return Some(Shift { from, to: self.effort() });
        }
        let level = self.level.checked_sub(1)?;
        let above = effort(self.asked, level);
        if median.mul_f64(cost(above) / cost(from)) > interval(self.beat, level).mul_f64(ROOM) {
            self.room_since = None;
            return None;
        }
        let since = *self.room_since.get_or_insert(now);
        if now.saturating_duration_since(since) < self.patience {
            return None;
        }
        self.enter(level);
        self.raised = Some(now);
        Some(Shift { from, to: above })
    }

    /// The first level from `level` on at which pictures should not take too much, if they take
    /// `median` at the effort `at`.
    fn first_to_fit(&self, level: usize, median: Duration, at: Effort) -> usize {
        let last = LEVELS.len() - 1;
        (level..last)
            .find(|&level| {
                let takes = median.mul_f64(cost(effort(self.asked, level)) / cost(at));
                takes <= interval(self.beat, level).mul_f64(TOO_MUCH)
            })
            .unwrap_or(last)
    }

    /// An effort that was raised and has lasted restores the patience.
    fn end_trial(&mut self, now: Instant) {
        let trial = TRIAL.max(2 * self.patience);
        if self.raised.is_some_and(|raised| now.saturating_duration_since(raised) >= trial) {
            self.patience = PATIENCE;
            self.raised = None;
        }
    }

    fn enter(&mut self, level: usize) {
        self.level = level;
        self.took.clear();
        self.n_stale = STALE;
        self.room_since = None;
    }

    /// Median of the judged pictures, if there are enough.
    fn median(&self) -> Option<Duration> {
        let mut sorted: Vec<_> = self.took.iter().copied().collect();
        sorted.sort_unstable();
        (sorted.len() >= FEWEST).then(|| sorted[sorted.len() / 2])
    }
}

fn effort(asked: u32, level: usize) -> Effort {
    let (n_samples, eighths, beats) = LEVELS[level];
    Effort { n_samples, side: asked * eighths / 8, beats }
}

fn interval(beat: Duration, level: usize) -> Duration {
    beat * LEVELS[level].2
}

/// Work of a picture, in samples.
fn cost(effort: Effort) -> f64 {
    f64::from(effort.side).powi(2) * (f64::from(effort.n_samples) + RAY)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's time has to begin somewhere")]
mod tests {
    use super::*;

    const ASKED: u32 = 512;

    /// A display of 60 beats a second in front of a machine on which a whole picture of
    /// [`ASKED`] pixels takes some milliseconds.
    struct Machine {
        now: Instant,
        governor: Governor,
        n_pictures: u32,
        shifts: Vec<Shift>,
    }

    impl Machine {
        fn new(max_rate: u32) -> Self {
            let governor = Governor::new(ASKED, max_rate);
            Self { now: Instant::now(), governor, n_pictures: 0, shifts: Vec::new() }
        }

        /// Runs for a while; `whole(i)` is how many milliseconds picture `i` would take whole.
        fn run(&mut self, seconds: u64, whole: impl Fn(u32) -> f64) -> &mut Self {
            let end = self.now + Duration::from_secs(seconds);
            let beat = Duration::from_secs(1) / 60;
            while self.now < end {
                if self.governor.begin(self.now) {
                    let share = cost(self.governor.effort()) / cost(effort(ASKED, 0));
                    let ms = whole(self.n_pictures) * share;
                    let took = Duration::from_secs_f64(ms * 1e-3);
                    self.n_pictures += 1;
                    self.shifts.extend(self.governor.took(self.now + took, took));
                    // The next beat of the display after the picture is done.
                    let beats = (took.as_secs_f64() / beat.as_secs_f64()).floor() as u32;
                    self.now += beat * beats;
                }
                self.now += beat;
            }
            self
        }
    }

    #[test]
    fn with_room_nothing_is_given_up() {
        let mut machine = Machine::new(60);
        machine.run(60, |_| 9.0);
        assert_eq!(machine.shifts, []);
        assert!((3590..=3601).contains(&machine.n_pictures), "{}", machine.n_pictures);
    }

    #[test]
    fn samples_go_first_then_size_then_rate() {
        let mut machine = Machine::new(60);
        for whole in [15.0, 15.8, 25.0, 50.0, 100.0, 150.0, 230.0, 1000.0] {
            machine.run(5, |_| whole);
        }
        let efforts: Vec<_> =
            machine.shifts.iter().map(|s| (s.to.n_samples, s.to.side, s.to.beats)).collect();
        let want = [
            (4, 512, 1),
            (3, 512, 1),
            (3, 384, 1),
            (3, 256, 1),
            (3, 256, 2),
            (3, 256, 3),
            (3, 256, 4),
        ];
        assert_eq!(efforts, want, "and then there is nothing more to give");
        let chained = machine.shifts.windows(2).all(|pair| pair[0].to == pair[1].from);
        assert!(chained);
    }

    #[test]
    fn far_too_much_is_given_up_in_one_go() {
        let mut machine = Machine::new(60);
        machine.run(4, |_| 500.0);
        assert_eq!(machine.shifts.len(), 1, "{:?}", machine.shifts);
        assert_eq!(machine.governor.effort(), effort(ASKED, LEVELS.len() - 1));
    }

    #[test]
    fn it_finds_an_effort_that_fits_and_stays_there() {
        // Whole pictures of 25 ms on a beat of 16.7: what 512 pixels take on two cores.
        let mut machine = Machine::new(60);
        machine.run(20, |_| 25.0);
        let found = machine.governor.effort();
        assert_eq!((found.side, found.beats), (384, 1), "{found:?}");
        let (n_shifts, n_pictures) = (machine.shifts.len(), machine.n_pictures);
        machine.run(120, |_| 25.0);
        assert_eq!(machine.shifts.len(), n_shifts, "{:?}", machine.shifts);
        assert!(machine.n_pictures - n_pictures > 119 * 60);
    }

    #[test]
    fn a_machine_that_trembles_does_not_make_it_waver() {
        let noise = |i: u32| f64::from((i.wrapping_mul(2_654_435_761)) >> 16) / 65_536.0;
        for whole in [12.0, 14.0, 16.0, 20.0, 30.0, 45.0] {
            let mut machine = Machine::new(60);
            // Now and then one takes five times as long.
            let ms = |i| whole * (0.8 + 0.4 * noise(i)) * if i % 23 == 0 { 5.0 } else { 1.0 };
            machine.run(20, ms);
            let n_shifts = machine.shifts.len();
            machine.run(300, ms);
            let more = machine.shifts.len() - n_shifts;
            assert!(more <= 6, "{more} shifts in 5 min at {whole} ms: {:?}", machine.shifts);
        }
    }

    #[test]
    fn room_that_comes_back_is_used() {
        let mut machine = Machine::new(60);
        machine.run(10, |_| 60.0);
        assert!(machine.governor.effort().side < ASKED);
        machine.run(20, |_| 6.0);
        assert_eq!(machine.governor.effort(), effort(ASKED, 0));
    }

    #[test]
    fn what_had_to_be_given_up_again_is_tried_more_and_more_rarely() {
        // Room whenever the effort is low, none once it is raised: something else takes turns.
        let mut governor = Governor::new(ASKED, 60);
        let mut now = Instant::now();
        let mut raises = Vec::new();
        for _ in 0..20_000 {
            now += Duration::from_millis(17);
            let ms = if governor.level == 0 { 20 } else { 1 };
            if let Some(shift) = governor.took(now, Duration::from_millis(ms))
                && shift.to.n_samples == DEFAULT_SAMPLES
            {
                raises.push(now);
            }
        }
        let gaps: Vec<_> = raises.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
        assert!(gaps.is_sorted() && gaps.last().is_some_and(|gap| *gap >= 59), "{gaps:?}");
    }

    #[test]
    fn pictures_come_no_faster_than_the_cap() {
        for (max_rate, most) in [(30, 300), (20, 200), (15, 150), (60, 600), (120, 600)] {
            let mut machine = Machine::new(max_rate);
            machine.run(10, |_| 1.0);
            let n = machine.n_pictures;
            assert!((most - 2..=most + 2).contains(&n), "{n} pictures in 10 s at {max_rate}");
        }
    }

    #[test]
    fn it_says_how_long_nothing_is_due() {
        let mut governor = Governor::new(ASKED, 10);
        let now = Instant::now();
        assert_eq!(governor.wait(now), Duration::ZERO);
        assert!(governor.begin(now) && !governor.begin(now));
        // A quarter of the interval early is not too early.
        assert_eq!(governor.wait(now), Duration::from_millis(75));
        assert!(governor.begin(now + Duration::from_millis(75)));
    }

    #[test]
    fn a_larger_picture_starts_with_an_effort_that_fits() {
        let mut machine = Machine::new(60);
        machine.run(1, |_| 7.0);
        let shift = machine.governor.set_side(1024).expect("28 ms are too much");
        assert_eq!(shift.from, effort(512, 0));
        assert_eq!(shift.to, machine.governor.effort());
        let share = cost(shift.to) / cost(shift.from);
        assert!(7.0 * share < 1000.0 / 60.0 && shift.to.side > 512, "{shift:?}");
        assert_eq!(machine.governor.set_side(1024), None);
    }

    #[test]
    fn a_smaller_picture_is_drawn_whole_at_once() {
        let mut machine = Machine::new(60);
        machine.run(20, |_| 30.0);
        assert!(machine.governor.effort().side < ASKED);
        machine.governor.set_side(128);
        assert_eq!(machine.governor.effort(), effort(128, 0));
    }
}
