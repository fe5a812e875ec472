//! A text that is pasted into a terminal or comes through a pipe: several lines, at once.

use std::time::{Duration, Instant};

use call::InviteError;

/// A terminal delivers the lines of a pasted text faster than this.
const PAUSE: Duration = Duration::from_millis(200);

/// Lines that have come, until they contain what is wanted.
#[derive(Debug)]
pub(crate) struct Paste {
    check: fn(&str) -> Result<(), InviteError>,
    text: String,
    /// When the last line came, unless the text was checked since.
    changed: Option<Instant>,
    /// Whether a text that is wrong is forgotten, because a person pastes the right one after it.
    asks_again: bool,
}

impl Paste {
    /// Creates an empty text; `check` tells whether a text contains what is wanted. A text that is
    /// wrong is kept unless `asks_again`: a program may write the rest of it later.
    pub(crate) fn new(check: fn(&str) -> Result<(), InviteError>, asks_again: bool) -> Self {
        Self { check, text: String::new(), changed: None, asks_again }
    }

    /// Adds a line that has come at `now`.
    pub(crate) fn push(&mut self, line: &str, now: Instant) {
        self.text.push_str(line);
        self.text.push('\n');
        if !self.text.trim().is_empty() {
            self.changed = Some(now);
        }
    }

    /// Returns the text once its lines have come, or why it is not what is wanted.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Result<String, InviteError>> {
        let changed = self.changed?;
        if now.saturating_duration_since(changed) < PAUSE {
            return None;
        }
        self.changed = None;
        match self.finish() {
            Err(error) if self.asks_again => {
                self.text.clear();
                Some(Err(error))
            }
            Err(_) => None,
            Ok(text) => Some(Ok(text)),
        }
    }

    /// Returns the text if it is what is wanted; no more lines will come.
    pub(crate) fn finish(&mut self) -> Result<String, InviteError> {
        (self.check)(&self.text)?;
        Ok(std::mem::take(&mut self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: [&str; 2] = [
        "> feathercall://call.example:4433/6544j2tadb5bpr2t#008j4ct4",
        "> ank7f24snaxwsqfezzfptdcj",
    ];

    #[test]
    fn lines_that_come_at_once_are_one_text() {
        for asks_again in [true, false] {
            let mut paste = Paste::new(call::check_invite, asks_again);
            let start = Instant::now();
            paste.push("", start);
            assert_eq!(paste.poll(start + PAUSE), None, "an empty line is no text");
            paste.push(LINK[0], start);
            assert_eq!(paste.poll(start + PAUSE / 2), None);
            paste.push(LINK[1], start + PAUSE / 2);
            assert_eq!(paste.poll(start + PAUSE), None, "more lines may come");
            let text = paste.poll(start + 2 * PAUSE).expect("the text is there");
            assert!(text.is_ok_and(|text| text.contains(LINK[0]) && text.contains(LINK[1])));
        }
    }

    #[test]
    fn a_person_is_asked_again_and_a_program_may_be_slow() {
        let start = Instant::now();
        let mut paste = Paste::new(call::check_invite, true);
        paste.push(LINK[0], start);
        let refused = paste.poll(start + PAUSE);
        assert_eq!(refused, Some(Err(InviteError::CutOff { found: 8 })));
        paste.push(LINK[1], start + PAUSE);
        assert_eq!(paste.poll(start + 2 * PAUSE), Some(Err(InviteError::NotAnInvite)));

        let mut paste = Paste::new(call::check_invite, false);
        paste.push(LINK[0], start);
        assert_eq!(paste.poll(start + PAUSE), None);
        assert!(paste.finish().is_err());
        paste.push(LINK[1], start + 9 * PAUSE);
        assert!(paste.poll(start + 10 * PAUSE).is_some_and(|text| text.is_ok()));
    }
}
