//! Threads of sound: a microphone or a clip at one end, a speaker at the other. They do nothing that takes
//! long, so that sound is in time on a busy machine.

#![expect(clippy::disallowed_methods, reason = "the threads of the sound devices start here")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use capture::{DeviceChange, Microphone, MicrophoneSpec, PacedSounds, Speaker, SpeakerSpec};
use tokio::sync::mpsc;
use types::{MediaTime, Sound};
use voice::{SoundKind, VoicePacket, VoiceReceiver};

use crate::session::Input;
use crate::voice_sender::{VoiceControl, VoiceSender};

/// Packets that wait for the playback thread. More are dropped.
const MAX_PACKETS: usize = 64;
/// Time between two blocks that the speaker is given.
const BLOCK_TIME: Duration = Duration::from_millis(10);
/// How far a busy machine may fall behind before blocks are left out.
const MAX_BEHIND: Duration = Duration::from_millis(100);
/// Audio samples of a block that is sent.
const SOUND_SAMPLES: usize = 960;
/// How long the microphone thread waits for sound before it looks whether to stop.
const MICROPHONE_WAIT: Duration = Duration::from_millis(100);

/// Thread that decodes the peer's sound and plays it. It decodes even without a speaker.
pub(crate) struct PlaybackThread {
    packets: SyncSender<VoicePacket>,
    samples: Arc<AtomicU64>,
}

impl PlaybackThread {
    /// Starts the thread; the speaker is opened when the first packet arrives.
    pub(crate) fn start(inputs: mpsc::Sender<Input>) -> std::io::Result<Self> {
        let (packets, receiver) = sync_channel(MAX_PACKETS);
        let samples = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&samples);
        std::thread::Builder::new()
            .name("feathercall-play".to_owned())
            .spawn(move || play(&receiver, &counter, &inputs))?;
        Ok(Self { packets, samples })
    }

    /// Queues a packet, or drops it when the queue is full.
    pub(crate) fn push(&self, packet: VoicePacket) {
        let _ = self.packets.try_send(packet);
    }

    /// Returns the number of audio samples decoded so far, at 48 kHz.
    pub(crate) fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }
}

fn play(packets: &Receiver<VoicePacket>, samples: &AtomicU64, inputs: &mpsc::Sender<Input>) {
    let Some(mut receiver) = VoiceReceiver::new() else { return };
    let Ok(first) = packets.recv() else { return };
    let mut speaker = match Speaker::open(&SpeakerSpec::Default) {
        Ok(speaker) => Some(speaker),
        Err(error) => {
            let _ = inputs.blocking_send(Input::NoSound(error.to_string()));
            None
        }
    };
    receiver.insert(Instant::now(), first);
    let mut next_block = Instant::now();
    loop {
        let now = Instant::now();
        match packets.recv_timeout(next_block.saturating_duration_since(now)) {
            Ok(packet) => receiver.insert(Instant::now(), packet),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = Instant::now();
        if now < next_block {
            continue;
        }
        next_block = (next_block + BLOCK_TIME).max(now.checked_sub(MAX_BEHIND).unwrap_or(now));
        let block = receiver.pull(now);
        if block.kind == SoundKind::Decoded {
            samples.fetch_add(block.samples.len() as u64, Ordering::Relaxed);
        }
        if let Some(speaker) = &mut speaker {
            speaker.play(&block.samples);
            report(speaker.take_change(), inputs);
        }
    }
}

/// Reports that a device cannot be used.
fn report(change: Option<DeviceChange>, inputs: &mpsc::Sender<Input>) {
    if let Some(change @ DeviceChange::Lost { .. }) = change {
        let _ = inputs.blocking_send(Input::NoSound(change.to_string()));
    }
}

/// Thread that reads the microphone. Dropping it stops the thread.
pub(crate) struct MicrophoneThread {
    stop: Arc<AtomicBool>,
}

impl MicrophoneThread {
    /// Starts the thread.
    pub(crate) fn start(
        control: VoiceControl,
        inputs: mpsc::Sender<Input>,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::Builder::new()
            .name("feathercall-listen".to_owned())
            .spawn(move || listen(&stopped, control, &inputs))?;
        Ok(Self { stop })
    }
}

impl Drop for MicrophoneThread {
    fn drop(&mut self) {
        // The thread ends by itself. Waiting for it here could wait for our own queue.
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn listen(stopped: &AtomicBool, control: VoiceControl, inputs: &mpsc::Sender<Input>) {
    let mut microphone = match Microphone::open(&MicrophoneSpec::Default) {
        Ok(microphone) => microphone,
        Err(error) => {
            let _ = inputs.blocking_send(Input::NoSound(error.to_string()));
            return;
        }
    };
    let Some(mut sender) = VoiceSender::new(control, inputs.clone()) else { return };
    let mut zero = None;
    let mut sound = Sound { time: MediaTime::ZERO, samples: Vec::new() };
    while !stopped.load(Ordering::Relaxed) {
        report(microphone.take_change(), inputs);
        let Some(block) = microphone.next_block(MICROPHONE_WAIT) else { continue };
        let zero = *zero.get_or_insert(block.captured);
        if sound.samples.is_empty() {
            let since = block.captured.saturating_duration_since(zero);
            sound.time = MediaTime::from_micros(since.as_micros() as u64);
        }
        sound.samples.extend(block.samples);
        if sound.samples.len() >= SOUND_SAMPLES {
            let samples = std::mem::take(&mut sound.samples);
            let whole = Sound { time: sound.time, samples };
            if !sender.send(&whole) {
                return;
            }
        }
    }
}

/// Starts a thread that passes on the sound of a clip or of the actor, and says once if there is none. It ends with
/// the source.
pub(crate) fn pass_on_sounds(
    mut sounds: PacedSounds,
    control: VoiceControl,
    inputs: mpsc::Sender<Input>,
) -> std::io::Result<()> {
    let run = move || {
        let Some(mut sender) = VoiceSender::new(control, inputs.clone()) else { return };
        while let Some(sounds) = sounds.wait() {
            if !sounds.iter().all(|sound| sender.send(sound)) {
                return;
            }
        }
        if let Some(error) = sounds.take_error() {
            let _ = inputs.blocking_send(Input::NoSound(error.to_string()));
        }
    };
    std::thread::Builder::new().name("feathercall-clip".to_owned()).spawn(run)?;
    Ok(())
}
