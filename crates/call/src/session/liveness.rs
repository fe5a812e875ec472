//! Deadlines of every phase: announcements, silence, giving up.

use std::time::{Duration, Instant};

use transport::Role;

use super::Session;
use super::phase::Phase;
use crate::event::{CallFailure, End, Event};

/// A peer that was silent for this long is lost.
pub(super) const LOST_AFTER: Duration = Duration::from_secs(5);
/// A lost peer that was silent for this long is gone: the call ends.
const GONE_AFTER: Duration = Duration::from_secs(20);
/// Interval at which a guest announces itself until it has an offer.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
/// Interval at which a guest that has lost the host announces itself.
const REJOIN_INTERVAL: Duration = Duration::from_secs(4);
/// A link that is not connected this long after its answer has no path through the network.
const PATH_TIMEOUT: Duration = Duration::from_secs(30);
/// Interval at which a hello is repeated until the peer has heard it, and at most answered.
pub(super) const HELLO_INTERVAL: Duration = Duration::from_secs(1);

impl Session {
    /// Returns for how long nothing has arrived from the peer; zero before the first arrival.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        self.last_arrival.map_or(Duration::ZERO, |at| now.saturating_duration_since(at))
    }

    /// Returns when [`Session::check_deadlines`] has something to do, if nothing arrives before.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let silent_for = |limit: Duration| self.last_arrival.map(|at| at + limit);
        let hello = self.phase.link().filter(|link| link.is_open() && !link.hellos.is_heard);
        let hello = hello.and_then(|link| link.hellos.sent).map(|sent| sent + HELLO_INTERVAL);
        let deadlines = match &self.phase {
            Phase::Waiting { announced } => [announced.map(|at| at + ANNOUNCE_INTERVAL), None],
            Phase::Connecting(link) => {
                [self.has_rendezvous().then(|| link.since + PATH_TIMEOUT), None]
            }
            Phase::Connected(_) => [silent_for(LOST_AFTER), None],
            Phase::Lost { announced, .. } => {
                [silent_for(GONE_AFTER), self.can_rejoin().then(|| *announced + REJOIN_INTERVAL)]
            }
            Phase::Ended => [None, None],
        };
        deadlines.into_iter().chain([hello]).flatten().min()
    }

    /// Does what is due, and changes the phase when the peer falls silent or is back.
    pub(super) fn check_deadlines(&mut self, now: Instant) {
        let silence = self.silence(now);
        match &self.phase {
            Phase::Waiting { announced: Some(at) } => {
                if now.saturating_duration_since(*at) >= ANNOUNCE_INTERVAL {
                    self.announce();
                    self.phase = Phase::Waiting { announced: Some(now) };
                }
            }
            Phase::Connecting(link) => {
                let waited = now.saturating_duration_since(link.since);
                if self.has_rendezvous() && waited >= PATH_TIMEOUT {
                    if link.is_answered {
                        self.fail(now, CallFailure::NoPath);
                    } else {
                        // The guest has vanished. Another may come.
                        self.close_link();
                        self.phase = Phase::Waiting { announced: None };
                    }
                }
            }
            Phase::Connected(_) if silence >= LOST_AFTER => self.lose_peer(now),
            Phase::Lost { .. } if silence >= GONE_AFTER => self.end(now, End::PeerVanished),
            Phase::Lost { link, .. } if link.is_ready() && silence < LOST_AFTER => {
                self.regain_peer();
            }
            Phase::Lost { announced, .. } => {
                let waited = now.saturating_duration_since(*announced);
                if self.can_rejoin() && waited >= REJOIN_INTERVAL {
                    self.rejoin(now);
                }
            }
            Phase::Waiting { announced: None } | Phase::Connected(_) | Phase::Ended => {}
        }
        self.repeat_hello(now);
    }

    fn lose_peer(&mut self, now: Instant) {
        match std::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Connected(link) => {
                self.phase = Phase::Lost { link, announced: now };
                self.emit(Event::PeerLost);
            }
            other => self.phase = other,
        }
    }

    pub(super) fn regain_peer(&mut self) {
        match std::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Lost { link, .. } => {
                self.phase = Phase::Connected(link);
                self.emit(Event::PeerBack);
            }
            other => self.phase = other,
        }
    }

    /// Returns whether this end may ask for a new link: the guest, over the rendezvous service.
    fn can_rejoin(&self) -> bool {
        self.role == Role::Guest && self.has_rendezvous()
    }

    /// Announces this guest as a new peer, as if it had restarted.
    fn rejoin(&mut self, now: Instant) {
        self.seal = self.fresh_seal();
        self.announce();
        if let Phase::Lost { announced, .. } = &mut self.phase {
            *announced = now;
        }
    }

    fn repeat_hello(&mut self, now: Instant) {
        let is_due = self.phase.link().is_some_and(|link| {
            let sent = link.hellos.sent.filter(|_| link.is_open() && !link.hellos.is_heard);
            sent.is_some_and(|sent| now.saturating_duration_since(sent) >= HELLO_INTERVAL)
        });
        if is_due {
            self.send_hello(now);
        }
    }
}
