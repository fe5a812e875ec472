//! Checks of what a user pastes, so that a question can be asked again.

use transport::{Invite, InviteError, ManualAnswer};

/// Checks whether a pasted text contains an invite link that [`Call::join`](crate::Call::join) can
/// read. Nothing is sent.
///
/// # Errors
/// If it contains none, or a damaged one. Show the message and ask again.
pub fn check_invite(text: &str) -> Result<(), InviteError> {
    Invite::find(text).map(drop)
}

/// Checks whether a pasted text contains an answer for
/// [`Command::AcceptAnswer`](crate::Command::AcceptAnswer). The answer to another invite is noticed
/// later ([`Event::AnswerRefused`](crate::Event::AnswerRefused)).
///
/// # Errors
/// If it contains none, or a damaged one. Show the message and ask again.
pub fn check_answer(text: &str) -> Result<(), InviteError> {
    ManualAnswer::find(text).map(drop)
}
