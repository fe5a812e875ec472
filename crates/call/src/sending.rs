//! The thread that turns what a source shows into access units: frame, tracker, encoder.
#![expect(clippy::disallowed_methods, reason = "this thread lives on the wall clock")]

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use capture::{Paced, Source};
use codec::Encoder;
use tokio::sync::mpsc;
use track::RefinementBudget;
use types::{Feature, MediaTime, Rate, Sound, SquareFrame};

use crate::face_coder::{FaceCoder, Taken};
use crate::order::Order;
use crate::session::Input;
use crate::shared::Shared;

/// Orders look in at least this often.
const PATIENCE: Duration = Duration::from_millis(60);
/// A recorded feature that is later than this is left out: a machine slept, and its peer does not
/// want to see it all at once.
const TOO_LATE: Duration = Duration::from_millis(100);
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
                worker.obey(Order::Rate(rate));
                if worker.wait_for_start() {
                    worker.replay(&features, Instant::now());
                }
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
/// A frame between units is followed only where the next waits already, and refined with all care
/// where a unit's frame takes less than half of the time between two.
#[derive(Debug)]
struct Pace {
    /// Between two frames, seconds.
    interval: f64,
    /// What a unit's frame takes, seconds, a mean over the last few.
    took: Option<f64>,
}

impl Pace {
    fn new(fps: u32) -> Self {
        Self { interval: 1.0 / f64::from(fps.max(1)), took: None }
    }

    /// A unit's frame took so long. A first one is a search and says little of the next.
    fn learn(&mut self, took: Duration) {
        let took = took.as_secs_f64().min(self.interval);
        self.took = Some(self.took.map_or(took, |mean| mean + (took - mean) / 8.0));
    }

    /// For the next frame, another waiting already if this machine `is_late`.
    fn budget(&self, is_late: bool) -> RefinementBudget {
        let is_quick = self.took.is_some_and(|took| took < 0.5 * self.interval);
        match (is_late, is_quick) {
            (true, _) => RefinementBudget::None,
            (false, false) => RefinementBudget::Reduced,
            (false, true) => RefinementBudget::Full,
        }
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
            if let Some(frame) = paced.next(PATIENCE)
                && let Some(took) = self.take_frame(&frame, pace.budget(paced.is_late()))
            {
                pace.learn(took);
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

    /// Shows features again at the pace they were recorded, the first one having been due when it
    /// `begun`.
    fn replay(&mut self, features: &[Feature], begun: Instant) {
        let [first, last] = [features.first(), features.last()]
            .map(|end| end.map_or(MediaTime::ZERO, |feature| feature.time));
        for feature in features {
            let shown_at = begun + feature.time.saturating_since(first);
            if !self.obey_until(shown_at) {
                return;
            }
            let is_last = feature.time == last;
            if is_last || shown_at.elapsed() < TOO_LATE {
                self.take_feature(feature, is_last);
            }
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
    fn take_frame(&mut self, frame: &SquareFrame, budget: RefinementBudget) -> Option<Duration> {
        *self.shared.preview.lock().unwrap_or_else(PoisonError::into_inner) = Some(frame.clone());
        if !self.started || self.camera_off {
            return None;
        }
        let begun = Instant::now();
        let Coder::Tracking(coder) = &mut self.coder else { return None };
        let taken = coder.take(frame, false, budget);
        let took = begun.elapsed();
        let unit_took = taken.unit.as_ref().map(|_| took);
        self.tell(taken, took);
        unit_took
    }

    fn take_feature(&mut self, feature: &Feature, is_last: bool) {
        if self.camera_off {
            return;
        }
        let begun = Instant::now();
        if let Coder::Recorded(encoder) = &mut self.coder {
            let taken = Taken { found: true, unit: encoder.push(feature, is_last).map(Box::new) };
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
    fn who_is_late_does_less_and_who_is_quick_takes_all_care() {
        let mut pace = Pace::new(25);
        assert_eq!(pace.budget(false), RefinementBudget::Reduced, "nothing is known yet");
        let mut after = |ms: u64, n: usize| {
            (0..n).for_each(|_| pace.learn(Duration::from_millis(ms)));
            [pace.budget(false), pace.budget(true)]
        };
        let [reduced, full] = [RefinementBudget::Reduced, RefinementBudget::Full]
            .map(|early| [early, RefinementBudget::None]);
        assert_eq!(after(500, 1), reduced, "a search");
        assert_eq!(after(10, 10), full);
        assert_eq!(after(25, 30), reduced);
        assert_eq!(after(15, 30), full);
    }

    /// A worker that sends features which were recorded, and what it sends.
    fn replayer() -> (Worker, SyncSender<Order>, mpsc::Receiver<Input>) {
        let ((order, orders), (out, sent)) = (sync_channel(8), mpsc::channel(64));
        let worker = Worker {
            orders,
            coder: Coder::Recorded(Box::new(Encoder::new(Profile::default()))),
            rate: Rate::Normal,
            shared: Arc::default(),
            out,
            with_sound: false,
            started: true,
            camera_off: false,
        };
        (worker, order, sent)
    }

    fn nod(i: u64, fps: u32) -> Feature {
        let pose = HeadPose::from_array([0.0, 0.01 * i as f32, 0.0, 0.0, 0.0, 1.1]).unwrap();
        Feature { time: MediaTime::of_frame(i, fps), pose, code: Code::NEUTRAL }
    }

    /// Times of the units that were sent.
    fn times(sent: &mut mpsc::Receiver<Input>) -> Vec<MediaTime> {
        let inputs = std::iter::from_fn(|| sent.try_recv().ok());
        inputs
            .filter_map(|input| match input {
                Input::Tracked { taken, .. } => taken.unit.map(|unit| unit.time),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn the_last_of_a_recorded_stream_is_sent_due_or_not() {
        let (mut worker, order, mut sent) = replayer();
        order.send(Order::Stop).unwrap();
        for i in 0..6 {
            worker.take_feature(&nod(i, 25), i == 5);
        }
        let due = [0, 2, 4, 5].map(|i| MediaTime::of_frame(i, 25));
        assert_eq!(times(&mut sent), due);
    }

    #[test]
    fn what_is_long_overdue_of_a_recorded_stream_is_left_out_but_for_the_last() {
        let (mut worker, order, mut sent) = replayer();
        let features: Vec<Feature> = (0..6).map(|i| nod(i, 25)).collect();
        let asleep_since = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        let thread = std::thread::spawn(move || worker.replay(&features, asleep_since));
        let mut units = Vec::new();
        loop {
            match sent.blocking_recv().unwrap() {
                Input::Tracked { taken, .. } => units.extend(taken.unit.map(|unit| unit.time)),
                Input::SourceEnded(error) => break assert!(error.is_none()),
                _ => {}
            }
        }
        order.send(Order::Stop).unwrap();
        thread.join().unwrap();
        assert_eq!(units, [MediaTime::of_frame(5, 25)]);
    }

    #[test]
    fn another_rate_takes_no_key_unit() {
        let (mut worker, ..) = replayer();
        let rates = [Rate::Low, Rate::Normal, Rate::High];
        for (i, rate) in rates.into_iter().chain(rates).enumerate() {
            assert!(worker.obey(Order::Rate(rate)));
            let encoder = worker.coder.encoder().unwrap();
            let pose = HeadPose::from_array([0.0, 0.01 * i as f32, 0.0, 0.0, 0.0, 1.1]).unwrap();
            let time = MediaTime::of_frame(4 * i as u64, 25);
            let feature = Feature { time, pose, code: Code::NEUTRAL };
            let unit = encoder.push(&feature, false).unwrap();
            assert_eq!((unit.decoded.is_key, unit.decoded.rate), (i == 0, rate), "unit {i}");
            assert!(worker.obey(Order::Acknowledge(unit.number)));
        }
    }
}
