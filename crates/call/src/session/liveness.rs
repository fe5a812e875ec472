//! Timers of every phase: announcements, new links, silence, giving up. docs/TRANSPORT.md,
//! section 3.5, lists them.

use std::time::{Duration, Instant};

use transport::Role;

use super::Session;
use super::io::{LinkCommand, LinkId, Output};
use super::phase::{Party, Phase};
use crate::event::{End, Event};

/// A peer from which nothing authenticated has arrived for this long is lost.
pub(super) const LOST_AFTER: Duration = Duration::from_secs(5);
/// A call whose peer was not connected for this long ends.
const VANISHED_AFTER: Duration = Duration::from_mins(1);
/// The same for a guest who knocks at another host meanwhile, as long as that lasts.
const VANISHED_AT_ANOTHER_AFTER: Duration = Duration::from_mins(5);
/// Interval at which a guest announces itself until it has an offer.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
/// Interval at which a guest with an offer announces itself until it is connected.
const REPEAT_INTERVAL: Duration = Duration::from_secs(5);
/// A guest without an offer for this long says so.
const NO_HOST_AFTER: Duration = Duration::from_secs(10);
/// A guest that has announced itself within this time is offered links.
const HEARD_RECENTLY: Duration = Duration::from_secs(12);
/// A guest that neither answers nor announces itself for this long is forgotten.
const FORGET_GUEST_AFTER: Duration = Duration::from_secs(30);
/// A call without a path this long after its first answer fails.
const PATH_TIMEOUT: Duration = Duration::from_secs(30);
/// The same while a link is open and only the hellos are missing.
const HELLO_TIMEOUT: Duration = Duration::from_mins(1);
/// Interval at which a hello is repeated until the peer has heard it, and at most answered.
pub(super) const HELLO_INTERVAL: Duration = Duration::from_secs(1);
/// A peer that has sent nothing else for this long sends an empty packet.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// The same when any packet was lost lately, and while the peer is lost.
const KEEP_ALIVE_UNDER_LOSS: Duration = Duration::from_secs(1);
/// The same when more than 10 % are lost, and while that is not known: in the first 5 s of a
/// connection.
const KEEP_ALIVE_UNDER_HEAVY_LOSS: Duration = Duration::from_millis(500);
/// A host whose seat at the rendezvous service was taken takes it back after this time.
const SEAT_PAUSE: Duration = Duration::from_secs(5);
/// An open link may take this much longer before another one is begun.
const OPEN_LINK_PATIENCE: Duration = Duration::from_secs(10);
/// A longer time between two steps means that the process stood still. A session steps at least
/// once a second.
const STANDSTILL: Duration = Duration::from_secs(3);
/// For this long after a standstill, arrivals may have waited in the system's buffers.
const STALE_ARRIVALS: Duration = Duration::from_millis(500);

impl Session {
    /// Records an authenticated arrival over a link: over the one in use the only sign of life of the
    /// peer.
    pub(super) fn record_life(&mut self, now: Instant, id: LinkId) {
        if now < self.stale_until {
            return;
        }
        if let Some(link) = self.links.get_mut(id) {
            link.last_life = now;
        }
        if let Phase::Lost { .. } = self.phase
            && self.links.is_current(id)
        {
            self.phase = Phase::Connected { since: now };
            self.withdraw_knock();
            if self.role == Role::Host {
                self.forget_newcomer();
            }
            self.close_attempts();
            self.links.reset_patience();
            self.emit(Event::PeerBack);
        }
    }

    /// Notices if the process stood still since the last step: other programs were preferred, or
    /// the computer slept. The peer may be gone, and what has arrived meanwhile is old.
    pub(super) fn check_standstill(&mut self, now: Instant) {
        let gap = now.saturating_duration_since(std::mem::replace(&mut self.last_step, now));
        if gap <= STANDSTILL {
            return;
        }
        self.stale_until = now + STALE_ARRIVALS;
        match self.phase {
            Phase::Connected { .. } => self.lose_peer(now),
            Phase::Lost { since } => self.phase = Phase::Lost { since: since + gap },
            Phase::Meeting => {
                self.first_answer = self.first_answer.map(|at| at + gap);
                self.reconnect_signaling();
            }
            Phase::Ended => {}
        }
    }

    /// Returns when [`Session::check_deadlines`] has something to do, if nothing arrives before.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [
            self.knock_deadline(),
            self.question_deadline(),
            self.phase_deadline(),
            self.forget_newcomer_deadline(),
            self.attempt_deadline(),
            self.seat_deadline(),
            self.announce_deadline(),
            self.no_host_deadline(),
            self.offer_deadline(),
            self.hello_deadline().map(|(due, _)| due),
            self.keep_alive_deadline().map(|(due, _)| due),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Does what is due.
    pub(super) fn check_deadlines(&mut self, now: Instant) {
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|due| due <= now);
        if is_due(self.knock_deadline()) {
            self.lose_knock(now);
        }
        if is_due(self.phase_deadline()) {
            self.leave_phase(now);
        }
        if matches!(self.phase, Phase::Ended) {
            return;
        }
        self.ask_if_due(now);
        if is_due(self.forget_newcomer_deadline()) {
            self.forget_newcomer();
        }
        while is_due(self.attempt_deadline()) {
            let expired = self.links.remove_oldest_attempt();
            self.close_links(expired);
        }
        if is_due(self.seat_deadline()) {
            self.reconnect_signaling();
        }
        if is_due(self.announce_deadline()) {
            self.announce(now);
        }
        if is_due(self.no_host_deadline()) {
            self.alone_since = None;
            self.emit(Event::NoHostYet);
        }
        if is_due(self.offer_deadline()) {
            self.offer_link(now);
        }
        while let Some((due, id)) = self.hello_deadline()
            && due <= now
        {
            self.send_hello(now, id);
        }
        while let Some((due, id)) = self.keep_alive_deadline()
            && due <= now
        {
            let knock = self.links.knock.as_mut().filter(|knock| knock.link.id == id);
            let packetizer = knock.map_or(&mut self.packetizer, |knock| &mut knock.packetizer);
            let packet = packetizer.empty_packet().into();
            self.statistics.packets_out += 1;
            if self.links.is_current(id) {
                self.send_features(now, packet);
            } else {
                self.send_over(now, id, LinkCommand::SendFeatures(packet));
            }
        }
    }

    /// When a guest who knocks, or the host at which we knock, has vanished. However long the host's
    /// user takes, a guest that lives may wait.
    fn knock_deadline(&self) -> Option<Instant> {
        self.links.knock.as_ref().map(|knock| knock.link.last_life + LOST_AFTER)
    }

    /// When the phase ends if nothing changes.
    fn phase_deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Meeting if self.is_waiting() => None,
            Phase::Lost { .. } if self.pauses_absence() => None,
            Phase::Meeting => {
                let is_open = self.links.is_attempt_open();
                let patience = if is_open { HELLO_TIMEOUT } else { PATH_TIMEOUT };
                self.first_answer.map(|at| at + patience)
            }
            Phase::Connected { .. } => {
                self.links.current.as_ref().map(|link| link.last_life + LOST_AFTER)
            }
            Phase::Lost { since } if self.is_waiting() && self.role == Role::Guest => {
                Some(since + VANISHED_AT_ANOTHER_AFTER)
            }
            Phase::Lost { since } => Some(since + VANISHED_AFTER),
            Phase::Ended => None,
        }
    }

    /// Host: whether a guest whom the user is asked about is waited for in place of the lost peer,
    /// which may have no seat at the rendezvous service meanwhile.
    fn pauses_absence(&self) -> bool {
        self.role == Role::Host && self.links.knock.is_some() && !self.admission.auto_admit
    }

    /// Lets the time of absence go on after a pause.
    pub(super) fn resume_absence(&mut self, now: Instant) {
        if let Phase::Lost { since } = self.phase
            && self.pauses_absence()
        {
            let pause = self.knocking_for(now).min(now.saturating_duration_since(since));
            self.phase = Phase::Lost { since: since + pause };
        }
    }

    fn leave_phase(&mut self, now: Instant) {
        match self.phase {
            Phase::Meeting => self.give_up_path(now),
            Phase::Connected { .. } => {
                let last_life = self.links.current.as_ref().map(|link| link.last_life);
                self.lose_peer(last_life.unwrap_or(now));
            }
            Phase::Lost { .. } => {
                if !self.admit_waiting(now) {
                    self.end(now, End::PeerVanished);
                }
            }
            Phase::Ended => {}
        }
    }

    pub(super) fn lose_peer(&mut self, since: Instant) {
        self.phase = Phase::Lost { since };
        self.announced = None;
        // Attempts that are running already, because the peer did not hear us, have their time.
        if !self.links.has_attempts() {
            self.links.reset_patience();
        }
        self.emit(Event::PeerLost);
        // The network may have changed, and the connection to the service with it.
        self.reconnect_signaling();
    }

    /// Host: when a guest is forgotten that has announced itself and then vanished.
    fn forget_newcomer_deadline(&self) -> Option<Instant> {
        let is_addressed = self.role == Role::Host && self.signals.addressee == Party::Newcomer;
        let is_meeting = matches!(self.phase, Phase::Meeting);
        let is_wanted = is_addressed && (!is_meeting || self.first_answer.is_none());
        let heard = self.signals.of(Party::Newcomer).heard.filter(|_| is_wanted);
        heard.map(|at| at + FORGET_GUEST_AFTER)
    }

    /// When the oldest link under construction is given up. Without a service it is the only one
    /// there will be.
    fn attempt_deadline(&self) -> Option<Instant> {
        self.links.expiry().filter(|_| self.has_rendezvous())
    }

    /// Host: when it takes its seat back.
    fn seat_deadline(&self) -> Option<Instant> {
        let is_wanted =
            self.role == Role::Host && matches!(self.phase, Phase::Meeting | Phase::Lost { .. });
        self.replaced.filter(|_| is_wanted).map(|at| at + SEAT_PAUSE)
    }

    /// Guest: when it announces itself.
    fn announce_deadline(&self) -> Option<Instant> {
        // While it knocks at another host than the one it has lost, that one is not forgotten.
        let is_wanted = match self.phase {
            Phase::Meeting => !self.is_waiting(),
            Phase::Lost { .. } => true,
            Phase::Connected { .. } | Phase::Ended => false,
        };
        if self.role != Role::Guest || !self.has_rendezvous() || !is_wanted {
            return None;
        }
        let Some(announced) = self.announced else { return Some(self.last_step) };
        let has_offer = self.links.has_attempts() || self.is_waiting();
        Some(announced + if has_offer { REPEAT_INTERVAL } else { ANNOUNCE_INTERVAL })
    }

    /// Guest: when it says that no host has made an offer.
    fn no_host_deadline(&self) -> Option<Instant> {
        let newest_offer = self.signals.of(Party::Newcomer).newest_attempt;
        let is_alone = matches!(self.phase, Phase::Meeting) && newest_offer.is_none();
        self.alone_since.filter(|_| is_alone).map(|since| since + NO_HOST_AFTER)
    }

    /// Host: when it begins the next link.
    fn offer_deadline(&self) -> Option<Instant> {
        if self.role != Role::Host || !self.has_rendezvous() {
            return None;
        }
        let mut due = self.links.next_attempt().unwrap_or(self.last_step);
        if self.links.is_attempt_open() {
            due += OPEN_LINK_PATIENCE;
        }
        let is_waiting = self.is_waiting();
        match self.phase {
            Phase::Meeting if is_waiting => None,
            // A lost peer may hear an offer although it is not heard, unless another guest has its
            // seat at the service.
            Phase::Lost { .. } if !is_waiting && self.signals.addressee == Party::Peer => Some(due),
            Phase::Meeting | Phase::Lost { .. } => {
                let heard = self.signals.of(self.signals.addressee).heard?;
                (due <= heard + HEARD_RECENTLY).then_some(due)
            }
            Phase::Connected { .. } | Phase::Ended => None,
        }
    }

    /// When a hello is repeated next, and over which link.
    fn hello_deadline(&self) -> Option<(Instant, LinkId)> {
        let unheard = self.links.iter().filter(|link| !link.hellos.is_heard);
        let due = |sent: Instant| sent + HELLO_INTERVAL;
        unheard.filter_map(|link| Some((link.hellos.sent.map(due)?, link.id))).min()
    }

    /// When a packet is sent next because nothing else was, and over which link.
    fn keep_alive_deadline(&self) -> Option<(Instant, LinkId)> {
        let current = self.links.current.as_ref().map(|link| {
            let interval = self.keep_alive_interval(link.last_sent);
            (link.last_sent + interval, link.id)
        });
        // A guest who waits sends nothing else by which a loss could be measured.
        let knock = self
            .links
            .knock
            .as_ref()
            .map(|knock| (knock.link.last_sent + KEEP_ALIVE_UNDER_HEAVY_LOSS, knock.link.id));
        current.into_iter().chain(knock).min()
    }

    /// With half of all packets lost, ten in the five seconds before a peer is lost are enough.
    fn keep_alive_interval(&self, last_sent: Instant) -> Duration {
        let loss = self.receiver.jitter_buffer.stats().loss.max(self.packetizer.loss());
        match self.phase {
            Phase::Connected { since } if last_sent < since + LOST_AFTER => {
                KEEP_ALIVE_UNDER_HEAVY_LOSS
            }
            _ if loss > 0.1 => KEEP_ALIVE_UNDER_HEAVY_LOSS,
            Phase::Lost { .. } => KEEP_ALIVE_UNDER_LOSS,
            _ if loss > 0.0 => KEEP_ALIVE_UNDER_LOSS,
            _ => KEEP_ALIVE_INTERVAL,
        }
    }

    /// Sends over the link in use, if there is one.
    pub(super) fn send_on_link(&mut self, now: Instant, command: LinkCommand) {
        if let Some(id) = self.links.current.as_ref().map(|link| link.id) {
            self.send_over(now, id, command);
        }
    }

    pub(super) fn send_over(&mut self, now: Instant, id: LinkId, command: LinkCommand) {
        if let Some(link) = self.links.get_mut(id) {
            link.last_sent = now;
            self.outputs.push_back(Output::Link(id, command));
        }
    }

    pub(super) fn close_attempt(&mut self, id: LinkId) {
        let attempt = self.links.take_attempt(id).map(|link| link.id);
        self.close_links(attempt);
    }

    pub(super) fn close_links(&mut self, ids: impl IntoIterator<Item = LinkId>) {
        let close = |id| Output::Link(id, LinkCommand::Close);
        self.outputs.extend(ids.into_iter().map(close));
    }

    pub(super) fn close_attempts(&mut self) {
        for party in [Party::Peer, Party::Newcomer] {
            let attempts = self.links.take_attempts(party);
            self.close_links(attempts);
        }
    }
}
