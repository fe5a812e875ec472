//! Sources in real time.

#![expect(clippy::disallowed_methods, reason = "this module paces sources by the wall clock")]

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use types::{MediaTime, SquareFrame};

use crate::errors::ReadError;
use crate::handoff::Handoff;
use crate::paced_sounds::{PacedSounds, release_sounds};
use crate::source::Source;

/// Frames decoded ahead, to hide short delays of decoding.
const N_AHEAD: usize = 24;
/// Frames held for a late reader; when another becomes due, the oldest is dropped.
const MAX_FRAMES: usize = 2;

/// Source paced by the wall clock: each frame becomes available when its media time is due.
///
/// Two threads serve the frames: one decodes ahead, the other waits for due times. At most two due frames
/// are held: a reader that is one frame late can catch up, and when a third frame becomes due, the
/// oldest is dropped. A clip or the actor starts when it was told to and its first frame and its first
/// sound are decoded: the earlier of them is due at once, all others by their media time after it. The
/// frames of a camera are due when they arrive.
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
    pacer: Option<JoinHandle<()>>,
}

/// What the decoding thread reads: a frame, or why there are no more.
type Decoded = Result<SquareFrame, ReadError>;

impl Paced {
    /// Starts the source now.
    pub fn start(source: Source) -> Self {
        let paced = Self::prepare(source);
        paced.begin(Instant::now());
        paced
    }

    /// Decodes the beginning of a clip or of the actor, which then waits for [`Paced::begin`]. A camera
    /// does not wait.
    pub fn prepare(mut source: Source) -> Self {
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
        let pacer = thread::spawn({
            let shared = Arc::clone(&shared);
            move || release_frames(&receiver, &shared, step, is_live)
        });
        if let Some(sound) = sound {
            let shared = Arc::clone(&shared);
            // Not joined either: it may wait for another program.
            thread::spawn(move || release_sounds(sound, &shared));
        }
        Self { shared, fps, pacer: Some(pacer) }
    }

    /// Starts a prepared source: what comes first is due at `when`, or when it has been decoded.
    pub fn begin(&self, when: Instant) {
        self.shared.lock().begun.get_or_insert(when);
        self.shared.changed.notify_all();
    }

    /// Returns when the source started, and the media time that was due then; `None` before. A frame of
    /// a camera is taken to be captured when it arrives.
    pub fn origin(&self) -> Option<(Instant, MediaTime)> {
        self.shared.lock().start
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
        if let Some(pacer) = self.pacer.take() {
            let _ = pacer.join();
        }
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
                let mut ready = Instant::now();
                if state.start.is_none() && !is_live {
                    state = shared.wait_for_sound(state);
                    ready = Instant::now();
                    state = shared.wait_for_begin(state);
                }
                let zero = state.begun.filter(|_| !is_live).map_or(ready, |begun| begun.max(ready));
                let first = state.first_sound.map_or(frame.time(), |sound| sound.min(frame.time()));
                let (zero, first) = *state.start.get_or_insert((zero, first));
                // Whoever waits for the start may go on.
                shared.changed.notify_all();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SourceSound;
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
        let mut paced = Paced { shared, fps: 25, pacer: None };
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

    /// Sends frames of 25 per second, of which the first comes at `first` milliseconds.
    fn frames_from(first: u64, n: u64) -> Receiver<Decoded> {
        let (sender, items) = sync_channel(n as usize);
        for i in 0..n {
            let time = MediaTime::from_micros(1000 * (first + 40 * i));
            let frame = SquareFrame::new(16, time, vec![0; 16 * 16 * 3]).unwrap();
            sender.send(Ok(frame)).unwrap();
        }
        items
    }

    #[test]
    fn a_clip_starts_with_what_comes_first_picture_or_sound() {
        for (first_sound, first_frame) in [(Some(0), 80), (Some(60), 20), (None, 40)] {
            let shared = Handoff::default();
            let sound = first_sound.map(|ms: u64| MediaTime::from_micros(1000 * ms));
            {
                let mut state = shared.lock();
                state.begun = Some(Instant::now());
                state.first_sound = sound;
                state.sound_ended = sound.is_none();
            }
            release_frames(&frames_from(first_frame, 1), &shared, Duration::from_millis(40), false);
            let first = first_sound.unwrap_or(first_frame).min(first_frame);
            let start = shared.lock().start.map(|(_, time)| time);
            assert_eq!(start, Some(MediaTime::from_micros(1000 * first)));
        }
    }

    #[test]
    fn a_prepared_clip_does_not_start_before_it_is_told_to() {
        let path = clip("prepared", 3);
        let mut paced = Paced::prepare(Source::open(&SourceSpec::Clip(path.clone())).unwrap());
        assert!(paced.next(Duration::from_millis(100)).is_none() && paced.origin().is_none());
        let when = Instant::now();
        paced.begin(when);
        assert!(paced.next(Duration::from_secs(20)).is_some());
        let (start, first) = paced.origin().unwrap();
        assert!(start >= when && first == MediaTime::ZERO);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_clip_without_sound_says_so_once() {
        let path = clip("no-sound", 2);
        let paced = Paced::start(Source::open(&SourceSpec::Clip(path.clone())).unwrap());
        let mut sounds = paced.sounds();
        assert!(sounds.wait().is_none());
        assert!(matches!(sounds.take_error(), Some(ReadError::NoSound)));
        assert!(sounds.take_error().is_none());
        std::fs::remove_file(path).unwrap();
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
