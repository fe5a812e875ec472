//! The thread that turns the source's frames into access units: frame, tracker, encoder.
#![expect(clippy::disallowed_methods, reason = "this thread runs on the wall clock")]

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use capture::{Paced, PacedSounds, Source};
use codec::{EncodedUnit, Encoder};
use types::{Feature, SquareFrame};

use crate::face_encoder::FaceEncoder;
use crate::load_estimator::LoadEstimator;
use crate::offline::{DecodeStreamError, StreamDecoder};
use crate::session::{EncoderCommand, Input, TrackedFrame};
use crate::settings::LocalMedia;
use crate::shared::lock;
use crate::sound::{Sounding, lower_priority};

/// Longest wait for a frame before commands are looked at.
const FRAME_WAIT: Duration = Duration::from_millis(60);
/// A recorded feature that is overdue by more is skipped: the machine was suspended, and the peer
/// does not want to see everything at once.
const MAX_OVERDUE: Duration = Duration::from_millis(100);
/// Commands that wait for the thread; most are acknowledgements, which are small and frequent.
const MAX_COMMANDS: usize = 512;

/// What drives our face.
pub(crate) enum FaceSource {
    /// Frames for our own preview; nothing is sent.
    Preview(Source),
    /// Frames whose face is tracked and sent.
    Tracked(Source, Box<FaceEncoder>),
    /// Features that were tracked and encoded before.
    Recorded(Box<StreamDecoder>, Box<Encoder>),
}

impl FaceSource {
    /// Leaves out the sound of a clip or of the actor, which is then not decoded.
    pub(crate) fn without_sound(self) -> Self {
        match self {
            Self::Preview(source) => Self::Preview(source.without_sound()),
            Self::Tracked(source, encoder) => Self::Tracked(source.without_sound(), encoder),
            Self::Recorded(..) => self,
        }
    }
}

/// Handle of the running thread. Dropping it stops the thread and waits for it.
pub(crate) struct FaceSender {
    commands: SyncSender<ThreadCommand>,
    /// Sound of a clip or of the actor.
    sounds: Option<PacedSounds>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is asked to do.
enum ThreadCommand {
    Encoder(EncoderCommand),
    Stop,
}

impl FaceSender {
    /// Starts the thread.
    pub(crate) fn start(
        source: FaceSource,
        media: LocalMedia,
        sounding: Sounding,
    ) -> std::io::Result<Self> {
        let (commands, receiver) = sync_channel(MAX_COMMANDS);
        let mut worker = Worker {
            commands: receiver,
            encoder: FrameEncoder::None,
            // A preview needs no face.
            camera_on: media.sends_face() || matches!(source, FaceSource::Preview(_)),
            sounding,
            started: false,
        };
        let (frames, features) = match source {
            FaceSource::Preview(source) => (Some(source), None),
            FaceSource::Tracked(source, encoder) => {
                worker.encoder = FrameEncoder::Tracking(encoder);
                (Some(source), None)
            }
            FaceSource::Recorded(features, encoder) => {
                worker.encoder = FrameEncoder::Recorded(encoder);
                (None, Some(features))
            }
        };
        let frames = frames.map(|source| (source.is_live(), Paced::prepare(source)));
        // A camera has no sound of its own.
        let sounds = frames.as_ref().filter(|(is_live, _)| !is_live);
        let sounds = sounds.map(|(_, paced)| paced.sounds());
        let run = move || {
            lower_priority();
            worker.apply(EncoderCommand::SetRate(media.rate));
            if let Some((is_live, paced)) = frames {
                worker.run(paced, is_live);
            } else if let Some(features) = features
                && let Some(start) = worker.wait_for_start()
            {
                worker.play_recorded(features, start);
            }
        };
        let thread = std::thread::Builder::new().name("feathercall-send".to_owned()).spawn(run)?;
        Ok(Self { commands, sounds, thread: Some(thread) })
    }

    /// Returns the sound of a clip or of the actor, the first time.
    pub(crate) fn take_sounds(&mut self) -> Option<PacedSounds> {
        self.sounds.take()
    }

    /// Queues a command, or drops it when the queue is full. A lost acknowledgement makes later
    /// units longer until the next one arrives; the peer repeats key requests.
    pub(crate) fn command(&self, command: EncoderCommand) {
        let _ = self.commands.try_send(ThreadCommand::Encoder(command));
    }
}

impl Drop for FaceSender {
    fn drop(&mut self) {
        let _ = self.commands.send(ThreadCommand::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What makes units of frames or recorded features.
enum FrameEncoder {
    None,
    Tracking(Box<FaceEncoder>),
    Recorded(Box<Encoder>),
}

impl FrameEncoder {
    fn encoder(&mut self) -> Option<&mut Encoder> {
        match self {
            Self::None => None,
            Self::Tracking(encoder) => Some(encoder.encoder()),
            Self::Recorded(encoder) => Some(encoder),
        }
    }
}

/// State of the thread.
struct Worker {
    commands: Receiver<ThreadCommand>,
    encoder: FrameEncoder,
    camera_on: bool,
    sounding: Sounding,
    /// Whether the peer was connected.
    started: bool,
}

impl Worker {
    /// Processes the frames of a camera, the actor or a clip until the source or the call ends.
    fn run(&mut self, mut paced: Paced, is_live: bool) {
        // A clip waits for the peer, so that nothing of it is missed. A camera is seen at once.
        if !is_live {
            let Some(start) = self.wait_for_start() else { return };
            paced.begin(start);
        }
        let mut load = LoadEstimator::new(paced.fps());
        while !paced.ended() {
            if !self.handle_commands_until(Instant::now()) {
                return;
            }
            if let Some(frame) = paced.next(FRAME_WAIT)
                && let Some(origin) = paced.origin()
                && let Some(took) = self.process_frame(
                    &frame.clone().at(self.sounding.clock.of_source(origin, frame.time())),
                    &load,
                    paced.is_late(),
                )
            {
                load.add(took);
            }
        }
        self.finish(paced.take_error().map(|error| error.to_string()));
    }

    /// Encodes recorded features at the pace at which they were recorded, until one does not decode.
    /// The first one is due at `start`.
    fn play_recorded(
        &mut self,
        features: impl Iterator<Item = Result<Feature, DecodeStreamError>>,
        start: Instant,
    ) {
        let mut features = features.peekable();
        let mut first = None;
        let mut error = None;
        while let Some(feature) = features.next() {
            let feature = match feature {
                Ok(feature) => feature,
                Err(reason) => {
                    error = Some(reason.to_string());
                    break;
                }
            };
            let first = *first.get_or_insert(feature.time);
            let due = start + feature.time.saturating_since(first);
            let time = self.sounding.clock.of_source((start, first), feature.time);
            let feature = Feature { time, ..feature };
            if !self.handle_commands_until(due) {
                return;
            }
            let is_last = features.peek().is_none_or(Result::is_err);
            if is_last || due.elapsed() < MAX_OVERDUE {
                self.process_feature(&feature, is_last);
            }
        }
        self.finish(error);
    }

    /// Handles commands until the peer is connected. Returns when that was, which is time 0 of the call;
    /// `None` if the thread is to end.
    fn wait_for_start(&mut self) -> Option<Instant> {
        while !self.started {
            match self.commands.recv() {
                Ok(ThreadCommand::Encoder(command)) => self.apply(command),
                Ok(ThreadCommand::Stop) | Err(_) => return None,
            }
        }
        Some(self.sounding.clock.zero().unwrap_or_else(Instant::now))
    }

    /// Handles the commands that come before `time`, or at least those that wait already. Returns
    /// whether to go on.
    fn handle_commands_until(&mut self, time: Instant) -> bool {
        loop {
            let left = time.saturating_duration_since(Instant::now());
            match self.commands.recv_timeout(left) {
                Ok(ThreadCommand::Encoder(command)) => self.apply(command),
                Err(RecvTimeoutError::Timeout) => return true,
                Ok(ThreadCommand::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// Reports the end of the source, then waits for the end of the call.
    fn finish(&mut self, error: Option<String>) {
        let _ = self.sounding.inputs.blocking_send(Input::SourceEnded(error));
        while let Ok(ThreadCommand::Encoder(_)) = self.commands.recv() {}
    }

    fn apply(&mut self, command: EncoderCommand) {
        if let Some(encoder) = self.encoder.encoder() {
            command.apply(encoder);
            if command == EncoderCommand::SetCameraOn(true) && !self.camera_on {
                encoder.request_key();
            }
        }
        match command {
            EncoderCommand::Start => self.started = true,
            EncoderCommand::SetCameraOn(on) => {
                self.camera_on = on;
                *lock(&self.sounding.shared.preview) = None;
            }
            EncoderCommand::SetRate(_)
            | EncoderCommand::Acknowledge(_)
            | EncoderCommand::RequestKey => {}
        }
    }

    /// Shows a frame in the preview and sends its feature. Returns how long a unit took, if the
    /// frame became one.
    fn process_frame(
        &mut self,
        frame: &SquareFrame,
        load: &LoadEstimator,
        is_late: bool,
    ) -> Option<Duration> {
        if !self.camera_on {
            return None;
        }
        *lock(&self.sounding.shared.preview) = Some(frame.clone());
        if !self.started {
            return None;
        }
        let begun = Instant::now();
        let FrameEncoder::Tracking(encoder) = &mut self.encoder else { return None };
        let encoded = encoder.encode(frame, false, load.budget(is_late));
        let took = begun.elapsed();
        let is_unit = encoded.unit.is_some();
        self.send(encoded.face_found, encoded.unit, took);
        is_unit.then_some(took)
    }

    fn process_feature(&mut self, feature: &Feature, is_last: bool) {
        if !self.camera_on {
            return;
        }
        let begun = Instant::now();
        if let FrameEncoder::Recorded(encoder) = &mut self.encoder {
            let unit = encoder.push(feature, is_last);
            self.send(true, unit, begun.elapsed());
        }
    }

    fn send(&self, face_found: bool, unit: Option<EncodedUnit>, took: Duration) {
        let frame = TrackedFrame { face_found, unit, took };
        let _ = self.sounding.inputs.blocking_send(Input::Frame(Box::new(frame)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use codec::Profile;
    use tokio::sync::mpsc;
    use types::{Code, HeadPose, MediaTime, Rate};

    use super::*;
    use crate::call_clock::CallClock;
    use crate::shared::Shared;

    /// A worker that sends recorded features, its commands, and its outputs.
    fn recorded_worker() -> (Worker, SyncSender<ThreadCommand>, mpsc::Receiver<Input>) {
        let ((command, commands), (inputs, sent)) = (sync_channel(8), mpsc::channel(64));
        let worker = Worker {
            commands,
            encoder: FrameEncoder::Recorded(Box::new(Encoder::new(Profile::default()))),
            camera_on: true,
            sounding: Sounding::new(
                CallClock::default(),
                Arc::new(Shared::new(LocalMedia::default())),
                inputs,
            ),
            started: true,
        };
        (worker, command, sent)
    }

    fn nod(frame: u64) -> Feature {
        let pose = HeadPose::from_array([0.0, 0.01 * frame as f32, 0.0, 0.0, 0.0, 1.1]).unwrap();
        Feature { time: MediaTime::of_frame(frame, 25), pose, code: Code::NEUTRAL }
    }

    fn unit_times(sent: &mut mpsc::Receiver<Input>) -> Vec<MediaTime> {
        let inputs = std::iter::from_fn(|| sent.try_recv().ok());
        inputs
            .filter_map(|input| match input {
                Input::Frame(frame) => frame.unit.map(|unit| unit.time),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn the_last_recorded_feature_becomes_a_unit_though_none_is_due() {
        let (mut worker, _command, mut sent) = recorded_worker();
        for frame in 0..6 {
            worker.process_feature(&nod(frame), frame == 5);
        }
        let want = [0, 2, 4, 5].map(|frame| MediaTime::of_frame(frame, 25));
        assert_eq!(unit_times(&mut sent), want);
    }

    #[test]
    fn overdue_recorded_features_are_skipped_but_for_the_last() {
        let (mut worker, command, mut sent) = recorded_worker();
        let features = (0..6).map(|frame| Ok(nod(frame)));
        let suspended = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        let thread = std::thread::spawn(move || worker.play_recorded(features, suspended));
        let mut units = Vec::new();
        loop {
            match sent.blocking_recv().unwrap() {
                Input::Frame(frame) => units.extend(frame.unit.map(|unit| unit.time)),
                Input::SourceEnded(error) => break assert!(error.is_none()),
                _ => {}
            }
        }
        command.send(ThreadCommand::Stop).unwrap();
        thread.join().unwrap();
        assert_eq!(units, [MediaTime::of_frame(5, 25)]);
    }

    #[test]
    fn nothing_is_encoded_while_the_camera_is_off_and_a_key_unit_follows() {
        let (mut worker, _command, mut sent) = recorded_worker();
        let is_key = |sent: &mut mpsc::Receiver<Input>| match sent.try_recv() {
            Ok(Input::Frame(frame)) => frame.unit.map(|unit| unit.decoded.is_key),
            _ => None,
        };
        for frame in [0, 2] {
            worker.process_feature(&nod(frame), true);
            worker.apply(EncoderCommand::Acknowledge(types::UnitNumber(frame / 2)));
        }
        assert_eq!((is_key(&mut sent), is_key(&mut sent)), (Some(true), Some(false)));
        worker.apply(EncoderCommand::SetCameraOn(false));
        worker.process_feature(&nod(4), true);
        assert_eq!(is_key(&mut sent), None);
        worker.apply(EncoderCommand::SetCameraOn(true));
        worker.process_feature(&nod(6), true);
        assert_eq!(is_key(&mut sent), Some(true));
    }

    #[test]
    fn a_change_of_rate_needs_no_key_unit() {
        let (mut worker, _command, mut sent) = recorded_worker();
        for (frame, rate) in (0..).zip(Rate::ALL.into_iter().chain(Rate::ALL)) {
            worker.apply(EncoderCommand::SetRate(rate));
            worker.process_feature(&nod(5 * frame), false);
            let Ok(Input::Frame(sent)) = sent.try_recv() else { panic!("unit {frame} is due") };
            let unit = sent.unit.expect("a unit is due");
            assert_eq!((unit.decoded.is_key, unit.decoded.rate), (frame == 0, rate.coded()));
            worker.apply(EncoderCommand::Acknowledge(unit.number));
        }
    }
}
