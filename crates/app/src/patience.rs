//! How long a call waits for its peer.

use std::time::{Duration, Instant};

use call::{Command, Event};

/// The clock of `--wait`. It stands still while a person has to decide whether a guest may join.
pub(crate) struct Patience {
    limit: Option<Duration>,
    waited: Duration,
    /// When `waited` was last updated.
    updated: Instant,
    is_undecided: bool,
    /// Whether the peer has come.
    is_met: bool,
}

impl Patience {
    pub(crate) fn new(limit: Option<Duration>, now: Instant) -> Self {
        Self { limit, waited: Duration::ZERO, updated: now, is_undecided: false, is_met: false }
    }

    pub(crate) fn note_event(&mut self, event: &Event) {
        match event {
            Event::Knock { .. } | Event::AdmissionPending => self.is_undecided = true,
            Event::KnockWithdrawn { .. } | Event::NoHostYet => self.is_undecided = false,
            Event::Connected { .. } => self.is_met = true,
            _ => {}
        }
    }

    pub(crate) fn note_command(&mut self, command: &Command) {
        if let Command::Admit { .. } = command {
            self.is_undecided = false;
        }
    }

    /// Returns the limit if nobody has come in that time.
    pub(crate) fn run_out(&mut self, now: Instant) -> Option<Duration> {
        let passed = now.saturating_duration_since(std::mem::replace(&mut self.updated, now));
        if !self.is_undecided {
            self.waited += passed;
        }
        self.limit.filter(|limit| !self.is_met && self.waited >= *limit)
    }
}

#[cfg(test)]
mod tests {
    use call::QuestionId;
    use types::PeerName;

    use super::*;

    #[test]
    fn patience_stands_still_while_somebody_decides() {
        let question = QuestionId(1);
        let knock = || Event::Knock { question, name: PeerName::new("Bob") };
        let limit = Some(Duration::from_secs(10));
        let start = Instant::now();
        let after = |s| start + Duration::from_secs(s);
        for asks in [knock(), Event::AdmissionPending] {
            for decides in [Some(Event::KnockWithdrawn { question }), Some(Event::NoHostYet), None]
            {
                let mut patience = Patience::new(limit, start);
                assert_eq!(patience.run_out(after(4)), None);
                patience.note_event(&asks);
                assert_eq!(patience.run_out(after(500)), None);
                match &decides {
                    Some(event) => patience.note_event(event),
                    None => patience.note_command(&Command::Admit { question, lets_in: false }),
                }
                assert_eq!(patience.run_out(after(505)), None, "{decides:?}");
                assert_eq!(patience.run_out(after(506)), limit, "{decides:?}");
            }
        }
        let mut patience = Patience::new(limit, start);
        patience.note_event(&Event::Connected { peer_name: PeerName::new("Bob") });
        assert_eq!(patience.run_out(after(1000)), None);
    }
}
