//! Echo cancellation, noise suppression and gain control of what a microphone captures.

use std::time::Duration;

use sonora::config::{
    AdaptiveDigital, GainController2, HighPassFilter, MaxProcessingRate, NoiseSuppression, Pipeline,
};
use sonora::{AudioProcessing, Config, StreamConfig};
use types::Sound;

use crate::echo_canceller::EchoCanceller;
use crate::played::BLOCK;

/// What is done with the sound of a microphone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VoiceProcessing {
    /// Remove what the speaker plays and the microphone hears.
    pub echo_cancellation: bool,
    /// Lower steady noise, such as that of a fan.
    pub noise_suppression: bool,
    /// Bring quiet and loud voices to one level.
    pub gain_control: bool,
}

impl VoiceProcessing {
    /// The microphone as it is.
    pub const OFF: Self =
        Self { echo_cancellation: false, noise_suppression: false, gain_control: false };
    /// Everything.
    pub const ON: Self =
        Self { echo_cancellation: true, noise_suppression: true, gain_control: true };
}

impl Default for VoiceProcessing {
    fn default() -> Self {
        Self::ON
    }
}

/// Processor of a microphone, 10 ms at a time.
///
/// It has to be given everything that the speaker plays, [`VoiceProcessor::render`], and everything
/// that the microphone captures, [`VoiceProcessor::capture`], in about the order in which it happens.
/// The processed voice is 6 ms late.
///
/// # Source
/// AEC3, noise suppression and AGC2 of WebRTC, as ported to Rust by the crates `sonora` and `sonora-aec3`.
pub struct VoiceProcessor {
    processing: VoiceProcessing,
    echo: Option<EchoCanceller>,
    /// Noise suppression and gain control.
    audio: AudioProcessing,
}

impl VoiceProcessor {
    /// Makes a processor.
    pub fn new(processing: VoiceProcessing) -> Self {
        let stream = StreamConfig::new(Sound::RATE, 1);
        let audio =
            AudioProcessing::builder().config(config(processing)).capture_config(stream).build();
        let echo = processing.echo_cancellation.then(EchoCanceller::new);
        Self { processing, echo, audio }
    }

    /// Changes what is done. What was switched on has to adapt again.
    pub fn set_processing(&mut self, processing: VoiceProcessing) {
        if processing != self.processing {
            if processing.echo_cancellation != self.processing.echo_cancellation {
                self.echo = processing.echo_cancellation.then(EchoCanceller::new);
            }
            self.processing = processing;
            self.audio.apply_config(config(processing));
        }
    }

    /// Takes what the speaker is given to play.
    pub fn render(&mut self, samples: &[f32; BLOCK]) {
        if let Some(echo) = &mut self.echo {
            echo.render(samples);
        }
    }

    /// Processes what the microphone has captured.
    ///
    /// `delay` is the time from giving samples to [`VoiceProcessor::render`] until their echo is given
    /// to this function, without the way through the room: what is queued for the speaker, and the age
    /// of the captured block. A rough value will do.
    pub fn capture(&mut self, samples: &mut [f32; BLOCK], delay: Duration) {
        if let Some(echo) = &mut self.echo {
            echo.capture(samples, delay);
        }
        if self.processing.noise_suppression || self.processing.gain_control {
            let captured = *samples;
            let processed = self.audio.process_capture_f32(&[&captured], &mut [samples]);
            debug_assert!(processed.is_ok(), "one channel of 10 ms is supported");
        }
    }
}

fn config(processing: VoiceProcessing) -> Config {
    let VoiceProcessing { noise_suppression, gain_control, .. } = processing;
    Config {
        pipeline: Pipeline {
            maximum_internal_processing_rate: MaxProcessingRate::Rate48kHz,
            ..Pipeline::default()
        },
        high_pass_filter: Some(HighPassFilter::default()),
        noise_suppression: noise_suppression.then(NoiseSuppression::default),
        gain_controller2: gain_control.then(|| GainController2 {
            adaptive_digital: Some(AdaptiveDigital::default()),
            ..GainController2::default()
        }),
        ..Config::default()
    }
}
