//! Whether the peer is still there, and the figures of every second.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use transport::Role;

use super::Session;
use crate::event::{CallFailure, End, Event};
use crate::sound::Playing;

/// A peer not heard of for this long is lost,
const LOST_AFTER: Duration = Duration::from_secs(5);
/// and for this long is gone.
const GONE_AFTER: Duration = Duration::from_secs(20);
/// A guest says that it is here this often, until it is offered something.
const HERE_EVERY: Duration = Duration::from_secs(2);
/// A lost guest starts again this often.
const REJOIN_EVERY: Duration = Duration::from_secs(4);
/// A path through the network is found by then, or there is none.
const PATH_WITHIN: Duration = Duration::from_secs(30);

impl Session {
    /// Whether anything was heard of the peer lately.
    pub(super) fn is_alive(&self, now: Instant) -> bool {
        let heard = self.parts.meter.last_in();
        self.open == [true; 2]
            && heard.is_some_and(|at| now.saturating_duration_since(at) < LOST_AFTER)
    }

    pub(super) fn watch(&mut self, now: Instant) {
        let is_guest = self.parts.role == Role::Guest;
        if self.link.is_none() && is_guest {
            if self.last_here.is_some_and(|at| now.duration_since(at) >= HERE_EVERY) {
                self.say_here(now);
            }
            return;
        }
        if !self.ever_connected {
            let since = self.linking_since.filter(|_| self.line.is_some());
            if since.is_some_and(|since| now.duration_since(since) > PATH_WITHIN) {
                self.fail(CallFailure::NoPath);
            }
            return;
        }
        let heard = self.parts.meter.last_in().unwrap_or(now);
        let silent = now.saturating_duration_since(heard);
        if self.lost && silent > GONE_AFTER {
            self.end = Some(End::PeerVanished);
        } else if self.greeted && !self.lost && silent > LOST_AFTER {
            self.lost = true;
            self.last_rejoin = Some(now);
            self.tell(Event::PeerLost);
        } else if self.greeted && self.lost && silent < LOST_AFTER {
            self.lost = false;
            self.tell(Event::PeerBack);
        }
        let rejoin_due = self.last_rejoin.is_some_and(|at| now.duration_since(at) >= REJOIN_EVERY);
        if self.lost && is_guest && self.line.is_some() && rejoin_due {
            self.last_rejoin = Some(now);
            self.parts.seal = self.fresh_seal();
            self.say_here(now);
        }
    }

    pub(super) async fn second(&mut self, now: Instant) {
        self.tally.second(now, &self.receiving);
        if !self.greeted {
            self.introduce().await;
        }
        self.publish(now);
    }

    pub(super) fn playout_delay(&self) -> f64 {
        let playout = self.parts.shared.playout.lock().unwrap_or_else(PoisonError::into_inner);
        playout.delay().as_secs_f64()
    }

    pub(super) fn publish(&mut self, now: Instant) {
        let mut stats = self.tally.stats(now, &self.receiving, &self.packetizer);
        stats.connected = self.greeted && !self.lost;
        stats.playout_delay_ms = self.playout_delay() * 1000.0;
        stats.resolution = self.parts.resolution;
        stats.rate = self.parts.rate;
        stats.sound_samples_in = self.parts.playing.as_ref().map_or(0, Playing::samples);
        stats.muted = self.parts.muted;
        stats.camera_off = self.parts.camera_off;
        *self.parts.shared.stats.lock().unwrap_or_else(PoisonError::into_inner) = stats;
    }
}
