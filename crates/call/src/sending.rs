//! The thread that turns frames into access units: newest frame, tracker, encoder.
#![expect(clippy::disallowed_methods, reason = "this thread lives on the wall clock")]

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use capture::{Paced, Source, SourceSpec};
use codec::{Encoder, Profile, UnitId};
use tokio::sync::mpsc;
use track::PersonTracker;
use types::{MediaTime, Sound};

use crate::Rate;
use crate::order::Order;
use crate::session::Input;
use crate::shared::Shared;

/// Orders look in at least this often.
const PATIENCE: Duration = Duration::from_millis(60);
/// Orders that wait; acknowledgements are many and small.
const ORDERS: usize = 512;

/// One feature, coded.
#[derive(Debug)]
pub(crate) struct Coded {
    pub(crate) time: MediaTime,
    pub(crate) id: UnitId,
    pub(crate) bytes: Vec<u8>,
    /// How it wants to be packed.
    pub(crate) rate: Rate,
}

/// What makes a face out of frames; absent when we only show ourselves the preview.
pub(crate) struct Face {
    pub(crate) tracker: PersonTracker,
    pub(crate) profile: Profile,
    pub(crate) rate: Rate,
}

/// The running thread.
pub(crate) struct Sending {
    orders: SyncSender<Order>,
    thread: Option<JoinHandle<()>>,
}

impl Sending {
    pub(crate) fn start(
        spec: &SourceSpec,
        source: Source,
        face: Option<Face>,
        with_sound: bool,
        shared: Arc<Shared>,
        out: mpsc::Sender<Input>,
    ) -> std::io::Result<Self> {
        let (orders, receiver) = sync_channel(ORDERS);
        let is_live = matches!(spec, SourceSpec::Camera(_));
        let worker = Worker {
            orders: receiver,
            rate: face.as_ref().map_or(Rate::default(), |face| face.rate),
            encoder: face.as_ref().map(|face| {
                let mut encoder = Encoder::new(face.profile.clone());
                Order::Rate(face.rate).apply(&mut encoder);
                encoder
            }),
            tracker: face.map(|face| face.tracker),
            shared,
            out,
            with_sound,
            started: false,
            camera_off: false,
        };
        let thread = std::thread::Builder::new()
            .name("feathercall-send".to_owned())
            .spawn(move || worker.run(source, is_live))?;
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

struct Worker {
    orders: Receiver<Order>,
    tracker: Option<PersonTracker>,
    encoder: Option<Encoder>,
    rate: Rate,
    shared: Arc<Shared>,
    out: mpsc::Sender<Input>,
    with_sound: bool,
    started: bool,
    camera_off: bool,
}

impl Worker {
    fn run(mut self, source: Source, is_live: bool) {
        // A clip waits for the peer, so that nothing of it is missed; a camera is seen at once.
        while !is_live && !self.started {
            match self.orders.recv() {
                Ok(order) if self.obey(order) => {}
                _ => return,
            }
        }
        let mut paced = Paced::start(source, false);
        loop {
            loop {
                match self.orders.try_recv() {
                    Ok(order) if self.obey(order) => {}
                    Err(std::sync::mpsc::TryRecvError::Empty) => break,
                    _ => return,
                }
            }
            if let Some(frame) = paced.latest(PATIENCE) {
                self.take(&frame);
            }
            if self.with_sound {
                let sounds = paced.take_sounds();
                if self.started && !sounds.is_empty() && !self.hear(sounds) {
                    return;
                }
            }
            if paced.ended() {
                let error = paced.take_error().map(|error| error.to_string());
                let _ = self.out.blocking_send(Input::SourceEnded(error));
                break;
            }
        }
        // Acknowledgements still come; the thread goes when the call does.
        loop {
            match self.orders.recv_timeout(Duration::from_secs(1)) {
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                _ => {}
            }
        }
    }

    /// Whether to go on.
    fn obey(&mut self, order: Order) -> bool {
        self.encoder.iter_mut().for_each(|encoder| order.apply(encoder));
        match order {
            Order::Start => self.started = true,
            Order::CameraOff(off) => {
                if self.camera_off && !off {
                    self.encoder.iter_mut().for_each(Encoder::request_key);
                }
                self.camera_off = off;
            }
            Order::Rate(rate) => self.rate = rate,
            Order::Acknowledge(_) | Order::Key => {}
            Order::Stop => return false,
        }
        true
    }

    fn take(&mut self, frame: &types::Frame) {
        *self.shared.preview.lock().unwrap_or_else(PoisonError::into_inner) = Some(frame.clone());
        if !self.started || self.camera_off {
            return;
        }
        let (Some(tracker), Some(encoder)) = (&mut self.tracker, &mut self.encoder) else {
            return;
        };
        let begun = Instant::now();
        let (found, coded) = if encoder.wants(frame.time()) {
            let feature = tracker.track(frame);
            let coded = feature.and_then(|feature| {
                let unit = encoder.encode(&feature);
                let id = encoder.reconstruction()?.id;
                let bytes = unit.as_bytes().to_vec();
                Some(Coded { time: feature.time, id, bytes, rate: self.rate })
            });
            (feature.is_some(), coded)
        } else if encoder.wants_between(frame.time()) {
            let feature = tracker.track(frame);
            if let Some(feature) = &feature {
                encoder.push_between(feature);
            }
            (feature.is_some(), None)
        } else {
            (tracker.follow(frame), None)
        };
        let _ = self.out.blocking_send(Input::Tracked { found, coded, took: begun.elapsed() });
    }

    /// Hands sound on; whether anybody is there.
    fn hear(&self, sounds: Vec<Sound>) -> bool {
        self.out.blocking_send(Input::Sounds(sounds)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use types::{Code, Feature, HeadPose};

    use super::*;

    #[test]
    fn another_rate_takes_no_key_unit() {
        let (_, orders) = sync_channel(1);
        let mut worker = Worker {
            orders,
            tracker: None,
            encoder: Some(Encoder::new(Profile::default())),
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
            let encoder = worker.encoder.as_mut().unwrap();
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
