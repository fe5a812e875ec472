//! What programs do to a text on its way from one person to another, undone.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// How often a text is decoded: a redirect of a mail filter may contain another one.
const MAX_DECODINGS: usize = 3;

/// Marks inside a link and what they stand for: tags for line breaks, and brackets that keep a link from
/// being one that can be clicked.
const MARKS: [(&str, &str); 8] = [
    ("<wbr>", ""),
    ("<wbr/>", ""),
    ("<wbr />", ""),
    ("<br>", ""),
    ("<br/>", ""),
    ("<br />", ""),
    ("[.]", "."),
    ("[:]", ":"),
];

/// Returns the readings of a pasted text: as it is, with `%23` decoded, decoded from HTML and percent
/// encoding up to three times, and each with its Markdown links replaced by their labels.
pub(crate) fn readings(text: &str) -> Vec<String> {
    let mut readings = vec![clean(text)];
    // Some programs encode this character alone, and leave other percent signs as they are.
    if text.contains("%23") {
        readings.push(clean(&text.replace("%23", "#")));
    }
    let mut decoded = Cow::Borrowed(text);
    for _ in 0..MAX_DECODINGS {
        let next = decode(&decoded);
        if next == *decoded {
            break;
        }
        readings.push(clean(&next));
        decoded = Cow::Owned(next);
    }
    let labels: Vec<String> = readings.iter().filter_map(|text| with_labels(text)).collect();
    readings.extend(labels);
    readings
}

/// Undoes one layer of HTML entities and of percent encoding.
fn decode(text: &str) -> String {
    let text = decode_entities(text);
    percent_decode_str(&text).decode_utf8_lossy().into_owned()
}

/// Replaces HTML entities: the numeric ones, and those with names that occur in links.
fn decode_entities(text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        decoded.push_str(before);
        // The longest name that is known has 14 characters.
        let entity = after.char_indices().take(16).find(|(_, c)| *c == ';').map(|(at, _)| at);
        if let Some((character, after)) =
            entity.and_then(|at| Some((entity_char(&after[..at])?, &after[at + 1..])))
        {
            decoded.push(character);
            rest = after;
        } else {
            decoded.push('&');
            rest = after;
        }
    }
    decoded + rest
}

fn entity_char(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => number.parse(),
        };
        return code.ok().and_then(char::from_u32);
    }
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => '\u{a0}',
        "shy" => '\u{ad}',
        "num" => '#',
        "colon" => ':',
        "sol" => '/',
        "period" => '.',
        "comma" => ',',
        "lowbar" => '_',
        "percnt" => '%',
        "hyphen" | "dash" => '-',
        "ndash" => '–',
        "mdash" => '—',
        "ZeroWidthSpace" | "zwnj" | "zwj" => '\u{200b}',
        _ => return None,
    })
}

/// Replaces look-alikes by the characters that a link has, and removes what is invisible or belongs
/// to the layout: quotation marks of mails at the beginning of lines, and tags for line breaks.
fn clean(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    for line in text.split(['\n', '\r', '\u{2028}', '\u{2029}']) {
        let is_frame = |c: char| c.is_whitespace() || ">|│┃║▌".contains(c) || is_invisible(c);
        let line = line.trim_start_matches(is_frame).trim_end_matches(['│', '┃', '║']);
        // A line of quoted-printable text that goes on ends with an equals sign.
        let line = line.strip_suffix('=').unwrap_or(line);
        cleaned.extend(line.chars().filter(|c| !is_invisible(*c)).map(plain));
        cleaned.push('\n');
    }
    for (mark, meaning) in MARKS {
        if cleaned.contains(mark) {
            cleaned = cleaned.replace(mark, meaning);
        }
    }
    cleaned
}

/// Returns the ASCII character that a program has replaced by this one.
fn plain(character: char) -> char {
    match character {
        // Fullwidth forms are ASCII, shifted.
        '\u{ff01}'..='\u{ff5e}' => {
            char::from_u32(u32::from(character) - 0xfee0).unwrap_or(character)
        }
        '\u{2010}' | '\u{2011}' | '\u{2212}' => '-',
        '\u{2044}' | '\u{2215}' => '/',
        '\u{2236}' | '\u{a789}' => ':',
        c if c.is_whitespace() => ' ',
        c => c,
    }
}

/// Whether a character is not shown: joiners, marks of direction, soft hyphens, variation
/// selectors, control characters.
fn is_invisible(character: char) -> bool {
    (character.is_control() && !character.is_whitespace())
        || matches!(
            character,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffd}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Returns a text with `label` in place of each `[label](target)` and `<target|label>`; `None` if it
/// has none.
fn with_labels(text: &str) -> Option<String> {
    let has_labels = text.contains("](") || text.contains('<') && text.contains('|');
    if !has_labels {
        return None;
    }
    let mut labels = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['[', '<']) {
        labels.push_str(&rest[..at]);
        let link = &rest[at..];
        let parts = match link.strip_prefix('[') {
            Some(link) => link.split_once("](").and_then(|(label, link)| {
                let (_, after) = link.split_once(')')?;
                (!label.contains('\n')).then_some((label, after))
            }),
            None => link.split_once('>').and_then(|(link, after)| {
                let (_, label) = link.split_once('|')?;
                Some((label, after))
            }),
        };
        rest = if let Some((label, after)) = parts {
            labels.push_str(label);
            after
        } else {
            labels.push_str(&link[..1]);
            &link[1..]
        };
    }
    labels.push_str(rest);
    Some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_and_percent_encoding_are_undone_layer_by_layer() {
        for (text, expected) in [
            ("a#b", &["a#b\n"][..]),
            ("a%25%23b", &["a%25%23b\n", "a%25#b\n", "a%#b\n"]),
            ("a%25252523", &["a%25252523\n", "a%252523\n", "a%2523\n", "a%23\n"]),
            ("a&#35;&#x3A;&sol;&unknown;&", &["a&#35;&#x3A;&sol;&unknown;&\n", "a#:/&unknown;&\n"]),
            ("&amp;#35;", &["&amp;#35;\n", "&#35;\n", "#\n"]),
            ("100% & more", &["100% & more\n"]),
        ] {
            assert_eq!(readings(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_invisible_or_layout_goes_and_look_alikes_become_plain() {
        for (text, cleaned) in [
            ("\u{feff}a\u{200b}b\u{ad}c\u{202e}", "abc\n"),
            ("ａ：／＃\u{2011}\u{a0}b", "a:/#- b\n"),
            ("> > a\r\n\t> b=\n│ c │", "a\n\nb\nc \n"),
            ("a<wbr>b", "ab\n"),
        ] {
            assert_eq!(clean(text), cleaned, "{text:?}");
        }
    }

    #[test]
    fn labels_stand_for_their_links() {
        for (text, labels) in [
            ("x://[h:1](http://h:1)/r", Some("x://h:1/r")),
            ("x://<http://h:1/r|h:1/r> end", Some("x://h:1/r end")),
            ("a < b, [x [y](z) | w", Some("a < b, x [y | w")),
            ("[::1]:4", None),
        ] {
            assert_eq!(with_labels(text).as_deref(), labels, "{text}");
        }
    }
}
