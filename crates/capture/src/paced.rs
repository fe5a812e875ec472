//! Sources in real time.

#![expect(clippy::disallowed_methods, reason = "this module paces sources by the wall clock")]

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use types::{MediaTime, Sound, SquareFrame};

use crate::errors::ReadError;
use crate::source::Source;

/// Frames and sounds decoded ahead, to hide short delays of decoding.
const N_AHEAD: usize = 24;
/// Frames held for a late reader; when another becomes due, the oldest is dropped.
const MAX_FRAMES: usize = 2;
/// Sounds held for a late reader: one second. When another becomes due, the oldest is dropped.
const MAX_SOUNDS: usize = 50;

/// Source paced by the wall clock: each frame becomes available when its media time is due.
///
/// Two threads serve it: one decodes ahead, the other waits for due times. At most two due frames
/// are held: a reader that is one frame late can catch up, and when a third frame becomes due, the
/// oldest is dropped. The first frame of a clip or of the actor is due as soon as it is decoded,
/// and the others by their media time after it. The frames of a camera are due when they arrive.
///
/// ```no_run
/// # use capture::{Paced, Source, SourceSpec}; use std::time::Duration;
/// # fn watch() -> Result<(), capture::OpenError> {
/// let mut paced = Paced::start(Source::open(&SourceSpec::Actor)?, false);
/// while let Some(frame) = paced.next(Duration::from_millis(200)) {
///     println!("{:?}", frame.time());
/// }
/// # Ok(()) }
/// ```
pub struct Paced {
    shared: Arc<Handoff>,
    fps: u32,
    waiter: Option<JoinHandle<()>>,
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
    ended: bool,
    stopped: bool,
}

impl Handoff {
    fn lock(&self) -> MutexGuard<'_, HandoffState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Message from the decoding thread, in order of media time.
enum PacedItem {
    Frame(SquareFrame),
    Sound(Sound),
    Error(ReadError),
}

impl PacedItem {
    fn time(&self) -> Option<MediaTime> {
        match self {
            Self::Frame(frame) => Some(frame.time()),
            Self::Sound(sound) => Some(sound.time),
            Self::Error(_) => None,
        }
    }
}

impl Paced {
    /// Starts the source now. If `looped`, a clip restarts at its end and its media time continues.
    pub fn start(source: Source, looped: bool) -> Self {
        let fps = source.fps();
        let is_live = source.is_live();
        let shared = Arc::new(Handoff::default());
        let (sender, receiver) = sync_channel(if is_live { 1 } else { N_AHEAD });
        // Not joined: it may be blocked in a camera's driver. It ends at its next frame.
        thread::spawn(move || decode(source, looped, &sender));
        let waiter = thread::spawn({
            let shared = Arc::clone(&shared);
            move || release_when_due(&receiver, &shared, is_live)
        });
        Self { shared, fps, waiter: Some(waiter) }
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

    /// Returns the sound that became due since the last call, in order. If that is more than one
    /// second, only the last second is returned.
    pub fn take_sounds(&mut self) -> Vec<Sound> {
        self.shared.lock().sounds.drain(..).collect()
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
        if let Some(waiter) = self.waiter.take() {
            let _ = waiter.join();
        }
    }
}

/// Reads ahead until the source ends or the receiver is gone.
fn decode(mut source: Source, looped: bool, out: &SyncSender<PacedItem>) {
    let step = Duration::from_secs(1) / source.fps().max(1);
    // Duration of the previous loops.
    let mut offset = Duration::ZERO;
    loop {
        let mut end = Duration::ZERO;
        let mut sound = None;
        loop {
            let frame = match source.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => {
                    let _ = out.send(PacedItem::Error(error));
                    return;
                }
            };
            let time = frame.time();
            end = time.saturating_since(MediaTime::ZERO) + step;
            // Sound that starts before the end of this frame is sent along with it.
            let mut items = vec![PacedItem::Frame(frame.at(time + offset))];
            loop {
                if sound.is_none() {
                    sound = source.next_sound().ok().flatten();
                }
                match sound.take() {
                    Some(next) if next.time < MediaTime::ZERO + end => {
                        items.push(PacedItem::Sound(Sound { time: next.time + offset, ..next }));
                    }
                    next => {
                        sound = next;
                        break;
                    }
                }
            }
            items.sort_by_key(PacedItem::time);
            for item in items {
                if out.send(item).is_err() {
                    return;
                }
            }
        }
        if !looped || end.is_zero() {
            return;
        }
        offset += end;
        match source.reopen() {
            Some(again) => source = again,
            None => return,
        }
    }
}

/// Releases each item when it is due, until the source ends or the [`Paced`] is dropped.
fn release_when_due(items: &Receiver<PacedItem>, shared: &Handoff, is_live: bool) {
    let mut start = None;
    loop {
        let item = match items.recv_timeout(Duration::from_millis(50)) {
            Ok(item) => item,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if shared.lock().stopped => break,
            Err(RecvTimeoutError::Timeout) => continue,
        };
        let mut state = shared.lock();
        if let (Some(time), false) = (item.time(), is_live) {
            let (zero, first) = *start.get_or_insert_with(|| (Instant::now(), time));
            let due = zero + time.saturating_since(first);
            while !state.stopped {
                let left = due.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                let waited = shared.changed.wait_timeout(state, left);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        if state.stopped {
            break;
        }
        match item {
            PacedItem::Frame(frame) => {
                if state.frames.len() == MAX_FRAMES {
                    state.frames.pop_front();
                }
                state.frames.push_back(frame);
            }
            PacedItem::Sound(sound) => {
                if state.sounds.len() == MAX_SOUNDS {
                    state.sounds.pop_front();
                }
                state.sounds.push_back(sound);
            }
            PacedItem::Error(error) => state.error = Some(error),
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
        let mut paced = Paced::start(source, false);
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
            sender.send(PacedItem::Frame(frame)).unwrap();
        }
        drop(sender);
        let shared = Arc::new(Handoff::default());
        release_when_due(&items, &shared, true);
        let mut paced = Paced { shared, fps: 25, waiter: None };
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
    fn the_media_time_of_a_looped_clip_continues() {
        let path = clip("looped", 3);
        let source = Source::open(&SourceSpec::Clip(path.clone())).unwrap();
        let mut paced = Paced::start(source, true);
        let mut last = MediaTime::ZERO;
        while last < MediaTime::of_frame(8, 100) {
            let frame = paced.next(Duration::from_secs(20)).unwrap();
            assert!(frame.time() >= last);
            assert_eq!(frame.time().as_micros() % 10_000, 0);
            let index = frame.time().as_micros() / 10_000 % 3;
            assert!(u64::from(frame.rgb()[0]).abs_diff(10 * index) <= 1);
            last = frame.time();
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_damaged_clip_reports_its_error() {
        let path = clip("lost", 4);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let source = Source::open(&SourceSpec::Clip(path.clone())).unwrap();
        let mut paced = Paced::start(source, false);
        while paced.next(Duration::from_secs(20)).is_some() {}
        assert!(matches!(paced.take_error(), Some(ReadError::Truncated { at: 4, of: 4 })));
        std::fs::remove_file(path).unwrap();
    }
}
