//! What is wrong with an invite or a manual answer, in words for people.

/// Characters of the part of a link after `#`: secret and checksum in base 32.
pub(crate) const KEY_CHARACTERS: usize = 32;

/// Why a text is not an invite or a manual answer. The message tells the user what to do.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InviteError {
    /// There is no scheme of an invite.
    #[error("there is no invite link here: it starts with `feathercall://`; copy the whole link")]
    NotAnInvite,
    /// There is no scheme of a manual answer.
    #[error("there is no answer here: it starts with `feathercall-answer:`; copy the whole text")]
    NotAnAnswer,
    /// An invite was expected, and this is a manual answer.
    #[error(
        "this is the answer of a guest, which belongs to the host; the invite link starts with \
         `feathercall://`"
    )]
    AnswerForInvite,
    /// A manual answer was expected, and this is an invite.
    #[error(
        "this is an invite link; the answer that your guest sends back starts with \
         `feathercall-answer:`"
    )]
    InviteForAnswer,
    /// The text contains several that differ.
    #[error("there are different links in this text; paste one of them alone")]
    Ambiguous,
    /// There is no `#`, or nothing after it.
    #[error("the link lacks the key after `#`; copy the whole link")]
    NoSecret,
    /// The part after `#` is too short.
    #[error(
        "the link is cut off: {found} of the {KEY_CHARACTERS} characters after `#` are here; \
         copy the whole link"
    )]
    CutOff {
        /// Characters of the key that are there.
        found: usize,
    },
    /// It is longer than 16 KiB, or than 64 KiB with the text around it.
    #[error("the text is longer than any invite; paste the link alone")]
    TooLong,
    /// The meeting point is not `HOST:PORT/ROOM` or `manual/OFFER`.
    #[error("the part of the link before `#` is not HOST:PORT/ROOM; copy the link again")]
    BadMeetingPoint,
    /// The room is not the secret's: another version names rooms in another way.
    #[error(
        "this link was made by another version of Feathercall; update both ends and make a new one"
    )]
    OtherVersion,
    /// The checksum of an invite does not match.
    #[error("a character of the link is missing or was changed; copy the link again")]
    Checksum,
    /// The checksum of a manual answer does not match. It does not tell what is missing from what is
    /// wrong.
    #[error("the answer is incomplete or was changed on its way; copy the whole text again")]
    AnswerChecksum,
    /// All letters of a manual invite or answer are capital, or all are small.
    #[error(
        "a program has changed capital and small letters, so the link cannot be read; send it in \
         another way"
    )]
    CaseLost,
}
