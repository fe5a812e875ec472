#![expect(
    clippy::disallowed_methods,
    reason = "the listening thread starts here, on the wall clock"
)]

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use capture::{DeviceChange, LossReason, Microphone, MicrophoneSpec, PacedSounds, SoundError};
use tokio::sync::mpsc;
use types::{Rate, Sound};
use voice::{LevelMeter, VoiceEncoder, VoiceProcessing, VoiceProcessor};

use super::blocks::Blocks;
use super::{Block, Sounding};
use crate::session::{Input, VoiceCommand};
use crate::shared::lock;

/// How long the thread waits for sound before it looks at its state.
const WAIT: Duration = Duration::from_millis(100);
/// Time between two attempts to open the microphone.
const RETRY: Duration = Duration::from_secs(1);
/// How long our sound is off before the microphone is closed, so that the system shows that it is.
const MUTED_BEFORE_CLOSING: Duration = Duration::from_secs(10);

/// What is listened to.
pub(crate) enum Listened {
    /// A microphone, opened when it is needed.
    Microphone(MicrophoneSpec, VoiceProcessing),
    /// The sound of the source: of a clip or of the actor.
    Source(PacedSounds),
}

/// What the thread sends, as the session wants it now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) is_muted: bool,
    pub(crate) rate: Rate,
    /// Before this moment our sound was off.
    pub(crate) unmuted: Option<Instant>,
    /// Whether nobody listens.
    pub(crate) is_paused: bool,
    /// Number of the person who listens.
    pub(crate) listener: u32,
    /// Share of our packets that the peer has lost, 0..=1.
    pub(crate) expected_loss: f32,
}

impl Wanted {
    /// Begins with one person who listens.
    pub(crate) fn new(is_muted: bool, rate: Rate) -> Self {
        Self { is_muted, rate, unmuted: None, is_paused: false, listener: 1, expected_loss: 0.0 }
    }

    /// Returns whether sound that was captured at `captured` is nobody's business.
    fn keeps_back(&self, captured: Instant) -> bool {
        self.is_muted || self.is_paused || self.unmuted.is_some_and(|since| captured < since)
    }
}

impl VoiceCommand {
    /// Carries out the command.
    pub(crate) fn apply(self, wanted: &mut Wanted) {
        match self {
            Self::ChangeRate(rate) => wanted.rate = rate,
            Self::Mute(is_muted) => {
                if wanted.is_muted && !is_muted {
                    wanted.unmuted = Some(Instant::now());
                }
                wanted.is_muted = is_muted;
            }
            Self::Pause(is_paused) => wanted.is_paused = is_paused,
            Self::NewListener(listener) => {
                (wanted.listener, wanted.expected_loss) = (listener, 0.0);
            }
            Self::ExpectLoss(loss) => wanted.expected_loss = loss,
        }
    }
}

/// Thread that listens and encodes. Dropping it stops the thread.
pub(crate) struct ListenThread {
    control: Arc<Control>,
}

struct Control {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy)]
struct State {
    wanted: Wanted,
    is_stopped: bool,
}

impl ListenThread {
    /// Starts the thread.
    pub(crate) fn start(
        listened: Listened,
        wanted: Wanted,
        sounding: Sounding,
    ) -> std::io::Result<Self> {
        let state = Mutex::new(State { wanted, is_stopped: false });
        let control = Arc::new(Control { state, changed: Condvar::new() });
        let thread_control = Arc::clone(&control);
        let run = move || {
            super::raise_priority();
            let Some(listener) = Listener::new(thread_control, sounding) else { return };
            match listened {
                Listened::Microphone(spec, processing) => {
                    listener.listen_to_microphone(&spec, processing);
                }
                Listened::Source(sounds) => listener.listen_to_source(sounds),
            }
        };
        std::thread::Builder::new().name("feathercall-listen".to_owned()).spawn(run)?;
        Ok(Self { control })
    }

    /// Changes what is sent, from the next packet on.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Wanted)) {
        change(&mut lock(&self.control.state).wanted);
        self.control.changed.notify_all();
    }
}

impl Drop for ListenThread {
    fn drop(&mut self) {
        // The thread ends by itself. A driver of the system may hold it up.
        lock(&self.control.state).is_stopped = true;
        self.control.changed.notify_all();
    }
}

/// Returns what to say about a microphone that cannot be opened. One that is away may come back.
fn not_opened(error: SoundError) -> Input {
    match error {
        SoundError::Unknown { device, name, .. } => {
            let (name, reason) = (Some(name), LossReason::Missing);
            Input::SoundDevice(DeviceChange::Lost { device, name, reason })
        }
        error => Input::NoSound(error.to_string()),
    }
}

/// State of the thread.
struct Listener {
    control: Arc<Control>,
    sounding: Sounding,
    encoder: VoiceEncoder,
    meter: LevelMeter,
    sent: Wanted,
}

impl Listener {
    fn new(control: Arc<Control>, sounding: Sounding) -> Option<Self> {
        let sent = lock(&control.state).wanted;
        let Some(encoder) = VoiceEncoder::new(sent.rate) else {
            sounding.report(Input::NoSound("the sound codec does not start".to_owned()));
            return None;
        };
        Some(Self { control, sounding, encoder, meter: LevelMeter::new(), sent })
    }

    fn listen_to_microphone(mut self, spec: &MicrophoneSpec, processing: VoiceProcessing) {
        let mut processor = VoiceProcessor::new(processing);
        let mut microphone: Option<Microphone> = None;
        let mut muted_since = None;
        let mut has_failed = false;
        let mut n_dropped_before = 0;
        // A file goes on by itself; it would begin again.
        let may_close = !matches!(spec, MicrophoneSpec::File(_));
        while let Some(wanted) = self.wanted() {
            if wanted.is_muted || wanted.is_paused {
                let since = *muted_since.get_or_insert_with(Instant::now);
                let is_long = wanted.is_paused || since.elapsed() >= MUTED_BEFORE_CLOSING;
                if may_close
                    && is_long
                    && let Some(closed) = microphone.take()
                {
                    n_dropped_before += closed.n_dropped();
                }
            } else {
                muted_since = None;
                if microphone.is_none() {
                    match Microphone::open(spec) {
                        Ok(opened) => (microphone, has_failed) = (Some(opened), false),
                        Err(error) => {
                            if !std::mem::replace(&mut has_failed, true) {
                                self.sounding.report(not_opened(error));
                            }
                        }
                    }
                }
            }
            let Some(microphone) = &mut microphone else {
                self.wait_for_change(has_failed.then_some(RETRY));
                continue;
            };
            if let Some(mut block) = microphone.next_block(WAIT) {
                while let Some(played) = self.sounding.played.pop() {
                    processor.render(&played);
                }
                let age = block.captured.elapsed();
                processor.capture(&mut block.samples, self.sounding.played.queued() + age);
                let n_dropped = n_dropped_before + microphone.n_dropped();
                lock(&self.sounding.shared.sound).n_dropped = n_dropped;
                if !self.send(block.captured, &block.samples) {
                    return;
                }
            }
            while let Some(change) = microphone.take_change() {
                self.sounding.report(Input::SoundDevice(change));
            }
        }
    }

    fn listen_to_source(mut self, mut sounds: PacedSounds) {
        let mut blocks = Blocks::default();
        while let Some(due) = sounds.wait() {
            let Some((started, first)) = sounds.origin() else { continue };
            for sound in due {
                blocks.push(started + sound.time.saturating_since(first), &sound.samples);
            }
            while let Some((captured, block)) = blocks.pop() {
                if self.wanted().is_none() || !self.send(captured, &block) {
                    return;
                }
            }
        }
        if let Some(error) = sounds.take_error() {
            self.sounding.report(Input::NoSound(error.to_string()));
        }
    }

    /// Returns what is wanted; `None` if the thread is to end.
    fn wanted(&mut self) -> Option<Wanted> {
        let State { wanted, is_stopped } = *lock(&self.control.state);
        if wanted.rate != self.sent.rate {
            self.encoder.set_rate(wanted.rate);
        }
        if wanted.listener != self.sent.listener {
            self.encoder.forget();
        }
        if wanted != self.sent {
            self.encoder.set_expected_loss(wanted.expected_loss);
        }
        self.sent = wanted;
        (!is_stopped).then_some(wanted)
    }

    /// Waits until something else is wanted, at most for `timeout`.
    fn wait_for_change(&self, timeout: Option<Duration>) {
        let state = lock(&self.control.state);
        let is_same = |state: &mut State| !state.is_stopped && state.wanted == self.sent;
        match timeout {
            Some(timeout) => {
                drop(self.control.changed.wait_timeout_while(state, timeout, is_same));
            }
            None => drop(self.control.changed.wait_while(state, is_same)),
        }
    }

    /// Notes what is said, for the meters, the statistics and a recording.
    fn note(&mut self, captured: Instant, block: &Block, is_muted: bool) {
        let shared = &self.sounding.shared;
        let level = (!is_muted).then(|| self.meter.push(block));
        {
            let mut sound = lock(&shared.sound);
            sound.levels.own = level;
            sound.microphone_delay = captured.elapsed();
        }
        if !is_muted {
            lock(&shared.mixer).said(captured, block);
        }
    }

    /// Encodes a block and passes the packets on. Returns whether to go on.
    fn send(&mut self, captured: Instant, block: &Block) -> bool {
        let (is_muted, listener) = (self.sent.keeps_back(captured), self.sent.listener);
        self.note(captured, block, is_muted);
        let sound =
            Sound { time: self.sounding.clock.at(captured), samples: block.as_slice().to_vec() };
        for voice in self.encoder.encode(&sound, is_muted) {
            // When the session does not keep up, sound is lost. It must not become late.
            if let Err(mpsc::error::TrySendError::Closed(_)) =
                self.sounding.inputs.try_send(Input::Voice { voice, listener })
            {
                return false;
            }
        }
        true
    }
}
