//! The links of a session: the one in use, the one over which a guest knocks, and those under
//! construction.

use std::time::{Duration, Instant};

use super::admission::Knock;
use super::io::LinkId;
use super::phase::LinkState;

/// Most links under construction at a time. A further attempt replaces the oldest that is not open.
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
        attempt: u8,
        offer: Option<String>,
    ) -> (LinkId, Option<LinkId>) {
        self.n_made += 1;
        let id = LinkId(self.n_made);
        let given_up = (self.attempts.len() == MAX_ATTEMPTS).then(|| {
            // The oldest, but rather one that has not come as far as to be open.
            let at = self.attempts.iter().position(|link| !link.is_open).unwrap_or(0);
            self.attempts.remove(at).id
        });
        self.attempts.push(LinkState::new(id, attempt, now, offer));
        self.began = Some(now);
        self.n_begun += 1;
        (id, given_up)
    }

    /// Returns when the next attempt may begin; `None` if at once.
    pub(super) fn next_attempt(&self) -> Option<Instant> {
        let patience = PATIENCE[self.n_begun.checked_sub(1)?.min(PATIENCE.len() - 1)];
        self.began.map(|began| began + patience)
    }

    /// Lets the next attempt begin at once, and those after it with the shortest intervals.
    pub(super) fn reset_patience(&mut self) {
        self.n_begun = 0;
    }

    /// Lets the next attempt begin after the shortest interval, but not at once: the last one was
    /// given up for a fault of the guest, who may begin again.
    pub(super) fn shorten_patience(&mut self) {
        self.n_begun = self.n_begun.min(1);
    }

    /// Returns when the newest attempt began, if one is under construction.
    pub(super) fn newest_began(&self) -> Option<Instant> {
        self.attempts.last().map(|link| link.began)
    }

    /// Returns when the oldest attempt is given up.
    pub(super) fn expiry(&self) -> Option<Instant> {
        self.attempts.first().map(|link| link.began + ATTEMPT_TIMEOUT)
    }

    /// Removes the attempt that began first, and returns its number.
    pub(super) fn remove_oldest_attempt(&mut self) -> Option<LinkId> {
        (!self.attempts.is_empty()).then(|| self.attempts.remove(0).id)
    }

    /// Removes all attempts and returns their numbers.
    pub(super) fn take_attempts(&mut self) -> Vec<LinkId> {
        self.attempts.drain(..).map(|link| link.id).collect()
    }

    /// Removes an attempt and returns it.
    pub(super) fn take_attempt(&mut self, id: LinkId) -> Option<LinkState> {
        let at = self.attempts.iter().position(|link| link.id == id)?;
        Some(self.attempts.remove(at))
    }

    /// Returns the attempt that began last.
    pub(super) fn newest_attempt(&self) -> Option<&LinkState> {
        self.attempts.last()
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

    /// Returns the link of an attempt, by the number that both ends know.
    pub(super) fn of_attempt(&mut self, attempt: u8) -> Option<&mut LinkState> {
        self.iter_mut().find(|link| link.attempt == Some(attempt))
    }

    /// Lets another peer count its attempts from the start.
    pub(super) fn forget_attempt_numbers(&mut self) {
        self.iter_mut().for_each(|link| link.attempt = None);
    }

    pub(super) fn is_current(&self, id: LinkId) -> bool {
        self.current.as_ref().is_some_and(|link| link.id == id)
    }

    pub(super) fn is_knocking(&self, id: LinkId) -> bool {
        self.knock.as_ref().is_some_and(|knock| knock.link.id == id)
    }

    /// Returns whether the channels of a link under construction are open.
    pub(super) fn is_attempt_open(&self) -> bool {
        self.attempts.iter().any(|link| link.is_open)
    }
}
