//! Finds an invite or a manual answer in a text that a person has pasted.
//!
//! Decoration is told apart from damage by the checksum: the text is read in several ways, and what
//! [`Invite::from_str`] or [`ManualAnswer::from_str`] accepts was meant.

use std::str::FromStr as _;

use crate::invite::{ANSWER_SCHEME, Invite, MANUAL_HOST, ManualAnswer, SCHEME, base32};
use crate::invite_error::{InviteError, KEY_CHARACTERS};
use crate::pasted_text::readings;

/// Largest text that is searched, in bytes.
const MAX_TEXT_BYTES: usize = 64 * 1024;
/// Most ends of an answer that are tried: an answer has no end mark, so the words after it might
/// belong to it.
const MAX_ENDS: usize = 512;
/// What both schemes begin with.
const NAME: &str = "feathercall";
const ANSWER_SUFFIX: &str = "-answer";

impl Invite {
    /// Finds the invite in a pasted text: a message around it, wrapped lines, percent encoding,
    /// capitals and invisible characters do no harm. Several copies count as one.
    ///
    /// # Errors
    /// If there is no invite, there are different ones, or it is damaged.
    pub fn find(text: &str) -> Result<Self, InviteError> {
        find(text, Kind::Invite, read_invite)
    }
}

impl ManualAnswer {
    /// Finds the answer in a pasted text, as [`Invite::find`] does.
    ///
    /// # Errors
    /// If there is no answer, there are different ones, or it is damaged.
    pub fn find(text: &str) -> Result<Self, InviteError> {
        find(text, Kind::Answer, read_answer)
    }
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Kind {
    Invite,
    Answer,
}

fn find<T: PartialEq>(
    text: &str,
    wanted: Kind,
    read: impl Fn(&str) -> Result<T, InviteError>,
) -> Result<T, InviteError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(InviteError::TooLong);
    }
    let mut found = Vec::new();
    let mut failures = vec![match wanted {
        Kind::Invite => InviteError::NotAnInvite,
        Kind::Answer => InviteError::NotAnAnswer,
    }];
    let readings = readings(text);
    for reading in &readings {
        for (kind, body) in bodies(reading) {
            if kind != wanted {
                failures.push(match wanted {
                    Kind::Invite => InviteError::AnswerForInvite,
                    Kind::Answer => InviteError::InviteForAnswer,
                });
                continue;
            }
            match with_dashes(body).iter().map(|body| read(body)).reduce(Result::or) {
                Some(Ok(one)) if !found.contains(&one) => found.push(one),
                Some(Err(error)) => failures.push(error),
                Some(Ok(_)) | None => {}
            }
        }
    }
    if found.is_empty() && wanted == Kind::Invite {
        // Some programs drop a scheme that they do not know, or put their own in its place.
        for body in readings.iter().flat_map(|reading| bodies_without_scheme(reading)) {
            found.extend(read(body).ok().filter(|one| !found.contains(one)));
        }
    }
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        (Some(_), false) => Err(InviteError::Ambiguous),
        (None, _) => Err(most_telling(failures)),
    }
}

/// Returns the error of the reading that came closest to a link.
fn most_telling(failures: Vec<InviteError>) -> InviteError {
    let rank = |error: &InviteError| match error {
        InviteError::NotAnInvite | InviteError::NotAnAnswer => 0,
        InviteError::AnswerForInvite | InviteError::InviteForAnswer => 1,
        InviteError::NoSecret => 2,
        InviteError::CutOff { .. } => 3,
        InviteError::Checksum | InviteError::AnswerChecksum => 4,
        _ => 5,
    };
    failures.into_iter().max_by_key(rank).unwrap_or(InviteError::NotAnInvite)
}

/// Returns what follows each scheme in a text. Slashes may be missing or too many.
fn bodies(text: &str) -> Vec<(Kind, &str)> {
    let lowercase = text.to_ascii_lowercase();
    let starts = lowercase.match_indices(NAME).map(|(at, _)| at + NAME.len());
    let body_at = |at: usize| {
        let is_answer = lowercase[at..].starts_with(ANSWER_SUFFIX);
        let (kind, length) =
            if is_answer { (Kind::Answer, ANSWER_SUFFIX.len()) } else { (Kind::Invite, 0) };
        let rest = text[at + length..].trim_start();
        let is_separator = |c: char| c.is_whitespace() || ":/\\".contains(c);
        let is_scheme = rest.starts_with(':') || rest.starts_with("//");
        is_scheme.then(|| (kind, rest.trim_start_matches(is_separator)))
    };
    starts.filter_map(body_at).collect()
}

/// Returns what might be a link around each `#` of a text.
fn bodies_without_scheme(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices('#').map(|(at, _)| {
        let before = text[..at].trim_end_matches(is_of_meeting_point);
        text[before.len()..].trim_start_matches(['/', ':'])
    })
}

/// Whether a meeting point may contain a character. Letters of other scripts look like those of a link.
fn is_of_meeting_point(character: char) -> bool {
    character.is_alphanumeric() || "-._:[]%,/~".contains(character)
}

/// Returns a text with the dashes into which programs turn one hyphen or two.
fn with_dashes(body: &str) -> Vec<String> {
    if !body.contains(['–', '—']) {
        return vec![body.to_owned()];
    }
    let replaced = |en: &str, em: &str| body.replace('–', en).replace('—', em);
    vec![replaced("-", "--"), replaced("--", "--"), replaced("-", "-"), replaced("--", "---")]
}

fn read_invite(body: &str) -> Result<Invite, InviteError> {
    let (meeting_point, after) = read_meeting_point(body)?;
    let (key, _) = read_key(after);
    let read = |meeting_point: &str| Invite::from_str(&format!("{SCHEME}{meeting_point}#{key}"));
    let normal = normal_meeting_point(&meeting_point);
    let error = match read(&meeting_point).or_else(|error| read(&normal).map_err(|_| error)) {
        Ok(invite) => return Ok(invite),
        Err(error) => error,
    };
    // Words after a link that is cut off look like the rest of its key.
    let first_word: String = after.split_whitespace().take(1).collect();
    let (first_key, is_changed) = read_key(&first_word);
    let found = first_key.len();
    let has_words = body[..body.len() - after.len()].contains(' ');
    Err(match error {
        _ if is_changed => InviteError::Checksum,
        _ if key.is_empty() => InviteError::NoSecret,
        // The `#` belongs to the words after a link.
        InviteError::Checksum if key.len() < KEY_CHARACTERS && has_words => InviteError::NoSecret,
        InviteError::Checksum if key.len() < KEY_CHARACTERS => {
            InviteError::CutOff { found: key.len() }
        }
        InviteError::Checksum if found < KEY_CHARACTERS => InviteError::CutOff { found },
        InviteError::Checksum
            if normal.starts_with(MANUAL_HOST) && is_case_lost(&meeting_point) =>
        {
            InviteError::CaseLost
        }
        error => error,
    })
}

/// Reads up to `#`, and returns the meeting point without what was added to it, and what follows `#`.
fn read_meeting_point(body: &str) -> Result<(String, &str), InviteError> {
    // A program that knows no scheme but its own makes a link of what follows ours.
    let mut body = body.trim_start_matches('<');
    for scheme in ["http://", "https://"] {
        if body.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)) {
            body = &body[scheme.len()..];
        }
    }
    let mut meeting_point = String::new();
    let mut is_in_query = false;
    for (at, character) in body.char_indices() {
        match character {
            '#' => {
                let meeting_point = meeting_point.trim_end_matches('/').to_owned();
                return Ok((meeting_point, &body[at + 1..]));
            }
            '?' | '&' => is_in_query = true,
            '/' if meeting_point.ends_with('/') => {}
            // A line that goes on begins with spaces, or the line break has become one.
            c if c.is_whitespace() || c == '\\' => {}
            c if is_in_query && c.is_ascii_graphic() => {}
            c if is_of_meeting_point(c) => meeting_point.push(c),
            _ => break,
        }
    }
    Err(InviteError::NoSecret)
}

/// Reads the key after `#`. Spaces, line breaks and hyphens group its characters. Returns it, and whether
/// it is too short because of a letter that no key has.
fn read_key(after: &str) -> (String, bool) {
    let is_group = |c: &char| c.is_whitespace() || "-\\".contains(*c);
    let mut key = String::new();
    for character in after.trim_start_matches(['#', '/']).chars().filter(|c| !is_group(c)) {
        if key.len() == KEY_CHARACTERS {
            break;
        }
        if !character.is_ascii_alphanumeric() || "uU".contains(character) {
            return (key, character.is_alphanumeric());
        }
        key.push(character);
    }
    (key, false)
}

/// Returns a meeting point in small letters; the name of a room has none that are misread.
fn normal_meeting_point(meeting_point: &str) -> String {
    let Some((host, room)) = meeting_point.split_once('/') else {
        return meeting_point.to_ascii_lowercase();
    };
    let host = host.to_ascii_lowercase();
    if host == MANUAL_HOST {
        return format!("{host}/{room}");
    }
    match base32().decode(room.as_bytes()) {
        Ok(bytes) => format!("{host}/{}", base32().encode(&bytes)),
        Err(_) => format!("{host}/{}", room.to_ascii_lowercase()),
    }
}

/// Whether a text is so long that its letters would be of both cases, but they are not.
fn is_case_lost(text: &str) -> bool {
    let body = text.rsplit('/').next().unwrap_or(text);
    let has = |is_case: fn(&u8) -> bool| body.bytes().any(|b| is_case(&b));
    body.len() >= 32 && has(u8::is_ascii_uppercase) != has(u8::is_ascii_lowercase)
}

fn read_answer(body: &str) -> Result<ManualAnswer, InviteError> {
    let mut answer = String::new();
    let mut ends = Vec::new();
    for character in body.trim_start_matches('<').chars() {
        match character {
            '\\' => {}
            c if c.is_whitespace() => {
                if ends.last() != Some(&answer.len()) && ends.len() < MAX_ENDS {
                    ends.push(answer.len());
                }
            }
            c if c.is_ascii_alphanumeric() || "-_".contains(c) => answer.push(c),
            _ => break,
        }
    }
    ends.push(answer.len());
    let read = |answer: &str| ManualAnswer::from_str(&format!("{ANSWER_SCHEME}{answer}"));
    for end in ends.into_iter().rev() {
        let answer = &answer[..end];
        // Punctuation and emphasis of the text around it.
        let trimmed = answer.trim_end_matches(['-', '_']);
        if let Ok(found) = read(answer).or_else(|_| read(trimmed)) {
            return Ok(found);
        }
    }
    Err(if is_case_lost(&answer) { InviteError::CaseLost } else { InviteError::AnswerChecksum })
}

#[cfg(test)]
mod tests;
