//! Encodes our voice on the thread that reads the sound, so that it never waits for the session's other
//! work.

use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use types::{Rate, Sound};
use voice::VoiceEncoder;

use crate::session::{Input, VoiceCommand};
use crate::shared::lock;

/// What the encoder of our voice is to do, set by the driver and read by the threads of sound.
#[derive(Clone, Debug)]
pub(crate) struct VoiceControl(Arc<Mutex<VoiceState>>);

#[derive(Clone, Copy, Debug)]
struct VoiceState {
    rate: Rate,
    muted: bool,
    /// As far as the peer has reported it.
    expected_loss: Option<f32>,
}

impl VoiceControl {
    pub(crate) fn new(rate: Rate, muted: bool) -> Self {
        Self(Arc::new(Mutex::new(VoiceState { rate, muted, expected_loss: None })))
    }

    /// Carries out a command of the session, from the next packet on.
    pub(crate) fn apply(&self, command: VoiceCommand) {
        let mut state = lock(&self.0);
        match command {
            VoiceCommand::ChangeRate(rate) => state.rate = rate,
            VoiceCommand::Mute(muted) => state.muted = muted,
            VoiceCommand::ExpectLoss(loss) => state.expected_loss = Some(loss),
        }
    }
}

/// Encoder at the end of a thread that reads sound.
pub(crate) struct VoiceSender {
    encoder: VoiceEncoder,
    control: VoiceControl,
    inputs: mpsc::Sender<Input>,
}

impl VoiceSender {
    /// Returns a sender; `None` if libopus cannot be set up.
    pub(crate) fn new(control: VoiceControl, inputs: mpsc::Sender<Input>) -> Option<Self> {
        let rate = lock(&control.0).rate;
        Some(Self { encoder: VoiceEncoder::new(rate)?, control, inputs })
    }

    /// Encodes a block of sound and hands the packets over. Returns whether the call goes on.
    pub(crate) fn send(&mut self, sound: &Sound) -> bool {
        let VoiceState { rate, muted, expected_loss } = *lock(&self.control.0);
        self.encoder.set_rate(rate);
        if let Some(loss) = expected_loss {
            self.encoder.set_expected_loss(loss);
        }
        let mut packets = self.encoder.encode(sound, muted).into_iter();
        packets.all(|voice| self.inputs.blocking_send(Input::Voice(voice)).is_ok())
    }
}
