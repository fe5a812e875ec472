//! The thread that turns the source's frames into access units: frame, tracker, encoder.
#![expect(clippy::disallowed_methods, reason = "this thread runs on the wall clock")]

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use capture::{Paced, Source};
use codec::{EncodedUnit, Encoder};
use tokio::sync::mpsc;
use types::{Feature, SquareFrame};

use crate::face_encoder::FaceEncoder;
use crate::load_estimator::LoadEstimator;
use crate::offline::{DecodeStreamError, StreamDecoder};
use crate::session::{EncoderCommand, Input, TrackedFrame};
use crate::settings::LocalMedia;
use crate::shared::{Shared, lock};
use crate::sound_threads::pass_on_sounds;
use crate::voice_sender::VoiceControl;

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

/// Handle of the running thread. Dropping it stops the thread and waits for it.
pub(crate) struct FaceSender {
    commands: SyncSender<ThreadCommand>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is asked to do.
enum ThreadCommand {
    Encoder(EncoderCommand),
    Stop,
}

impl FaceSender {
    /// Starts the thread. With `voice`, the sound of the source is encoded and passed on too.
    pub(crate) fn start(
        source: FaceSource,
        media: LocalMedia,
        voice: Option<VoiceControl>,
        shared: Arc<Shared>,
        inputs: mpsc::Sender<Input>,
    ) -> std::io::Result<Self> {
        let (commands, receiver) = sync_channel(MAX_COMMANDS);
        let mut worker = Worker {
            commands: receiver,
            encoder: FrameEncoder::None,
            // A preview needs no face.
            camera_on: media.sends_face() || matches!(source, FaceSource::Preview(_)),
            shared,
            inputs,
            voice,
            started: false,
        };
        let run = move || {
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
            worker.apply(EncoderCommand::SetRate(media.rate));
            if let Some(source) = frames {
                worker.run(source);
            } else if let Some(features) = features
                && worker.wait_for_start()
            {
                worker.play_recorded(features, Instant::now());
            }
        };
        let thread = std::thread::Builder::new().name("feathercall-send".to_owned()).spawn(run)?;
        Ok(Self { commands, thread: Some(thread) })
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
    shared: Arc<Shared>,
    inputs: mpsc::Sender<Input>,
    voice: Option<VoiceControl>,
    /// Whether the peer was connected.
    started: bool,
}

impl Worker {
    /// Processes the frames of a camera, the actor or a clip until the source or the call ends.
    fn run(&mut self, source: Source) {
        // A clip waits for the peer, so that nothing of it is missed. A camera is seen at once.
        let is_live = source.is_live();
        if !is_live && !self.wait_for_start() {
            return;
        }
        let mut load = LoadEstimator::new(source.fps());
        let mut paced = Paced::start(source);
        // A camera has no sound of its own. Without a thread for it, a clip has none either.
        if let Some(voice) = self.voice.take().filter(|_| !is_live) {
            let _ = pass_on_sounds(paced.sounds(), voice, self.inputs.clone());
        }
        while !paced.ended() {
            if !self.handle_commands_until(Instant::now()) {
                return;
            }
            if let Some(frame) = paced.next(FRAME_WAIT)
                && let Some(took) = self.process_frame(&frame, &load, paced.is_late())
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
            let due = start + feature.time.saturating_since(*first.get_or_insert(feature.time));
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

    /// Handles commands until the peer is connected. Returns whether to go on.
    fn wait_for_start(&mut self) -> bool {
        while !self.started {
            match self.commands.recv() {
                Ok(ThreadCommand::Encoder(command)) => self.apply(command),
                Ok(ThreadCommand::Stop) | Err(_) => return false,
            }
        }
        true
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
        let _ = self.inputs.blocking_send(Input::SourceEnded(error));
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
                *lock(&self.shared.preview) = None;
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
        *lock(&self.shared.preview) = Some(frame.clone());
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
        let _ = self.inputs.blocking_send(Input::Frame(Box::new(frame)));
    }
}

#[cfg(test)]
mod tests {
    use codec::Profile;
    use types::{Code, HeadPose, MediaTime, Rate};

    use super::*;

    /// A worker that sends recorded features, its commands, and its outputs.
    fn recorded_worker() -> (Worker, SyncSender<ThreadCommand>, mpsc::Receiver<Input>) {
        let ((command, commands), (inputs, sent)) = (sync_channel(8), mpsc::channel(64));
        let worker = Worker {
            commands,
            encoder: FrameEncoder::Recorded(Box::new(Encoder::new(Profile::default()))),
            camera_on: true,
            shared: Arc::new(Shared::new(LocalMedia::default())),
            inputs,
            voice: None,
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
