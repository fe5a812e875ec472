#![expect(clippy::disallowed_methods, reason = "the playing thread starts here, on the wall clock")]

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use capture::{DeviceChange, Speaker, SpeakerSpec};
use transport::MEDIA_TIME_PERIOD;
use types::MediaTime;
use voice::{LevelMeter, PlayedVoice, SoundKind, VoicePacket, VoiceReceiver};

use super::Sounding;
use crate::lip_sync::{Heard, LipSync, Skew};
use crate::session::Input;
use crate::shared::lock;
use crate::stats::Stats;

/// Packets that wait for the thread. More are dropped.
const MAX_PACKETS: usize = 64;
/// How long the thread waits for the speaker before it looks for packets.
const WAIT: Duration = Duration::from_millis(100);

/// Where sound is played.
pub(crate) enum PlayedOn {
    /// A speaker that is open already: a file, or none.
    Open(Box<Speaker>),
    /// A device, opened when the thread starts.
    Device(SpeakerSpec),
}

/// Blocks of sound that were played.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct PlayedBlocks {
    decoded: u64,
    recovered: u64,
    concealed: u64,
}

/// Figures of the thread, for the statistics.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PlayFigures {
    /// Of all peers.
    blocks: PlayedBlocks,
    /// How long the sound of the peer is held.
    delay: Duration,
    pub(crate) skew: Option<Skew>,
    /// How long it takes until what is played now is heard.
    pub(crate) queued: Duration,
    /// How many times the speaker had nothing to play.
    pub(crate) n_gaps: u64,
}

impl PlayFigures {
    /// Adds the figures to the statistics of a call.
    pub(crate) fn complete(&self, stats: &mut Stats) {
        let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
        stats.sound_samples_in = self.blocks.decoded * super::BLOCK_SAMPLES as u64;
        stats.sound_samples_recovered = self.blocks.recovered * super::BLOCK_SAMPLES as u64;
        stats.sound_samples_concealed = self.blocks.concealed * super::BLOCK_SAMPLES as u64;
        stats.sound_delay_ms = ms(self.delay);
        stats.speaker_delay_ms = ms(self.queued);
        stats.speaker_gaps = self.n_gaps;
        stats.lip_sync_ms = self.skew.map(|skew| skew.median);
        stats.lip_sync_p5_ms = self.skew.map(|skew| skew.p5);
        stats.lip_sync_p95_ms = self.skew.map(|skew| skew.p95);
    }
}

/// Thread that puts the peer's sound in order and plays it, at the pace of the speaker. Dropping it stops
/// the thread and waits until a file in place of a speaker is complete.
pub(crate) struct PlayThread {
    packets: Option<SyncSender<(Instant, VoicePacket)>>,
    figures: Arc<Mutex<PlayFigures>>,
    clock_shift: Arc<AtomicI64>,
    n_forgotten: Arc<AtomicU32>,
    connected_us: Arc<AtomicU64>,
    thread: Option<JoinHandle<Vec<DeviceChange>>>,
}

impl PlayThread {
    /// Starts the thread.
    pub(crate) fn start(played_on: PlayedOn, sounding: Sounding) -> std::io::Result<Self> {
        let (packets, receiver) = sync_channel(MAX_PACKETS);
        let figures = Arc::new(Mutex::default());
        let clock_shift = Arc::new(AtomicI64::new(0));
        let n_forgotten = Arc::new(AtomicU32::new(0));
        let connected_us = Arc::new(AtomicU64::new(0));
        let player = Player {
            packets: receiver,
            n_forgotten: Arc::clone(&n_forgotten),
            connected_us: Arc::clone(&connected_us),
            figures: Arc::clone(&figures),
            clock_shift: Arc::clone(&clock_shift),
            sounding,
        };
        let run = move || {
            super::raise_priority();
            player.run(played_on)
        };
        let thread = std::thread::Builder::new().name("feathercall-play".to_owned()).spawn(run)?;
        let packets = Some(packets);
        let thread = Some(thread);
        Ok(Self { packets, figures, clock_shift, n_forgotten, connected_us, thread })
    }

    /// Queues a packet that has arrived at `now`, or drops it when the queue is full.
    pub(crate) fn push(&self, now: Instant, packet: VoicePacket) {
        if let Some(packets) = &self.packets {
            let _ = packets.try_send((now, packet));
        }
    }

    /// Forgets the peer, whose place another one takes.
    pub(crate) fn forget_peer(&self) {
        self.clock_shift.store(0, Ordering::Relaxed);
        self.n_forgotten.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that another peer was connected at this time of our clock. Its own clock began then.
    pub(crate) fn begin_peer(&self, connected: MediaTime) {
        self.connected_us.store(connected.as_micros(), Ordering::Relaxed);
    }

    /// Sets what is added to the peer's clock to get the media time of its features, microseconds.
    pub(crate) fn set_clock_shift(&self, micros: i64) {
        self.clock_shift.store(micros, Ordering::Relaxed);
    }

    /// Returns figures as of the last full second.
    pub(crate) fn figures(&self) -> PlayFigures {
        *lock(&self.figures)
    }

    /// Stops the thread, waits until a file in place of a speaker is complete, and returns what has
    /// happened to the speaker at last.
    pub(crate) fn finish(mut self) -> Vec<DeviceChange> {
        self.stop()
    }

    fn stop(&mut self) -> Vec<DeviceChange> {
        self.packets = None;
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for PlayThread {
    fn drop(&mut self) {
        self.stop();
    }
}

/// State of the thread.
struct Player {
    packets: Receiver<(Instant, VoicePacket)>,
    /// How many peers have left.
    n_forgotten: Arc<AtomicU32>,
    /// When the peer was connected, on our clock, microseconds.
    connected_us: Arc<AtomicU64>,
    figures: Arc<Mutex<PlayFigures>>,
    clock_shift: Arc<AtomicI64>,
    sounding: Sounding,
}

/// What the thread knows about the peer.
struct Peer {
    /// How many have left before it.
    number: u32,
    /// What was played of those.
    before: PlayedBlocks,
    receiver: VoiceReceiver,
    lip_sync: LipSync,
    meter: LevelMeter,
}

impl Peer {
    fn new(number: u32, before: PlayedBlocks) -> Option<Self> {
        Some(Self {
            number,
            before,
            receiver: VoiceReceiver::new()?,
            lip_sync: LipSync::default(),
            meter: LevelMeter::new(),
        })
    }

    /// Returns what was played so far, of those before it, too.
    fn blocks(&self) -> PlayedBlocks {
        let stats = self.receiver.stats();
        PlayedBlocks {
            decoded: self.before.decoded + stats.decoded_blocks,
            recovered: self.before.recovered + stats.recovered_blocks,
            concealed: self.before.concealed + stats.concealed_blocks,
        }
    }
}

impl Player {
    /// Plays until there will be no more packets. Returns what has happened to the speaker at last, when
    /// nobody listens to reports any more.
    fn run(self, played_on: PlayedOn) -> Vec<DeviceChange> {
        let Some(mut peer) = Peer::new(0, PlayedBlocks::default()) else {
            self.sounding.report(Input::NoSound("the sound codec does not start".to_owned()));
            return Vec::new();
        };
        let Some(mut speaker) = self.open(played_on) else { return Vec::new() };
        let mut next_figures = Instant::now();
        loop {
            let is_wanted = speaker.wait_for_room(WAIT);
            if !self.take_packets(&mut peer) {
                break;
            }
            while let Some(change) = speaker.take_change() {
                self.sounding.report(Input::SoundDevice(change));
            }
            let now = Instant::now();
            if is_wanted {
                let played = peer.receiver.pull(now);
                let heard_at = now + speaker.queued();
                self.note(&mut peer, heard_at, &played);
                self.sounding.played.push(&played.samples, speaker.queued());
                speaker.play(&played.samples);
            }
            if now >= next_figures {
                next_figures = now + Duration::from_millis(200);
                *lock(&self.figures) = PlayFigures {
                    blocks: peer.blocks(),
                    delay: peer.receiver.stats().delay,
                    skew: peer.lip_sync.skew(),
                    queued: speaker.queued(),
                    n_gaps: speaker.n_gaps(),
                };
            }
        }
        let mut last: Vec<DeviceChange> = std::iter::from_fn(|| speaker.take_change()).collect();
        if let Err(error) = speaker.finish() {
            last.push(DeviceChange::NotCompleted { why: error.to_string() });
        }
        last
    }

    /// Opens the speaker. Without one, sound is received in silence.
    fn open(&self, played_on: PlayedOn) -> Option<Speaker> {
        match played_on {
            PlayedOn::Open(speaker) => Some(*speaker),
            PlayedOn::Device(spec) => match Speaker::open(&spec) {
                Ok(speaker) => Some(speaker),
                Err(error) => {
                    self.sounding.report(Input::NoSound(error.to_string()));
                    Speaker::open(&SpeakerSpec::Silent).ok()
                }
            },
        }
    }

    /// Takes the packets that have come. Returns whether to go on.
    fn take_packets(&self, peer: &mut Peer) -> bool {
        let number = self.n_forgotten.load(Ordering::Relaxed);
        if number != peer.number {
            // What still waits is of the one that has left.
            while self.packets.try_recv().is_ok() {}
            if let Some(new) = Peer::new(number, peer.blocks()) {
                *peer = new;
            }
            lock(&self.sounding.shared.mixer).forget_peer();
        }
        loop {
            match self.packets.try_recv() {
                Ok((arrived, packet)) => peer.receiver.insert(arrived, packet),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// Keeps sound and face together, and notes what is heard from `at` on.
    fn note(&self, peer: &mut Peer, at: Instant, played: &PlayedVoice) {
        let shift = self.clock_shift.load(Ordering::Relaxed);
        let is_voice =
            matches!(played.kind, SoundKind::Decoded | SoundKind::Recovered | SoundKind::Concealed);
        let shared = &self.sounding.shared;
        let time = {
            let mut playout = lock(&shared.playout);
            let shown = playout.due(at);
            if let Some(time) = played.time {
                let time = on_clock_of_features(time, shift, shown);
                let delay = peer.receiver.stats().delay;
                let heard = Heard { at, time, is_voice, delay };
                let min_delay = peer.lip_sync.step(&heard, &mut playout);
                peer.receiver.set_min_delay(min_delay);
                Some(time)
            } else {
                shown
            }
        };
        let level = peer.meter.push(&played.samples);
        let mut mixer = lock(&shared.mixer);
        // Before anything has arrived, our own clock says how long the peer has been here.
        let time = time.unwrap_or_else(|| {
            let connected = MediaTime::from_micros(self.connected_us.load(Ordering::Relaxed));
            MediaTime::ZERO + self.sounding.clock.at(at).saturating_since(connected)
        });
        mixer.heard(at, time, &played.samples);
        drop(mixer);
        lock(&shared.sound).levels.peer = Some(level);
    }
}

/// Converts a capture time of sound to the clock of the features, which is shifted by `shift` microseconds
/// and may have begun again at zero several times: they are taken to be near `shown`.
fn on_clock_of_features(time: MediaTime, shift: i64, shown: Option<MediaTime>) -> MediaTime {
    let micros = time.as_micros().saturating_add_signed(shift);
    let Some(shown) = shown else { return MediaTime::from_micros(micros) };
    let period = MEDIA_TIME_PERIOD.as_micros() as u64;
    let half = period / 2;
    let ahead = shown.as_micros().saturating_add(half).saturating_sub(micros) / period;
    let behind = micros.saturating_add(half).saturating_sub(shown.as_micros()) / period;
    MediaTime::from_micros(micros.saturating_add(ahead * period).saturating_sub(behind * period))
}

#[cfg(test)]
mod tests {
    use types::{Rate, Sound};
    use voice::VoiceEncoder;

    use super::*;
    use crate::call_clock::CallClock;
    use crate::settings::LocalMedia;
    use crate::shared::Shared;

    #[test]
    fn what_was_heard_of_one_guest_still_counts_with_the_next_one() {
        let (sender, packets) = sync_channel(MAX_PACKETS);
        let shared = Arc::new(Shared::new(LocalMedia::default()));
        let (inputs, _receiver) = tokio::sync::mpsc::channel(1);
        let n_forgotten = Arc::new(AtomicU32::new(0));
        let player = Player {
            packets,
            n_forgotten: Arc::clone(&n_forgotten),
            connected_us: Arc::default(),
            figures: Arc::default(),
            clock_shift: Arc::default(),
            sounding: Sounding::new(CallClock::default(), shared, inputs),
        };
        let mut peer = Peer::new(0, PlayedBlocks::default()).unwrap();
        let mut heard = Vec::new();
        for guest in 0..2 {
            n_forgotten.store(guest, Ordering::Relaxed);
            assert!(player.take_packets(&mut peer));
            let mut encoder = VoiceEncoder::new(Rate::High).unwrap();
            let start = Instant::now();
            let mut sequence = 0;
            for i in 0..100_u32 {
                let now = start + Duration::from_millis(10) * i;
                let time = MediaTime::from_micros(u64::from(i) * 10_000);
                let samples = (0..480).map(|n| 0.3 * (f32::from(n as u8) * 0.1).sin()).collect();
                for voice in encoder.encode(&Sound { time, samples }, false) {
                    let timestamp = (voice.time.as_micros() * 48 / 1000) as u32;
                    sequence += 1;
                    let packet = VoicePacket { sequence, timestamp, opus: voice.opus };
                    sender.send((now, packet)).unwrap();
                }
                assert!(player.take_packets(&mut peer));
                peer.receiver.pull(now);
            }
            heard.push(peer.blocks().decoded);
        }
        assert!(heard[0] > 80 && heard[1] > 160, "{heard:?}");
    }

    #[test]
    fn sound_is_put_on_the_clock_of_the_features() {
        let s = |s: u64| MediaTime::from_micros(s * 1_000_000);
        let period = MEDIA_TIME_PERIOD;
        assert_eq!(on_clock_of_features(s(100), 0, None), s(100));
        assert_eq!(on_clock_of_features(s(100), 5_000_000, Some(s(104))), s(105));
        assert_eq!(on_clock_of_features(s(100), -5_000_000, Some(s(104))), s(95));
        // A guest that came after two periods of the features' clock.
        assert_eq!(on_clock_of_features(s(100) + 2 * period, 0, Some(s(101))), s(100));
        assert_eq!(on_clock_of_features(s(100), 0, Some(s(101) + 2 * period)), s(100) + 2 * period);
    }
}
