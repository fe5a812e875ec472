//! Frames of a source in memory, scaled to the training side, with their landmarks.

use std::time::Duration;

use anyhow::{Context, bail};
use capture::{Source, SourceSpec};
use track::Tracker;
use types::{Landmarks, MediaTime, SquareFrame};

use crate::clock::BudgetClock;
use crate::face_search::{Unseen, why_unseen};
use crate::options::EnrollOptions;
use crate::progress::Stage;
use crate::reading_plan::{RUN, ReadingCosts, ReadingPlan, Variety};

/// Memory limit for pictures in bytes.
const MAX_PICTURE_BYTES: usize = 1 << 30;
/// Shortest recording of a face that can be enrolled, in seconds.
const MIN_SECONDS: f32 = 2.0;
/// Largest number of frames that are decoded one after the other.
const MAX_FRAMES: u64 = 20_000;
/// Share of a time limit in which the source is read and tracked.
const READING_SHARE: f32 = 0.25;
/// Places of which the next run takes the one that differs most from what was read, in gaps.
const CANDIDATES: [f64; 3] = [0.5, 1.0, 1.5];

/// Recorded frame with its landmarks.
#[derive(Clone, Debug)]
pub(crate) struct Shot {
    pub(crate) frame: SquareFrame,
    /// Landmarks in pixels of `frame`; `None` if no face was found.
    pub(crate) landmarks: Option<Landmarks>,
}

/// Frames of a source, in order of time.
#[derive(Clone, Debug)]
pub(crate) struct Recording {
    pub(crate) shots: Vec<Shot>,
    /// The parts of the source from which they are.
    pub(crate) runs: Vec<Run>,
    /// Side of every frame in pixels.
    pub(crate) side: u32,
    /// Side of the square middle of the source in pixels.
    pub(crate) source_side: u32,
    /// Frame rate of the source, frames per second.
    pub(crate) fps: u32,
}

impl Recording {
    /// Returns the time from the first frame to the end of the last one, in seconds.
    pub(crate) fn seconds(&self) -> f32 {
        let (Some(first), Some(last)) = (self.shots.first(), self.shots.last()) else { return 0.0 };
        let between = last.frame.time().saturating_since(first.frame.time());
        between.as_secs_f32() + 1.0 / self.fps as f32
    }
}

/// Neighboring frames of a source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Run {
    /// Time of the first frame.
    pub(crate) first: MediaTime,
    pub(crate) n_frames: u64,
}

/// Reads a source and tracks the face frame by frame, as in a call.
///
/// Everything is read if it fits in 1 GiB and, under a time limit, in a quarter of the limit. Of a longer
/// source, runs of about a second are read, which cover it evenly; where the source can be read from any
/// key frame, each is the one of a few that differs most from those before it. An enrollment that is
/// resumed reads the `runs` that it read before.
///
/// # Errors
/// If the source cannot be read, shows a face for less than two seconds or none at all, or the progress
/// callback asks to stop.
pub(crate) fn record(
    options: &EnrollOptions,
    runs: Option<&[Run]>,
    clock: &mut BudgetClock<'_>,
) -> anyhow::Result<Recording> {
    let mut reader = Reader::open(options)?;
    match runs {
        Some(runs) => runs.iter().try_for_each(|run| reader.read_again(*run, clock))?,
        None => reader.read_as_planned(clock)?,
    }
    let Reader { shots, runs, fps, source_side, .. } = reader;
    let recording = Recording { shots, runs, side: options.side, source_side, fps };
    let n_faces = recording.shots.iter().filter(|s| s.landmarks.is_some()).count();
    let seconds = recording.seconds() * n_faces as f32 / recording.shots.len().max(1) as f32;
    if seconds < MIN_SECONDS {
        bail!(no_face(&recording.shots, n_faces, seconds)?);
    }
    Ok(recording)
}

/// A source that is being read.
struct Reader {
    source: Source,
    tracker: Tracker,
    plan: ReadingPlan,
    costs: ReadingCosts,
    variety: Variety,
    side: u32,
    source_side: u32,
    fps: u32,
    /// Frames that were read or left out.
    n_passed: u64,
    /// Frame after which reading ends.
    n_most: u64,
    shots: Vec<Shot>,
    runs: Vec<Run>,
}

impl Reader {
    fn open(options: &EnrollOptions) -> anyhow::Result<Self> {
        let source = Source::open(&options.source)?;
        let fps = source.fps().max(1);
        let is_clip = matches!(options.source, SourceSpec::Clip(_));
        let recorded = (options.record.as_secs_f64() * f64::from(fps)) as u64;
        let n_frames = if is_clip { source.n_frames() } else { Some(recorded) };
        let bytes = (options.side * options.side * 3) as usize;
        Ok(Self {
            source,
            tracker: Tracker::builtin()?,
            plan: ReadingPlan { n_frames, capacity: (MAX_PICTURE_BYTES / bytes) as u64 },
            costs: ReadingCosts::default(),
            variety: Variety::default(),
            side: options.side,
            source_side: 0,
            fps,
            n_passed: 0,
            n_most: n_frames.unwrap_or(MAX_FRAMES),
            shots: Vec::new(),
            runs: Vec::new(),
        })
    }

    fn time_of(&self, frame: u64) -> MediaTime {
        MediaTime::of_frame(frame, self.fps)
    }

    fn next_frame(&mut self) -> anyhow::Result<Option<SquareFrame>> {
        self.source.next_frame().context("reading the source")
    }

    /// Reads as much as time and memory allow.
    fn read_as_planned(&mut self, clock: &mut BudgetClock<'_>) -> anyhow::Result<()> {
        let until = clock.time_limit().map(|limit| limit.mul_f32(READING_SHARE));
        let mut is_new = true;
        while self.read_run(is_new, until, clock)? {
            if self.costs.skipping.1 == 0 && !self.can_enter() {
                self.costs.assume_decoding();
            }
            let left = until.map(|until| until.saturating_sub(clock.elapsed()));
            let gap = if self.source.is_live() {
                left.is_none_or(|left| left > Duration::ZERO).then_some(0)
            } else {
                self.plan.gap(self.n_passed, left, &self.costs)
            };
            let Some(gap) = gap else { break };
            is_new = gap > 0;
            if is_new && !self.skip(gap, until, clock)? {
                break;
            }
        }
        Ok(())
    }

    /// Returns whether the rest of the source has a key frame to continue from.
    fn can_enter(&self) -> bool {
        let entry = self.source.entry_before(self.time_of(self.n_most));
        entry.is_some_and(|entry| entry > self.time_of(self.n_passed))
    }

    /// Reads a run that was read before.
    fn read_again(&mut self, run: Run, clock: &mut BudgetClock<'_>) -> anyhow::Result<()> {
        let last = self.shots.last().map(|shot| shot.frame.time());
        let entry = self.source.entry_before(run.first);
        if let Some(entry) = entry.filter(|entry| last.is_some_and(|last| *entry > last)) {
            self.source.seek(entry);
        }
        let mut n_frames = 0;
        while n_frames < run.n_frames
            && let Some(frame) = self.next_frame()?
        {
            if frame.time() >= run.first {
                self.keep(&frame, n_frames == 0);
                n_frames += 1;
            }
            self.n_passed += 1;
            self.report(None, clock)?;
        }
        Ok(())
    }

    /// Reads and tracks [`RUN`] frames, which begin a new run or continue the last one; returns whether
    /// there may be more.
    fn read_run(
        &mut self,
        is_new: bool,
        until: Option<Duration>,
        clock: &mut BudgetClock<'_>,
    ) -> anyhow::Result<bool> {
        let begun = clock.elapsed();
        let n_before = self.shots.len();
        while self.shots.len() < n_before + RUN as usize
            && self.n_passed < self.n_most
            && let Some(frame) = self.next_frame()?
        {
            self.n_passed += 1;
            self.keep(&frame, is_new && self.shots.len() == n_before);
            self.report(until, clock)?;
        }
        let run = &self.shots[n_before..];
        if let Some(landmarks) = run.iter().find_map(|shot| shot.landmarks.as_ref()) {
            self.variety.add(landmarks);
        }
        let (time, n) = self.costs.tracking;
        let spent = clock.elapsed().saturating_sub(begun);
        self.costs.tracking = (time + spent, n + run.len() as u64);
        Ok(run.len() as u64 == RUN)
    }

    /// Tracks a frame and keeps it. The landmarks of a run depend only on its frames, so that they are
    /// the same when it is read again.
    fn keep(&mut self, frame: &SquareFrame, is_first: bool) {
        if is_first {
            self.tracker.reset();
            self.runs.push(Run { first: frame.time(), n_frames: 0 });
        }
        if let Some(run) = self.runs.last_mut() {
            run.n_frames += 1;
        }
        self.source_side = frame.side();
        let scale = self.side as f32 / frame.side() as f32;
        let landmarks = self.tracker.track(frame).map(|l| l.scaled(scale));
        self.shots.push(Shot { frame: frame.resized_area(self.side), landmarks });
    }

    /// Leaves out about `gap` frames; returns whether there may be more.
    fn skip(
        &mut self,
        gap: u64,
        until: Option<Duration>,
        clock: &mut BudgetClock<'_>,
    ) -> anyhow::Result<bool> {
        let begun = clock.elapsed();
        let n_before = self.n_passed;
        let is_more = if let Some(entry) = self.choose_entry(gap)? {
            self.source.seek(entry);
            let frame = (entry.as_secs_f64() * f64::from(self.fps)).round() as u64;
            self.n_passed = frame.max(self.n_passed);
            true
        } else {
            self.pass(gap, until, clock)?
        };
        let (time, n) = self.costs.skipping;
        let spent = clock.elapsed().saturating_sub(begun);
        self.costs.skipping = (time + spent, n + self.n_passed - n_before);
        Ok(is_more)
    }

    /// Decodes frames without tracking them; returns whether there may be more.
    fn pass(
        &mut self,
        n_frames: u64,
        until: Option<Duration>,
        clock: &mut BudgetClock<'_>,
    ) -> anyhow::Result<bool> {
        for _ in 0..n_frames {
            let is_late = until.is_some_and(|until| clock.elapsed() >= until);
            if is_late
                || self.n_passed >= self.n_most.min(MAX_FRAMES)
                || self.next_frame()?.is_none()
            {
                return Ok(false);
            }
            self.n_passed += 1;
            self.report(until, clock)?;
        }
        Ok(true)
    }

    /// Returns the key frame to continue from, about `gap` frames ahead: that of a few whose face differs
    /// most from the faces read before. `None` if there is none ahead.
    fn choose_entry(&mut self, gap: u64) -> anyhow::Result<Option<MediaTime>> {
        let last = self.n_most.saturating_sub(RUN);
        let mut entries: Vec<MediaTime> = Vec::new();
        for share in CANDIDATES {
            let frame = (self.n_passed + (share * gap as f64) as u64).min(last);
            let entry = self.source.entry_before(self.time_of(frame));
            let is_ahead = |entry: &MediaTime| *entry > self.time_of(self.n_passed);
            entries.extend(entry.filter(is_ahead).filter(|entry| !entries.contains(entry)));
        }
        let mut best: Option<(f32, MediaTime)> = None;
        for &entry in &entries {
            let mut novelty = 0.0;
            if entries.len() > 1 {
                self.source.seek(entry);
                let face = self.next_frame()?.and_then(|frame| self.tracker.track(&frame));
                novelty = face.map_or(0.0, |face| self.variety.novelty(&face));
            }
            if best.is_none_or(|(most, _)| novelty > most) {
                best = Some((novelty, entry));
            }
        }
        Ok(best.map(|(_, entry)| entry))
    }

    /// Reports how far the reading has come: by time, or by frames.
    fn report(&self, until: Option<Duration>, clock: &mut BudgetClock<'_>) -> anyhow::Result<()> {
        let share = match (until, self.plan.n_frames) {
            (_, Some(n)) => self.n_passed as f32 / n.max(1) as f32,
            (Some(until), None) => clock.elapsed().as_secs_f32() / until.as_secs_f32().max(1e-3),
            (None, None) => self.n_passed as f32 / MAX_FRAMES as f32,
        };
        clock.report(Stage::Tracking, share, self.shots.len() as u64, None)
    }
}

/// Returns why this is no recording of a face, which is visible in `n_faces` frames, for `seconds`.
fn no_face(shots: &[Shot], n_faces: usize, seconds: f32) -> anyhow::Result<String> {
    let n = shots.len();
    let frames: Vec<&SquareFrame> = shots.iter().map(|shot| &shot.frame).collect();
    let ask = "face the camera, with light from the front";
    Ok(match why_unseen(&frames)? {
        Unseen::Turned(turn) => format!(
            "no upright face was found in {n} frames, but one that lies or is upside down: turn the clip {}",
            turn.words()
        ),
        _ if n_faces > 0 => format!(
            "a face was visible for only {seconds:.1} s; at least {MIN_SECONDS:.0} s are needed"
        ),
        Unseen::Dark => format!("no face was found in {n} frames, which are almost black; {ask}"),
        Unseen::Unknown => {
            format!("no face was found in the middle square of {n} frames; {ask}")
        }
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::options::Budget;
    use crate::progress::EnrollmentProgress;

    fn options(seconds: u64) -> EnrollOptions {
        let record = Duration::from_secs(seconds);
        EnrollOptions {
            side: 64,
            record,
            ..EnrollOptions::new(SourceSpec::Actor, "me.face".into())
        }
    }

    #[test]
    fn ten_minutes_are_read_from_end_to_end_within_a_quarter_of_twenty_seconds() {
        let now = Cell::new(Duration::ZERO);
        // The clock advances whenever it is looked at, which is at least once a frame.
        let time = || {
            now.set(now.get() + Duration::from_millis(50));
            now.get()
        };
        let mut ignore = |_: &EnrollmentProgress| true;
        let budget = Budget::Time(Duration::from_secs(20));
        let mut clock = BudgetClock::with_time(budget, &mut ignore, time);
        let recording = record(&options(600), None, &mut clock).unwrap();
        assert!(now.get() < Duration::from_secs(7), "{:?}", now.get());
        assert!(recording.shots.len() >= 2 * RUN as usize, "{}", recording.shots.len());
        let starts: Vec<f64> = recording.runs.iter().map(|run| run.first.as_secs_f64()).collect();
        assert!(*starts.last().unwrap() > 300.0, "{starts:?}");
        assert!(starts.is_sorted(), "{starts:?}");
    }

    #[test]
    fn a_resumed_enrollment_reads_the_same_frames() {
        let mut ignore = |_: &EnrollmentProgress| true;
        let mut clock = BudgetClock::new(Budget::Steps(1), &mut ignore);
        let runs = [(0, 10), (40, 25), (100, 30)]
            .map(|(first, n_frames)| Run { first: MediaTime::of_frame(first, 25), n_frames });
        let recording = record(&options(60), Some(&runs), &mut clock).unwrap();
        assert_eq!(recording.runs, runs);
        let again = record(&options(60), Some(&recording.runs), &mut clock).unwrap();
        let landmarks =
            |r: &Recording| r.shots.iter().map(|s| s.landmarks.clone()).collect::<Vec<_>>();
        assert_eq!(landmarks(&recording), landmarks(&again));
        assert_eq!(recording.shots[10].frame.time(), MediaTime::of_frame(40, 25));
    }
}
