//! Sources in real time.

#![expect(clippy::disallowed_methods, reason = "this module paces sources by the wall clock")]

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use types::{MediaTime, Sound, SquareFrame};

use crate::errors::ReadError;
use crate::source::{Source, SourceSound};

/// Frames decoded ahead, to hide short delays of decoding.
const N_AHEAD: usize = 24;
/// Frames held for a late reader; when another becomes due, the oldest is dropped.
const MAX_FRAMES: usize = 2;
/// Sounds held for a late reader: one second. When another becomes due, the oldest is dropped.
const MAX_SOUNDS: usize = 50;

/// Source paced by the wall clock: each frame becomes available when its media time is due.
///
/// Two threads serve the frames: one decodes ahead, the other waits for due times. At most two due frames
/// are held: a reader that is one frame late can catch up, and when a third frame becomes due, the
/// oldest is dropped. The first frame of a clip or of the actor is due as soon as it is decoded,
/// and the others by their media time after it. The frames of a camera are due when they arrive.
///
/// A third thread reads the sound and releases it at its own time, so that sound is in time on a machine that
/// is too slow for the frames: people bear a face that jerks more easily than a voice that does.
///
/// ```no_run
/// # use capture::{Paced, Source, SourceSpec}; use std::time::Duration;
/// # fn watch() -> Result<(), capture::OpenError> {
/// let mut paced = Paced::start(Source::open(&SourceSpec::Actor)?);
/// while let Some(frame) = paced.next(Duration::from_millis(200)) {
///     println!("{:?}", frame.time());
/// }
/// # Ok(()) }
/// ```
pub struct Paced {
    shared: Arc<Handoff>,
    fps: u32,
    waiters: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Handoff {
    state: Mutex<HandoffState>,
    changed: Condvar,
}

#[derive(Default)]
struct HandoffState {
    frames: VecDeque<SquareFrame>,
    sounds: VecDeque<Sound>,
    error: Option<ReadError>,
    /// When the first frame was due, and its media time.
    start: Option<(Instant, MediaTime)>,
    /// Media time after the newest frame that was released.
    end: MediaTime,
    ended: bool,
    sound_ended: bool,
    stopped: bool,
}

impl Handoff {
    fn lock(&self) -> MutexGuard<'_, HandoffState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the media time that is due now; `None` before the first frame.
    fn media_time(&self) -> Option<MediaTime> {
        let start = self.lock().start;
        start.map(|(zero, first)| first + zero.elapsed())
    }

    /// Waits until `due`, or until the source is stopped.
    fn wait_until<'a>(
        &'a self,
        mut state: MutexGuard<'a, HandoffState>,
        due: Instant,
    ) -> MutexGuard<'a, HandoffState> {
        while !state.stopped {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }
}

/// What the decoding thread reads: a frame, or why there are no more.
type Decoded = Result<SquareFrame, ReadError>;

impl Paced {
    /// Starts the source now.
    pub fn start(mut source: Source) -> Self {
        let fps = source.fps();
        let is_live = source.is_live();
        let sound = source.take_sound();
        let shared = Arc::new(Handoff::default());
        shared.lock().sound_ended = sound.is_none();
        let (sender, receiver) = sync_channel(if is_live { 1 } else { N_AHEAD });
        // Not joined: it may be blocked in a camera's driver. It ends at its next frame.
        thread::spawn({
            let shared = Arc::clone(&shared);
            move || decode(source, &shared, &sender)
        });
        let step = Duration::from_secs(1) / fps.max(1);
        let mut waiters = vec![thread::spawn({
            let shared = Arc::clone(&shared);
            move || release_frames(&receiver, &shared, step, is_live)
        })];
        if let Some(sound) = sound {
            let shared = Arc::clone(&shared);
            waiters.push(thread::spawn(move || release_sounds(sound, &shared)));
        }
        Self { shared, fps, waiters }
    }

    /// Returns the frame rate of the source, frames per second.
    pub fn fps(&self) -> u32 {
        self.fps
    }

    /// Returns the oldest due frame, waiting up to `timeout` for one; `None` if none became due in
    /// that time, or the source has ended and all its frames were returned.
    pub fn next(&mut self, timeout: Duration) -> Option<SquareFrame> {
        let state = self.shared.lock();
        let (mut state, _) = self
            .shared
            .changed
            .wait_timeout_while(state, timeout, |s| s.frames.is_empty() && !s.ended)
            .unwrap_or_else(PoisonError::into_inner);
        state.frames.pop_front()
    }

    /// Returns the sound of the source, for another thread than that of the frames.
    pub fn sounds(&self) -> PacedSounds {
        PacedSounds { shared: Arc::clone(&self.shared) }
    }

    /// Returns whether the source has ended and its last frame was read.
    pub fn ended(&self) -> bool {
        let state = self.shared.lock();
        state.ended && state.frames.is_empty()
    }

    /// Returns whether another frame is due already, which means that the reader is late.
    pub fn is_late(&self) -> bool {
        !self.shared.lock().frames.is_empty()
    }

    /// Returns the error that ended the source, if there was one; only the first call returns it.
    pub fn take_error(&mut self) -> Option<ReadError> {
        self.shared.lock().error.take()
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_all();
        for waiter in self.waiters.drain(..) {
            let _ = waiter.join();
        }
    }
}

/// Sound of a [`Paced`] source.
pub struct PacedSounds {
    shared: Arc<Handoff>,
}

impl PacedSounds {
    /// Waits for sound and returns what became due since the last call, in order; `None` after the end, and
    /// once the [`Paced`] was dropped. If more than one second became due, only the last second is returned.
    pub fn wait(&mut self) -> Option<Vec<Sound>> {
        let state = self.shared.lock();
        let waits = |s: &mut HandoffState| s.sounds.is_empty() && !s.sound_ended && !s.stopped;
        let mut state =
            self.shared.changed.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner);
        let sounds: Vec<Sound> = state.sounds.drain(..).collect();
        (!sounds.is_empty() && !state.stopped).then_some(sounds)
    }
}

/// Reads ahead until the source ends or the receiver is gone. Frames that are overdue are not even made, if
/// the source can do without.
fn decode(mut source: Source, shared: &Handoff, out: &SyncSender<Decoded>) {
    loop {
        if let Some(now) = shared.media_time() {
            source.skip_to(now);
        }
        let Some(decoded) = source.next_frame().transpose() else { return };
        let is_error = decoded.is_err();
        if out.send(decoded).is_err() || is_error {
            return;
        }
    }
}

/// Releases each frame when it is due, until the source ends or the [`Paced`] is dropped.
fn release_frames(items: &Receiver<Decoded>, shared: &Handoff, step: Duration, is_live: bool) {
    loop {
        let item = match items.recv_timeout(Duration::from_millis(50)) {
            Ok(item) => item,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if shared.lock().stopped => break,
            Err(RecvTimeoutError::Timeout) => continue,
        };
        let mut state = shared.lock();
        match item {
            Ok(frame) => {
                let (zero, first) =
                    *state.start.get_or_insert_with(|| (Instant::now(), frame.time()));
                if !is_live {
                    state = shared.wait_until(state, zero + frame.time().saturating_since(first));
                }
                if state.stopped {
                    break;
                }
                if state.frames.len() == MAX_FRAMES {
                    state.frames.pop_front();
                }
                state.end = frame.time() + step;
                state.frames.push_back(frame);
            }
            Err(error) => state.error = Some(error),
        }
        drop(state);
        shared.changed.notify_all();
    }
    shared.lock().ended = true;
    shared.changed.notify_all();
}

/// Releases each sound when it is due. Sound ends with the frames.
fn release_sounds(mut source: SourceSound, shared: &Handoff) {
    while let Ok(Some(sound)) = source.next() {
        let state = shared.lock();
        let is_early = |s: &mut HandoffState| s.start.is_none() && !s.ended && !s.stopped;
        let state =
            shared.changed.wait_while(state, is_early).unwrap_or_else(PoisonError::into_inner);
        let Some((zero, first)) = state.start else { break };
        let mut state = shared.wait_until(state, zero + sound.time.saturating_since(first));
        if state.stopped || (state.ended && sound.time >= state.end) {
            break;
        }
        if state.sounds.len() == MAX_SOUNDS {
            state.sounds.pop_front();
        }
        state.sounds.push_back(sound);
        drop(state);
        shared.changed.notify_all();
    }
    shared.lock().sound_ended = true;
    shared.changed.notify_all();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClipWriter, SourceSpec};

    /// Records `n` small frames at 100 fps; frame `i` has brightness `10 * i`.
    fn clip(name: &str, n: u64) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("capture-{}-{name}.y4m", std::process::id()));
        let mut writer = ClipWriter::create(&path, 100).unwrap();
        for i in 0..n {
            let rgb = vec![10 * i as u8; 16 * 16 * 3];
            writer.push(&SquareFrame::new(16, MediaTime::of_frame(i, 100), rgb).unwrap()).unwrap();
        }
        writer.finish().unwrap();
        path
    }

    #[test]
    fn every_frame_is_read_once_in_order_before_the_source_ends() {
        let path = clip("paced", 12);
        let source = Source::open(&SourceSpec::Clip(path.clone())).unwrap();
        let mut paced = Paced::start(source);
        let mut times = Vec::new();
        while let Some(frame) = paced.next(Duration::from_secs(20)) {
            times.push(frame.time());
        }
        assert!(paced.ended() && paced.take_error().is_none());
        assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
        assert_eq!(times.last(), Some(&MediaTime::of_frame(11, 100)));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_third_due_frame_replaces_the_oldest_of_two() {
        let (sender, items) = sync_channel(3);
        let time = |i| MediaTime::of_frame(i, 25);
        for i in 0..3 {
            let frame = SquareFrame::new(16, time(i), vec![0; 16 * 16 * 3]).unwrap();
            sender.send(Ok(frame)).unwrap();
        }
        drop(sender);
        let shared = Arc::new(Handoff::default());
        release_frames(&items, &shared, Duration::from_millis(40), true);
        let mut paced = Paced { shared, fps: 25, waiters: Vec::new() };
        let mut next = || {
            let taken = paced.next(Duration::ZERO).map(|frame| frame.time());
            (taken, paced.is_late())
        };
        assert_eq!(next(), (Some(time(1)), true));
        assert_eq!(next(), (Some(time(2)), false));
        assert_eq!(next(), (None, false));
        assert!(paced.ended());
    }

    #[test]
    fn sound_is_released_while_nobody_takes_frames() {
        let source = Source::open(&SourceSpec::Actor).unwrap();
        let paced = Paced::start(source);
        let mut sounds = paced.sounds();
        let mut times = Vec::new();
        while times.len() < 10 {
            times.extend(sounds.wait().expect("the actor never ends").iter().map(|s| s.time));
        }
        let expected = (0..times.len() as u64).map(|i| MediaTime::from_micros(20_000 * i));
        assert!(times.iter().copied().eq(expected), "{times:?}");
        drop(paced);
        assert!(sounds.wait().is_none());
    }

    #[test]
    fn frames_of_the_actor_that_are_overdue_are_not_made() {
        let shared = Handoff::default();
        let long_ago = Instant::now().checked_sub(Duration::from_secs(5)).unwrap();
        shared.lock().start = Some((long_ago, MediaTime::ZERO));
        let (sender, items) = sync_channel(1);
        let source = Source::open(&SourceSpec::Actor).unwrap();
        let decoder = thread::spawn(move || decode(source, &shared, &sender));
        let first = items.recv().unwrap().unwrap();
        assert!(first.time() >= MediaTime::from_micros(5_000_000), "{:?}", first.time());
        drop(items);
        decoder.join().unwrap();
    }

    #[test]
    fn sound_ends_with_the_frames() {
        let path = clip("silent", 2);
        let paced = Paced::start(Source::open(&SourceSpec::Clip(path.clone())).unwrap());
        assert!(paced.sounds().wait().is_none(), "a Y4M clip has no sound");
        std::fs::remove_file(path).unwrap();
        let shared = Handoff::default();
        {
            let mut state = shared.lock();
            state.start = Some((Instant::now(), MediaTime::ZERO));
            (state.end, state.ended) = (MediaTime::from_micros(50_000), true);
        }
        let actor = crate::actor_source::ActorSource::new();
        release_sounds(SourceSound::Actor(actor.voice()), &shared);
        assert_eq!(shared.lock().sounds.len(), 3, "0, 20 and 40 ms");
    }

    #[test]
    fn a_damaged_clip_reports_its_error() {
        let path = clip("lost", 4);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let source = Source::open(&SourceSpec::Clip(path.clone())).unwrap();
        let mut paced = Paced::start(source);
        while paced.next(Duration::from_secs(20)).is_some() {}
        assert!(matches!(paced.take_error(), Some(ReadError::Incomplete { n_frames: 3, .. })));
        std::fs::remove_file(path).unwrap();
    }
}
