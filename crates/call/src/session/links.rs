//! The links of a session: the one in use, the one over which a guest knocks, and those under
//! construction.

use std::time::{Duration, Instant};

use super::admission::Knock;
use super::io::LinkId;
use super::phase::{LinkState, Party};

/// Most links under construction at a time. A further attempt replaces the oldest of the same party,
/// or the oldest if there is none, but rather one that is not open.
const MAX_ATTEMPTS: usize = 2;
/// Times from the beginning of one attempt to that of the next, in order; the last one repeats.
///
/// Each attempt runs on beside the next one, so a slow network is not asked for ever faster work.
const PATIENCE: [Duration; 5] = [
    Duration::from_secs(5),
    Duration::from_secs(7),
    Duration::from_secs(10),
    Duration::from_secs(14),
    Duration::from_secs(20),
];
/// Shortest time from the beginning of one attempt to that of the next, whatever has happened.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// A link that is not ready this long after it was begun is given up.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(40);

/// Links of one session.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// The link in use: that of the peer that was let in. It carries the call, or did so until the
    /// peer was lost.
    pub(super) current: Option<LinkState>,
    /// The guest who waits to be let in, with a link of its own.
    pub(super) knock: Option<Knock>,
    /// Links under construction, oldest first.
    attempts: Vec<LinkState>,
    n_made: u32,
    /// When the newest attempt began.
    began: Option<Instant>,
    /// Attempts since the last [`Links::reset_patience`].
    n_begun: usize,
}

impl Links {
    /// Begins a link. Returns its number, and that of an attempt that was given up for it.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        party: Party,
        attempt: u8,
        offer: Option<String>,
    ) -> (LinkId, Option<LinkId>) {
        self.n_made += 1;
        let id = LinkId(self.n_made);
        let given_up = (self.attempts.len() == MAX_ATTEMPTS).then(|| {
            let rank = |at: &usize| (self.attempts[*at].party != party, self.attempts[*at].is_open);
            let at = (0..MAX_ATTEMPTS).min_by_key(rank).unwrap_or(0);
            self.attempts.remove(at).id
        });
        self.attempts.push(LinkState::new(id, party, attempt, now, offer));
        self.began = Some(now);
        self.n_begun += 1;
        (id, given_up)
    }

    /// Returns when the next attempt may begin; `None` if at once.
    pub(super) fn next_attempt(&self) -> Option<Instant> {
        let patience = match self.n_begun.checked_sub(1) {
            Some(n) => PATIENCE[n.min(PATIENCE.len() - 1)],
            None => SHORTEST_PAUSE,
        };
        self.began.map(|began| began + patience)
    }

    /// Lets the next attempt begin after the shortest pause, and those after it with the shortest
    /// intervals.
    pub(super) fn reset_patience(&mut self) {
        self.n_begun = 0;
    }

    /// Lets the next attempt begin after the shortest interval, but not at once: the last one was
    /// given up for a fault of the guest, who may begin again.
    pub(super) fn shorten_patience(&mut self) {
        self.n_begun = 1;
    }

    /// Returns when the oldest attempt is given up.
    pub(super) fn expiry(&self) -> Option<Instant> {
        self.attempts.first().map(|link| link.began + ATTEMPT_TIMEOUT)
    }

    /// Removes the attempt that began first, and returns its number.
    pub(super) fn remove_oldest_attempt(&mut self) -> Option<LinkId> {
        (!self.attempts.is_empty()).then(|| self.attempts.remove(0).id)
    }

    /// Removes all attempts with a party and returns their numbers.
    pub(super) fn take_attempts(&mut self, party: Party) -> Vec<LinkId> {
        let taken = self.attempts.extract_if(.., |link| link.party == party);
        taken.map(|link| link.id).collect()
    }

    /// Removes an attempt and returns it.
    pub(super) fn take_attempt(&mut self, id: LinkId) -> Option<LinkState> {
        let at = self.attempts.iter().position(|link| link.id == id)?;
        Some(self.attempts.remove(at))
    }

    /// Returns the attempt with a party that began last.
    pub(super) fn newest_attempt(&self, party: Party) -> Option<&LinkState> {
        self.attempts.iter().rfind(|link| link.party == party)
    }

    /// Returns whether a link is under construction.
    pub(super) fn has_attempts(&self) -> bool {
        !self.attempts.is_empty()
    }

    /// Returns all links, the one in use last.
    pub(super) fn iter(&self) -> impl Iterator<Item = &LinkState> {
        let knocking = self.knock.iter().map(|knock| &knock.link);
        self.attempts.iter().chain(knocking).chain(&self.current)
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut LinkState> {
        let knocking = self.knock.iter_mut().map(|knock| &mut knock.link);
        self.attempts.iter_mut().chain(knocking).chain(&mut self.current)
    }

    pub(super) fn get(&self, id: LinkId) -> Option<&LinkState> {
        self.iter().find(|link| link.id == id)
    }

    pub(super) fn get_mut(&mut self, id: LinkId) -> Option<&mut LinkState> {
        self.iter_mut().find(|link| link.id == id)
    }

    /// Returns the link of an attempt with a party, by the number that both ends know.
    pub(super) fn of_attempt(&mut self, party: Party, attempt: u8) -> Option<&mut LinkState> {
        self.iter_mut().find(|link| link.party == party && link.attempt == Some(attempt))
    }

    /// Lets another one in the place of a party count its attempts from the start.
    pub(super) fn forget_attempt_numbers(&mut self, party: Party) {
        let links = self.iter_mut().filter(|link| link.party == party);
        links.for_each(|link| link.attempt = None);
    }

    pub(super) fn is_current(&self, id: LinkId) -> bool {
        self.current.as_ref().is_some_and(|link| link.id == id)
    }

    pub(super) fn is_knocking(&self, id: LinkId) -> bool {
        self.knock.as_ref().is_some_and(|knock| knock.link.id == id)
    }

    /// Returns whether somebody knocks, or we knock, over a link that is not the peer's.
    pub(super) fn is_newcomer_knocking(&self) -> bool {
        self.knock.as_ref().is_some_and(|knock| knock.link.party == Party::Newcomer)
    }

    /// Returns whether the channels of a link under construction are open.
    pub(super) fn is_attempt_open(&self) -> bool {
        self.attempts.iter().any(|link| link.is_open)
    }
}
