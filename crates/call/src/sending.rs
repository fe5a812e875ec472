//! The thread that turns what a source shows into access units: frame, tracker, encoder.
#![expect(clippy::disallowed_methods, reason = "this thread lives on the wall clock")]

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use capture::{Paced, Source};
use codec::Encoder;
use tokio::sync::mpsc;
use types::{Feature, Frame, MediaTime, Sound};

use crate::Rate;
use crate::face_coder::{FaceCoder, Leisure, Taken, code};
use crate::order::Order;
use crate::session::Input;
use crate::shared::Shared;

/// Orders look in at least this often.
const PATIENCE: Duration = Duration::from_millis(60);
/// How long a machine that does not keep up does less, at first and at most.
const SHORTEST_REST: Duration = Duration::from_secs(2);
const LONGEST_REST: Duration = Duration::from_secs(32);
/// Orders that wait; acknowledgements are many and small.
const ORDERS: usize = 512;

/// What is shown, and to whom.
pub(crate) enum Showing {
    /// Pictures, to ourselves alone.
    Preview(Source),
    /// The face in them.
    Face(Source, Box<FaceCoder>),
    /// A face that was tracked before.
    Recorded(Vec<Feature>, Box<Encoder>),
}

/// The running thread.
pub(crate) struct Sending {
    orders: SyncSender<Order>,
    thread: Option<JoinHandle<()>>,
}

impl Sending {
    pub(crate) fn start(
        showing: Showing,
        rate: Rate,
        with_sound: bool,
        shared: Arc<Shared>,
        out: mpsc::Sender<Input>,
    ) -> std::io::Result<Self> {
        let (orders, receiver) = sync_channel(ORDERS);
        let mut worker = Worker {
            orders: receiver,
            coder: Coder::None,
            rate,
            shared,
            out,
            with_sound,
            started: false,
            camera_off: false,
        };
        let run = move || match showing {
            Showing::Preview(source) => worker.run(source),
            Showing::Face(source, coder) => {
                worker.coder = Coder::Tracking(coder);
                worker.run(source);
            }
            Showing::Recorded(features, encoder) => {
                worker.coder = Coder::Recorded(encoder);
                worker.replay(&features);
            }
        };
        let thread = std::thread::Builder::new().name("feathercall-send".to_owned()).spawn(run)?;
        Ok(Self { orders, thread: Some(thread) })
    }

    /// Gives an order; one too many is dropped: an acknowledgement will come again.
    pub(crate) fn order(&self, order: Order) {
        let _ = self.orders.try_send(order);
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How this machine keeps up with its camera.
///
/// A frame between units is followed only where the next waits already. Where one passes untaken,
/// they all are, so that every frame is seen and units are on time; tried again after a while, twice
/// as long a while each time it comes to nothing. They are refined with all care where a frame takes
/// less than half of its time.
#[derive(Debug)]
struct Pace {
    /// Between two frames, seconds.
    interval: f64,
    /// What a unit's frame takes, seconds, a mean over the last few.
    took: Option<f64>,
    n_dropped: u64,
    /// No leisure before.
    until: MediaTime,
    /// Length of the next rest.
    rest: Duration,
}

impl Pace {
    fn new(fps: u32) -> Self {
        let (took, until, rest) = (None, MediaTime::ZERO, SHORTEST_REST);
        Self { interval: 1.0 / f64::from(fps.max(1)), took, n_dropped: 0, until, rest }
    }

    /// A unit's frame took so long.
    fn learn(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        self.took = Some(self.took.map_or(took, |mean| mean + (took - mean) / 8.0));
    }

    /// For the frame of this time, whether the next waits already, `n_dropped` others having passed
    /// untaken so far.
    fn leisure(&mut self, time: MediaTime, is_late: bool, n_dropped: u64) -> Leisure {
        let missed = n_dropped > std::mem::replace(&mut self.n_dropped, n_dropped);
        if time < self.until {
            return Leisure::Scant;
        }
        if missed {
            self.until = time + self.rest;
            self.rest = (2 * self.rest).min(LONGEST_REST);
            return Leisure::Scant;
        }
        // As long again without a miss, and the next rest is a short one.
        if time.saturating_since(self.until) > self.rest {
            self.rest = SHORTEST_REST;
        }
        if is_late {
            return Leisure::Scant;
        }
        let is_quick = self.took.is_some_and(|took| took < 0.5 * self.interval);
        if is_quick { Leisure::Ample } else { Leisure::Fair }
    }
}

/// What makes units.
enum Coder {
    None,
    Tracking(Box<FaceCoder>),
    Recorded(Box<Encoder>),
}

impl Coder {
    fn encoder(&mut self) -> Option<&mut Encoder> {
        match self {
            Self::None => None,
            Self::Tracking(coder) => Some(coder.encoder()),
            Self::Recorded(encoder) => Some(encoder),
        }
    }
}

struct Worker {
    orders: Receiver<Order>,
    coder: Coder,
    rate: Rate,
    shared: Arc<Shared>,
    out: mpsc::Sender<Input>,
    with_sound: bool,
    started: bool,
    camera_off: bool,
}

impl Worker {
    /// Shows what a camera, the actor or a clip sees.
    fn run(&mut self, source: Source) {
        self.obey(Order::Rate(self.rate));
        // A clip waits for the peer, so that nothing of it is missed; a camera is seen at once.
        if !source.is_live() && !self.wait_for_start() {
            return;
        }
        let mut pace = Pace::new(source.fps());
        let mut paced = Paced::start(source, false);
        while !paced.ended() {
            if !self.obey_until(Instant::now()) {
                return;
            }
            if let Some(frame) = paced.next(PATIENCE) {
                let leisure = pace.leisure(frame.time(), paced.is_late(), paced.n_dropped());
                if let Some(took) = self.take_frame(&frame, leisure) {
                    pace.learn(took);
                }
            }
            if self.with_sound {
                let sounds = paced.take_sounds();
                if self.started && !sounds.is_empty() && !self.hear(sounds) {
                    return;
                }
            }
        }
        self.end(paced.take_error().map(|error| error.to_string()));
    }

    /// Shows features again at the pace they were recorded.
    fn replay(&mut self, features: &[Feature]) {
        self.obey(Order::Rate(self.rate));
        if !self.wait_for_start() {
            return;
        }
        let begun = Instant::now();
        let first = features.first().map_or(MediaTime::ZERO, |first| first.time);
        for feature in features {
            if !self.obey_until(begun + feature.time.saturating_since(first)) {
                return;
            }
            self.take_feature(feature);
        }
        self.end(None);
    }

    fn wait_for_start(&mut self) -> bool {
        while !self.started {
            match self.orders.recv() {
                Ok(order) if self.obey(order) => {}
                _ => return false,
            }
        }
        true
    }

    /// Obeys what comes up to `time`, at least what waits already; whether to go on.
    fn obey_until(&mut self, time: Instant) -> bool {
        loop {
            let left = time.saturating_duration_since(Instant::now());
            match self.orders.recv_timeout(left) {
                Ok(order) if self.obey(order) => {}
                Err(RecvTimeoutError::Timeout) => return true,
                _ => return false,
            }
        }
    }

    /// Acknowledgements still come; the thread goes when the call does.
    fn end(&mut self, error: Option<String>) {
        let _ = self.out.blocking_send(Input::SourceEnded(error));
        while !matches!(self.orders.recv(), Ok(Order::Stop) | Err(_)) {}
    }

    /// Whether to go on.
    fn obey(&mut self, order: Order) -> bool {
        if let Some(encoder) = self.coder.encoder() {
            order.apply(encoder);
        }
        match order {
            Order::Start => self.started = true,
            Order::CameraOff(off) => {
                if self.camera_off && !off {
                    self.coder.encoder().into_iter().for_each(Encoder::request_key);
                }
                self.camera_off = off;
            }
            Order::Rate(rate) => self.rate = rate,
            Order::Acknowledge(_) | Order::Key => {}
            Order::Stop => return false,
        }
        true
    }

    /// Gives back how long a unit took, if there was one.
    fn take_frame(&mut self, frame: &Frame, leisure: Leisure) -> Option<Duration> {
        *self.shared.preview.lock().unwrap_or_else(PoisonError::into_inner) = Some(frame.clone());
        if !self.started || self.camera_off {
            return None;
        }
        let begun = Instant::now();
        let Coder::Tracking(coder) = &mut self.coder else { return None };
        let taken = coder.take(frame, false, leisure);
        let took = begun.elapsed();
        let unit_took = taken.unit.as_ref().map(|_| took);
        self.tell(taken, took);
        unit_took
    }

    fn take_feature(&mut self, feature: &Feature) {
        if self.camera_off {
            return;
        }
        let begun = Instant::now();
        if let Coder::Recorded(encoder) = &mut self.coder {
            let is_due = encoder.wants(feature.time);
            let taken = Taken { found: true, unit: code(encoder, feature, is_due) };
            self.tell(taken, begun.elapsed());
        }
    }

    fn tell(&self, taken: Taken, took: Duration) {
        let _ = self.out.blocking_send(Input::Tracked { taken, rate: self.rate, took });
    }

    /// Hands sound on; whether anybody is there.
    fn hear(&self, sounds: Vec<Sound>) -> bool {
        self.out.blocking_send(Input::Sounds(sounds)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use codec::Profile;
    use types::{Code, HeadPose};

    use super::*;

    #[test]
    fn who_misses_frames_does_less_for_a_while_and_longer_each_time() {
        let mut pace = Pace::new(25);
        // A machine that misses a frame as soon as it has leisure, for a minute, and then no more.
        let (mut dropped, mut fair) = (0, Vec::new());
        for i in 0..25 * 150 {
            let time = MediaTime::of_frame(i, 25);
            if pace.leisure(time, false, dropped) == Leisure::Fair {
                fair.push(i / 25);
                dropped += u64::from(i < 25 * 60);
            }
        }
        let seconds: Vec<u64> = fair.iter().copied().filter(|s| *s < 60).collect();
        assert_eq!(seconds, [0, 2, 6, 14, 30]);
        assert_eq!(fair.iter().filter(|s| **s >= 63).count(), 25 * 87, "then all the time");
        let end = MediaTime::of_frame(25 * 150, 25);
        assert_eq!(pace.leisure(end, true, dropped), Leisure::Scant, "one frame, late");
        assert_eq!(pace.leisure(end, false, dropped), Leisure::Fair);
        assert_eq!(pace.leisure(end, false, dropped + 1), Leisure::Scant);
        assert_eq!(pace.until, MediaTime::of_frame(25 * 152, 25), "a short rest again");
    }

    #[test]
    fn who_is_quick_takes_all_care() {
        let mut pace = Pace::new(25);
        let mut after = |ms: u64| {
            (0..30).for_each(|_| pace.learn(Duration::from_millis(ms)));
            pace.leisure(MediaTime::of_frame(1, 25), false, 0)
        };
        assert_eq!(
            [after(15), after(25), after(15)],
            [Leisure::Ample, Leisure::Fair, Leisure::Ample]
        );
    }

    #[test]
    fn another_rate_takes_no_key_unit() {
        let (_, orders) = sync_channel(1);
        let mut worker = Worker {
            orders,
            coder: Coder::Recorded(Box::new(Encoder::new(Profile::default()))),
            rate: Rate::Normal,
            shared: Arc::default(),
            out: mpsc::channel(1).0,
            with_sound: false,
            started: true,
            camera_off: false,
        };
        let rates = [Rate::Low, Rate::Normal, Rate::High];
        for (i, rate) in rates.into_iter().chain(rates).enumerate() {
            assert!(worker.obey(Order::Rate(rate)));
            let encoder = worker.coder.encoder().unwrap();
            let pose = HeadPose::from_array([0.0, 0.01 * i as f32, 0.0, 0.0, 0.0, 1.1]).unwrap();
            let time = MediaTime::of_frame(4 * i as u64, 25);
            assert!(encoder.wants(time));
            encoder.encode(&Feature { time, pose, code: Code::NEUTRAL });
            let decoded = encoder.reconstruction().unwrap();
            assert_eq!((decoded.is_key, decoded.quality), (i == 0, rate.quality()), "unit {i}");
            assert!(worker.obey(Order::Acknowledge(decoded.id)));
        }
    }
}
