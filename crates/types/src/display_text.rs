use std::fmt;
use std::ops::Deref;

/// Text from a peer that is safe to show: one line, no control characters, at most `MAX_BYTES` bytes
/// of UTF-8.
///
/// Raw text could retitle a terminal, clear it, write to the clipboard (ECMA-48 escape sequences),
/// reverse the reading order of a line (Unicode UAX 9), or hide characters. A value of this type
/// cannot hold such text:
/// - white space of every kind, including line breaks, becomes one space between words;
/// - control characters, bidirectional formatting and code points without a meaning of their own
///   (private use, noncharacters) become U+FFFD;
/// - characters without width are removed, and more than `MAX_MARKS` combining marks on one
///   character too;
/// - the rest is cut off after `MAX_BYTES` bytes, between characters.
///
/// ```
/// use types::PeerName;
/// let name = PeerName::new("Ada\u{1b}]0;title\u{7}\nLovelace");
/// assert_eq!(&*name, "Ada\u{fffd}]0;title\u{fffd} Lovelace");
/// ```
#[derive(Clone, Default, Eq, PartialEq)]
pub struct DisplayText<const MAX_BYTES: usize>(String);

/// Name of a peer; may be empty. Limited as in a hello (docs/TRANSPORT.md, section 3.1).
pub type PeerName = DisplayText<64>;

/// Chat message of a peer. Limited as in a chat message (docs/TRANSPORT.md, section 3.1).
pub type ChatText = DisplayText<2000>;

/// Line of an error message. It may quote text from a peer or from a file.
pub type ErrorLine = DisplayText<1000>;

/// Most combining marks that one character keeps. Living scripts need three.
const MAX_MARKS: usize = 4;

impl<const MAX_BYTES: usize> DisplayText<MAX_BYTES> {
    /// Makes a text safe to show.
    pub fn new(raw: &str) -> Self {
        let mut text = String::new();
        let mut is_space_due = false;
        let mut n_marks = 0;
        for c in raw.chars() {
            if c.is_whitespace() {
                is_space_due = !text.is_empty();
                n_marks = 0;
                continue;
            }
            if is_invisible(c) {
                continue;
            }
            n_marks = if is_combining_mark(c) { n_marks + 1 } else { 0 };
            if n_marks > MAX_MARKS {
                continue;
            }
            let c = if is_harmful(c) { char::REPLACEMENT_CHARACTER } else { c };
            let n_bytes = c.len_utf8() + usize::from(is_space_due);
            if text.len() + n_bytes > MAX_BYTES {
                break;
            }
            if std::mem::take(&mut is_space_due) {
                text.push(' ');
            }
            text.push(c);
        }
        Self(text)
    }
}

/// Returns whether a character acts on a terminal or on the order of a line, or stands for nothing.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            // Bidirectional formatting: UAX 9, table 1.
            '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}'
            // Deprecated format characters, interlinear annotations, object replacement.
            | '\u{206A}'..='\u{206F}' | '\u{FFF9}'..='\u{FFFC}'
            // Private use.
            | '\u{E000}'..='\u{F8FF}' | '\u{F0000}'..='\u{10FFFF}'
            // Noncharacters of the first plane.
            | '\u{FDD0}'..='\u{FDEF}'
        )
        || u32::from(c) & 0xFFFE == 0xFFFE
}

/// Returns whether a character has no width: joiners, fillers, tags, variation selectors.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{00AD}' | '\u{034F}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
        | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200D}' | '\u{2060}'..='\u{2065}'
        | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}'
        | '\u{E0000}'..='\u{E0FFF}'
    )
}

/// Returns whether a character is of a block of combining marks.
fn is_combining_mark(c: char) -> bool {
    matches!(
        c,
        '\u{0300}'..='\u{036F}' | '\u{0483}'..='\u{0489}' | '\u{1AB0}'..='\u{1AFF}'
        | '\u{1DC0}'..='\u{1DFF}' | '\u{20D0}'..='\u{20FF}' | '\u{FE20}'..='\u{FE2F}'
    )
}

impl<const MAX_BYTES: usize> From<&str> for DisplayText<MAX_BYTES> {
    fn from(raw: &str) -> Self {
        Self::new(raw)
    }
}

impl<const MAX_BYTES: usize> Deref for DisplayText<MAX_BYTES> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const MAX_BYTES: usize> fmt::Display for DisplayText<MAX_BYTES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const MAX_BYTES: usize> fmt::Debug for DisplayText<MAX_BYTES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostile_text_is_harmless_and_plain_text_stays() {
        for (raw, shown) in [
            ("Ada", "Ada"),
            ("  Zoë \t Łukasz  ", "Zoë Łukasz"),
            ("علي", "علي"),
            ("e\u{301}", "e\u{301}"),
            ("\u{1b}[2J", "\u{fffd}[2J"),
            ("\u{9b}31m", "\u{fffd}31m"),
            ("\u{1b}]52;c;aGk=\u{7}", "\u{fffd}]52;c;aGk=\u{fffd}"),
            ("a\r\nfeathercall: b", "a feathercall: b"),
            ("a\u{2028}b\u{85}c", "a b c"),
            ("gnp\u{202e}exe", "gnp\u{fffd}exe"),
            ("a\u{200b}\u{feff}\u{ad}b\u{e0041}", "ab"),
            ("\u{f8ff}\u{ffff}", "\u{fffd}\u{fffd}"),
            ("z\u{300}\u{300}\u{300}\u{300}\u{300}\u{300}!", "z\u{300}\u{300}\u{300}\u{300}!"),
            ("\n\u{200b}", ""),
        ] {
            assert_eq!(&*PeerName::new(raw), shown, "{raw:?}");
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(&*PeerName::new(&"é".repeat(100)), "é".repeat(32));
        assert_eq!(&*DisplayText::<4>::new("abc é"), "abc");
        assert_eq!(&*DisplayText::<4>::new("abé é"), "abé");
    }

    proptest! {
        #[test]
        fn no_text_has_more_than_one_line_or_acts_on_a_terminal(raw in "(?s).{0,200}") {
            let text = ChatText::new(&raw);
            prop_assert!(text.chars().all(|c| !c.is_control() && !is_harmful(c) && !is_invisible(c)));
            prop_assert!(text.chars().all(|c| c == ' ' || !c.is_whitespace()));
            prop_assert!(text.len() <= 2000);
            prop_assert_eq!(&ChatText::new(&text), &text, "what is safe stays as it is");
        }

        #[test]
        fn every_limit_holds(raw in "(?s).{0,40}") {
            prop_assert!(DisplayText::<7>::new(&raw).len() <= 7);
        }
    }
}
