//! Keeps the peer's sound and face together: whichever is ahead waits for the other.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use transport::Playout;
use types::MediaTime;

/// How far sound may be ahead of the face before it waits, and behind the face before the face waits.
/// People notice 45 ms of one and 125 ms of the other (ITU-R BT.1359).
const EARLY: f64 = 0.028;
const LATE: f64 = 0.025;
/// Longest time beyond the shortest one in the network that sound is held for the face. A face that is
/// further behind comes from a machine that cannot keep up: it is not waited for, because people can do
/// without lip sync, but not talk with half a second of delay. [`Playout::hold`] limits the wait of the
/// face for sound.
const MAX_WAIT: f64 = 0.4;
/// How slowly the wait of sound gets shorter, in seconds per second: with the need for it, and when it
/// is given up.
const DECAY: f64 = 0.02;
const GIVE_UP: f64 = 0.1;
/// Deviation from its mean lag from which sound has started again.
const RESTART: f64 = 0.5;
/// Time constant of the mean lag of sound, in seconds.
const SMOOTHING: f64 = 0.25;
/// How long the last feature may be overdue before there is no face to wait for.
const MAX_OVERDUE: Duration = Duration::from_secs(1);
/// How long the face still waits for a voice that pauses.
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// Blocks of sound of which the skew is kept: one minute.
const MAX_SKEWS: usize = 6000;

/// A block of sound that is heard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    /// When its first sample leaves the speaker.
    pub(crate) at: Instant,
    /// When its first sample was captured, on the clock of the features.
    pub(crate) time: MediaTime,
    /// Whether it is the peer's voice, not noise that fills a pause.
    pub(crate) is_voice: bool,
    /// How long it was held beyond the shortest time in the network.
    pub(crate) delay: Duration,
}

/// Controller of lip sync. The face and the sound have a delay of their own, which the network calls for; the
/// greater of the two becomes that of both, within tolerances.
#[derive(Debug, Default)]
pub(crate) struct LipSync {
    /// Mean of the time from capture to the speaker plus the difference of the clocks, seconds.
    lag: Option<f64>,
    /// Time 0 of the local clock in seconds, and the last block.
    origin: Option<Instant>,
    last: f64,
    last_voice: f64,
    /// What sound has to wait for the face.
    min_delay: f64,
    /// Sound behind the face, milliseconds, of the newest blocks with voice.
    skews: VecDeque<f32>,
}

/// Distribution of the skew of the last minute: how much later sound is heard than its face is shown,
/// milliseconds. Negative: sound is early.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Skew {
    pub(crate) p5: f64,
    pub(crate) median: f64,
    pub(crate) p95: f64,
}

impl LipSync {
    /// Takes the block of sound that is played next. Makes the face wait for sound, and returns the least
    /// delay of sound in the receiver.
    pub(crate) fn step(&mut self, heard: &Heard, playout: &mut Playout) -> Duration {
        let origin = *self.origin.get_or_insert(heard.at);
        let now = heard.at.saturating_duration_since(origin).as_secs_f64();
        let passed = (now - self.last).clamp(0.0, 1.0);
        self.last = now;
        if heard.is_voice {
            self.last_voice = now;
        }
        let lag = now - heard.time.as_secs_f64();
        let mean = *self.lag.get_or_insert(lag);
        // A restart of the sound is no noise around a mean.
        let share = if (lag - mean).abs() > RESTART { 1.0 } else { passed / SMOOTHING };
        let mean = mean + (lag - mean) * share.min(1.0);
        self.lag = Some(mean);
        let shown = playout.due(heard.at).zip(playout.earliest_due(heard.at));
        let newest = playout.newest().unwrap_or_default();
        let shown = shown.filter(|(due, _)| due.saturating_since(newest) < MAX_OVERDUE);
        let Some((due, earliest)) = shown else {
            playout.release();
            self.min_delay = (self.min_delay - passed).max(0.0);
            return Duration::from_secs_f64(self.min_delay);
        };
        if heard.is_voice {
            if self.skews.len() == MAX_SKEWS {
                self.skews.pop_front();
            }
            let skew = due.as_secs_f64() - heard.time.as_secs_f64();
            self.skews.push_back(1000.0 * skew as f32);
        }
        if now - self.last_voice < MAX_PAUSE.as_secs_f64() {
            let latest = (now - mean + LATE).max(0.0);
            playout.hold(heard.at, MediaTime::from_micros((latest * 1e6) as u64));
        } else {
            playout.release();
        }
        let shortest = mean - heard.delay.as_secs_f64();
        let face = now - earliest.as_secs_f64();
        let wanted = (face - EARLY - shortest).max(0.0);
        let (wanted, decay) = if wanted > MAX_WAIT { (0.0, GIVE_UP) } else { (wanted, DECAY) };
        self.min_delay = wanted.max(self.min_delay - decay * passed);
        Duration::from_secs_f64(self.min_delay)
    }

    /// Returns the skew of the last minute; `None` if there was no voice with a face.
    pub(crate) fn skew(&self) -> Option<Skew> {
        let mut sorted: Vec<f32> = self.skews.iter().copied().collect();
        sorted.sort_by(f32::total_cmp);
        let at = |share: f64| {
            sorted.get((share * (sorted.len().saturating_sub(1)) as f64).round() as usize)
        };
        let (p5, median, p95) = (at(0.05)?, at(0.5)?, at(0.95)?);
        Some(Skew { p5: f64::from(*p5), median: f64::from(*median), p95: f64::from(*p95) })
    }
}

#[cfg(test)]
mod tests {
    use types::{Code, Feature, HeadPose, Rate};

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// One way of a call with sound and a face on the virtual clock.
    struct Way {
        rate: Rate,
        /// Time in the network: at least this, and up to as much longer, milliseconds.
        transit: u64,
        jitter: u64,
        /// Packets lost of each hundred.
        loss: u64,
        /// What tracker and encoder take, milliseconds.
        tracking: u64,
    }

    impl Way {
        /// Calls for some seconds with a receiver of sound that plays up to 10 % faster or slower. Returns
        /// the skew of the last minute, and the greatest delay of sound and of the face in it.
        fn call(&self, seconds: u64) -> (Skew, f64, Duration) {
            #[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
            let start = Instant::now();
            let (mut playout, mut lip_sync) = (Playout::new(), LipSync::default());
            let mut random = 7_u64;
            let mut transit = || {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let draw = random >> 40;
                let is_lost = draw % 100 < self.loss;
                (!is_lost).then(|| self.transit + (draw / 100) % (self.jitter + 1))
            };
            let parameters = self.rate.parameters();
            let packet = parameters.opus_frame.as_millis() as u64;
            let unit_interval = 40 * u64::from(parameters.unit_interval);
            let mut features = Vec::new();
            let own_delay = self.jitter as f64 + 10.0;
            let (mut delay, mut wanted) = (own_delay, 0.0_f64);
            let (mut longest, mut longest_face) = (0.0_f64, Duration::ZERO);
            for now in (0..1000 * seconds).step_by(10) {
                if now % unit_interval == 0 {
                    let feature = Feature {
                        time: MediaTime::from_micros(1000 * now),
                        pose: HeadPose::from_array([0.0, 0.0, 0.0, 0.0, 0.0, 1.0]).unwrap(),
                        code: Code::NEUTRAL,
                    };
                    let arrival = |transit| (now + self.tracking + transit, feature);
                    features.extend(transit().map(arrival));
                }
                features.retain(|(arrival, feature)| {
                    let is_here = *arrival <= now;
                    if is_here {
                        playout.push(start + ms(*arrival), &[*feature]);
                    }
                    !is_here
                });
                playout.at(start + ms(now));
                delay += (own_delay.max(wanted) - delay).clamp(-1.0, 1.0);
                let lag = (packet + self.transit) as f64 + delay;
                let Some(time) = Some(now as f64 - lag).filter(|time| *time >= 0.0) else {
                    continue;
                };
                let heard = Heard {
                    at: start + ms(now),
                    time: MediaTime::from_micros((1000.0 * time) as u64),
                    is_voice: true,
                    delay: Duration::from_secs_f64(delay / 1000.0),
                };
                wanted = lip_sync.step(&heard, &mut playout).as_secs_f64() * 1000.0;
                longest = longest.max(delay);
                longest_face = longest_face.max(playout.delay());
            }
            (lip_sync.skew().unwrap(), longest, longest_face)
        }
    }

    #[test]
    fn sound_and_face_stay_together_at_every_rate_on_quiet_and_bad_networks() {
        for rate in Rate::ALL {
            for (jitter, loss) in [(5, 0), (60, 10)] {
                let way = Way { rate, transit: 40, jitter, loss, tracking: 30 };
                let (skew, ..) = way.call(80);
                assert!(skew.p5 >= -40.0 && skew.p95 <= 60.0, "{rate}, {jitter} ms: {skew:?}");
            }
        }
    }

    #[test]
    fn at_high_rate_neither_waits_for_the_other() {
        let way = Way { rate: Rate::High, transit: 40, jitter: 5, loss: 0, tracking: 30 };
        let (_, sound, face) = way.call(20);
        assert!(sound < 60.0 && face < ms(110), "sound {sound} ms, face {face:?}");
    }

    #[test]
    fn a_face_that_is_far_behind_is_not_waited_for() {
        let way = Way { rate: Rate::Normal, transit: 40, jitter: 5, loss: 0, tracking: 700 };
        let (_, sound, _) = way.call(20);
        assert!(sound < 20.0, "{sound} ms");
    }

    #[test]
    fn a_voice_without_a_face_does_not_wait() {
        #[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
        let start = Instant::now();
        let (mut playout, mut lip_sync) = (Playout::new(), LipSync::default());
        for block in 0..200 {
            let heard = Heard {
                at: start + ms(200 + 10 * block),
                time: MediaTime::from_micros(10_000 * block),
                is_voice: true,
                delay: ms(60),
            };
            assert_eq!(lip_sync.step(&heard, &mut playout), Duration::ZERO);
        }
        assert_eq!(lip_sync.skew(), None);
    }
}
