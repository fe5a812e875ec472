use proptest::prelude::*;

use super::*;
use crate::invite::MeetingPoint;

const LINK: &str =
    "feathercall://call.example:4433/6544j2tadb5bpr2t#008j4ct4ank7f24snaxwsqfezzfptdcj";
/// The same, in the parts that tests put together.
const HEAD: &str = "call.example:4433/6544j2tadb5bpr2t";
const KEY: &str = "008j4ct4ank7f24snaxwsqfezzfptdcj";

fn invite() -> Invite {
    LINK.parse().unwrap()
}

fn with_hosts(hosts: &[&str]) -> Invite {
    let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    let secret = invite().secret;
    Invite { meeting_point: MeetingPoint::Rendezvous { hosts, room: secret.room() }, secret }
}

fn manual() -> Invite {
    let offer = (0..=255).chain(0..=99).collect();
    Invite { meeting_point: MeetingPoint::Manual { offer }, ..invite() }
}

fn answer() -> ManualAnswer {
    ManualAnswer((0..=255).rev().chain(0..=99).collect())
}

/// Breaks a text into lines of `width` characters.
fn wrapped(text: &str, width: usize, between: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let lines: Vec<String> = characters.chunks(width).map(|line| line.iter().collect()).collect();
    lines.join(between)
}

fn percent_encoded(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            ':' | '/' | '#' | ',' | '[' | ']' | '%' => format!("%{:02X}", u32::from(c)),
            c => c.to_string(),
        })
        .collect()
}

#[test]
fn a_link_is_found_in_whatever_a_program_makes_of_it() {
    let encoded = percent_encoded(LINK);
    let twice = percent_encoded(&encoded);
    let texts = [
        // Around the link.
        LINK.to_owned(),
        format!("  {LINK}\r\n"),
        format!("<{LINK}>"),
        format!("\"{LINK}\""),
        format!("“{LINK}”"),
        format!("„{LINK}“, dann reden wir"),
        format!("«\u{a0}{LINK}\u{a0}»"),
        format!("'{LINK}'."),
        format!("`{LINK}`"),
        format!("```\n{LINK}\n```"),
        format!("**{LINK}**"),
        format!("_{LINK}_"),
        format!("({LINK})"),
        format!("{LINK}."),
        format!("{LINK}!!"),
        format!("Hi, here is my Feathercall: {LINK}, see you at 5? Bring #cake"),
        format!("Feathercall\n\n{LINK}\n\nSent from my phone"),
        format!("通话链接：{LINK}。谢谢"),
        format!("link={LINK}&more=1"),
        format!("{LINK} {LINK}\n{LINK}"),
        // Markup.
        format!("[join my call]({LINK})"),
        format!("[{LINK}]({LINK})"),
        format!("[feathercall://call.example:4433/65…]({LINK} \"Feathercall\")"),
        format!("<a href=\"{LINK}\">feathercall://call.exa...</a>"),
        format!("<a href='{encoded}'>{LINK}</a>"),
        format!("<{LINK}|join>"),
        format!("feathercall://<http://{HEAD}#{KEY}|{HEAD}#{KEY}>"),
        format!(
            "feathercall://[call.example:4433](http://call.example:4433)/6544j2tadb5bpr2t#{KEY}"
        ),
        format!("feathercall://[{HEAD}#{KEY}](https://{HEAD}#{KEY})"),
        format!("feathercall://http://{HEAD}#{KEY}"),
        format!("https://{HEAD}#{KEY}"),
        format!("join me: {HEAD}#{KEY}."),
        format!("(//{HEAD}%23{KEY})"),
        LINK.replace("://", "[:]//").replace('.', "[.]"),
        format!("feathercall://call.example:4433/<wbr>6544j2tadb5bpr2t#<wbr>{KEY}"),
        format!("feathercall:\\/\\/call.example:4433\\/6544j2tadb5bpr2t\\#{KEY}"),
        // Encodings.
        format!("feathercall://{HEAD}%23{KEY}"),
        format!("feathercall://{HEAD}%2523{KEY}"),
        encoded.clone(),
        encoded.to_lowercase(),
        twice.clone(),
        format!("https://l.facebook.com/l.php?u={encoded}&h=AT0x%20y"),
        format!("https://eur01.safelinks.protection.outlook.com/?url={encoded}&data=05%7C02"),
        format!("https://www.google.com/url?q={twice}&sa=D"),
        format!("feathercall&#58;//{HEAD}&#35;{KEY}"),
        format!("feathercall&colon;&sol;&sol;{HEAD}&num;{KEY}"),
        format!("feathercall://{HEAD}&amp;#35;{KEY}"),
        format!("feathercall&#x3a;&#x2F;&#x2f;{HEAD}&#x23;{KEY}"),
        // Parameters that are added.
        format!("feathercall://{HEAD}?utm_source=mail&utm_medium=x#{KEY}"),
        format!("feathercall://{HEAD}/?fbclid=IwAR0-_x#{KEY}"),
        format!("feathercall://{HEAD}#{KEY}?utm_source=mail"),
        format!("feathercall://{HEAD}#{KEY}&fbclid=IwAR0"),
        format!("feathercall://{HEAD}?x=1%23{KEY}%26y=2"),
        // Slashes, colons, letters.
        format!("feathercall:/{HEAD}#{KEY}"),
        format!("feathercall:{HEAD}#{KEY}"),
        format!("feathercall:////{HEAD}#{KEY}"),
        format!("feathercall//{HEAD}#{KEY}"),
        format!("https://feathercall://{HEAD}#{KEY}"),
        format!("feathercall:\\\\{HEAD}#{KEY}"),
        format!("feathercall://{HEAD}/#{KEY}"),
        format!("feathercall://call.example:4433//6544j2tadb5bpr2t//##{KEY}"),
        format!("feathercall: //{HEAD}#{KEY}"),
        LINK.to_uppercase(),
        format!("Feathercall://{}#{KEY}", HEAD.to_uppercase()),
        LINK.replace("008j", "OO8J"),
        LINK.replace("://", "：／／").replace('#', "＃"),
        // Lines.
        wrapped(LINK, 30, "\n"),
        wrapped(LINK, 30, "\r\n    "),
        wrapped(LINK, 13, " "),
        format!("Anna wrote:\n> {}\n> bye", wrapped(LINK, 40, "\n> ")),
        format!(">> {}", wrapped(LINK, 40, "\n>> ")),
        wrapped(LINK, 40, "=\r\n"),
        wrapped(LINK, 40, " \\\n"),
        format!("│ {} │", wrapped(LINK, 40, " │\n│ ")),
        format!("feathercall://{HEAD}#{}", wrapped(KEY, 4, "-")),
        format!("feathercall://{HEAD}\n#{KEY}"),
        // What cannot be seen.
        format!("\u{feff}{LINK}"),
        wrapped(LINK, 5, "\u{200b}"),
        wrapped(LINK, 5, "\u{ad}"),
        wrapped(LINK, 9, "\u{2060}"),
        format!("\u{2068}{LINK}\u{2069}"),
        format!("\u{200e}{LINK}\u{200f}\u{202c}"),
        wrapped(LINK, 11, "\u{a0}"),
        wrapped(LINK, 11, "\u{200d}\u{fe0f}"),
        wrapped(LINK, 20, "\u{2028}"),
        LINK.chars().flat_map(|c| [c, '\0']).collect(),
    ];
    for text in texts {
        assert_eq!(Invite::find(&text), Ok(invite()), "{text}");
    }
}

#[test]
fn every_kind_of_meeting_point_is_found() {
    for hosts in [
        &["my_pc.local:4000"][..],
        &["10.0.0.2:4000", "192.168.1.7:4000", "[fd00::2]:4000"],
        &["[2001:db8::1]:65535"],
        &["[fe80::1%eth0]:4000"],
        &["[fe80::1%25eth0]:4000"],
        &["feathercall.example:4433"],
        &["feathercall:4433"],
        &["xn--mnchen-3ya.example:4433"],
    ] {
        let invite = with_hosts(hosts);
        let link = invite.to_string();
        for text in [
            link.clone(),
            format!("<{link}>."),
            percent_encoded(&link),
            wrapped(&link, 25, "\n> "),
            format!("[call]({link})"),
            link.replace('#', "%23"),
        ] {
            assert_eq!(Invite::find(&text), Ok(invite.clone()), "{text}");
        }
    }
    // Two hyphens displayed as one dash.
    let punycode = with_hosts(&["xn--mnchen-3ya.example:4433"]);
    for dash in ["—", "–"] {
        let text = punycode.to_string().replace("--", dash);
        assert_eq!(Invite::find(&text), Ok(punycode.clone()), "{text}");
    }
}

#[test]
fn manual_links_and_answers_are_found_as_well() {
    let (link, text) = (manual().to_string(), answer().to_string());
    let decorations: [fn(&str) -> String; 14] = [
        str::to_owned,
        |x| format!("<{x}>"),
        |x| format!("“{x}”."),
        |x| format!("_{x}_"),
        |x| format!("`{x}`"),
        |x| format!("Here it is:\n\n{x}\n\nSee you, Bob"),
        |x| format!("Here it is: {x} See you, Bob"),
        |x| wrapped(x, 76, "\n"),
        |x| format!("> {}\n> See you", wrapped(x, 72, "\n> ")),
        |x| wrapped(x, 60, " "),
        |x| wrapped(x, 50, "=\n"),
        |x| wrapped(x, 9, "\u{200b}"),
        |x| x.replace("--", "—").replace("feathercall", "Feathercall"),
        |x| percent_encoded(x) + "&x=1",
    ];
    for decorate in decorations {
        assert_eq!(Invite::find(&decorate(&link)), Ok(manual()), "{}", decorate(&link));
        assert_eq!(ManualAnswer::find(&decorate(&text)), Ok(answer()), "{}", decorate(&text));
    }
    for scheme in ["feathercall-answer://", "FEATHERCALL-ANSWER: ", "feathercall-answer:/"] {
        let text = text.replace("feathercall-answer:", scheme);
        assert_eq!(ManualAnswer::find(&text), Ok(answer()), "{text}");
    }
    let both = format!("{link}\n\n{text}");
    assert_eq!(Invite::find(&both), Ok(manual()));
    assert_eq!(ManualAnswer::find(&both), Ok(answer()));
}

#[test]
fn damage_is_told_from_decoration_and_named() {
    use InviteError::*;
    let other = with_hosts(&["other.example:4433"]).to_string();
    let (manual, text) = (manual().to_string(), answer().to_string());
    let old = "feathercall://call.example:4433/bkh3h9jtf5b8rpgm#008j4ct4ank7f24snaxwsqfezzvdajc5";
    let no_port = with_hosts(&["call.example"]).to_string();
    for (pasted, expected) in [
        (String::new(), NotAnInvite),
        ("https://example.org/#abc".to_owned(), NotAnInvite),
        ("shall we use Feathercall today?".to_owned(), NotAnInvite),
        (LINK.replace("feathercall", "feathercal"), NotAnInvite),
        (text.clone(), AnswerForInvite),
        (LINK[..20].to_owned(), NoSecret),
        (format!("feathercall://{HEAD}"), NoSecret),
        (format!("feathercall://{HEAD}#"), NoSecret),
        (format!("feathercall://{HEAD} is the link for issue #4"), NoSecret),
        (format!("\"feathercall://{HEAD}\" (#008j)"), NoSecret),
        ("feathercall://call.example:4433/6544…".to_owned(), NoSecret),
        (LINK[..LINK.len() - 1].to_owned(), CutOff { found: 31 }),
        (LINK[..LINK.len() - 20].to_owned(), CutOff { found: 12 }),
        (format!("{}…", &LINK[..LINK.len() - 20]), CutOff { found: 12 }),
        (format!("{} and then come all my words", &LINK[..60]), CutOff { found: 11 }),
        (LINK.replace("008j", "009j"), Checksum),
        (LINK.replace("008j", "00j8"), Checksum),
        (LINK.replace("4433", "4434"), Checksum),
        (LINK.replace("example", "exmple"), Checksum),
        (LINK.replace("6544", "6545"), Checksum),
        (LINK.replace("008j", "u08j"), Checksum),
        // Letters of another script that look the same.
        (LINK.replace("call.e", "cаll.e"), Checksum),
        (LINK.replace("8j4c", "8j4с"), Checksum),
        (format!("<{}>", LINK.replace("zzfp", "zfp")), CutOff { found: 31 }),
        (format!("{LINK} or {other}"), Ambiguous),
        (format!("{} or {other}", LINK.replace('#', "%23")), Ambiguous),
        (format!("> {old}"), OtherVersion),
        (no_port, BadMeetingPoint),
        (manual[..manual.len() - 50].to_owned(), NoSecret),
        (manual.to_uppercase(), CaseLost),
        (manual.to_lowercase(), CaseLost),
        (manual.replacen("AAEC", "AAED", 1), Checksum),
        ("feathercall://".to_owned() + &"a".repeat(70_000), TooLong),
    ] {
        assert_eq!(Invite::find(&pasted), Err(expected), "{pasted}");
    }
    let other = ManualAnswer(vec![1; 80]).to_string();
    for (pasted, expected) in [
        (String::new(), NotAnAnswer),
        ("y".to_owned(), NotAnAnswer),
        (LINK.to_owned(), InviteForAnswer),
        (manual.clone(), InviteForAnswer),
        ("feathercall-answer:".to_owned(), AnswerChecksum),
        (text[..text.len() - 1].to_owned(), AnswerChecksum),
        (text[..text.len() / 2].to_owned(), AnswerChecksum),
        (text.replacen("__79", "__78", 1), AnswerChecksum),
        (text.to_uppercase(), CaseLost),
        (format!("{text}\n{other}"), Ambiguous),
    ] {
        assert_eq!(ManualAnswer::find(&pasted), Err(expected), "{pasted}");
    }
}

/// A text that contains no link of its own.
fn arb_prose() -> impl Strategy<Value = String> {
    "[ \n\t.,:;!?()\\[\\]<>\"'„“”«»*_~`|–—a-zA-Zäß日本#&%/=\u{200b}\u{feff}\u{a0}0-9-]{0,60}"
        .prop_filter("no scheme", |prose| !prose.to_lowercase().contains("feathercall"))
}

proptest! {
    #[test]
    fn nothing_around_a_link_changes_what_it_is(
        before in arb_prose(),
        after in arb_prose(),
        at in 0..LINK.len(),
        inside in "[\u{200b}\u{ad}\u{2060}\u{feff}\n \u{a0}]{0,4}",
    ) {
        let broken = format!("{}{inside}{}", &LINK[..at], &LINK[at..]);
        // A scheme in two pieces is none.
        let broken = if at < 11 { LINK.to_owned() } else { broken };
        let text = format!("{before} {broken} {after}");
        prop_assert_eq!(Invite::find(&text), Ok(invite()), "{}", text);
    }

    #[test]
    fn one_wrong_character_never_makes_another_link(
        at in 0..LINK.len(),
        character in "[ -~…–—\n]",
        edit in 0..3,
        around in arb_prose(),
    ) {
        let (before, rest) = LINK.split_at(at);
        let changed = match edit {
            0 => format!("{before}{character}{}", &rest[1..]),
            1 => format!("{before}{character}{rest}"),
            _ => format!("{before}{}", &rest[1..]),
        };
        if let Ok(found) = Invite::find(&format!("{changed} {around}")) {
            prop_assert_eq!(found, invite(), "{}", changed);
        }
    }

    #[test]
    fn one_wrong_character_never_makes_another_answer(at in 0..500_usize, character in "[ -~]") {
        let text = answer().to_string();
        let at = at % text.len();
        let changed = format!("{}{character}{}", &text[..at], &text[at + 1..]);
        if let Ok(found) = ManualAnswer::find(&changed) {
            prop_assert_eq!(found, answer(), "{}", changed);
        }
    }

    #[test]
    fn no_text_makes_the_finder_panic(text in "\\PC{0,80}", tail in "[a-z0-9/:#.%&;<>|\\[\\]()–\n ]{0,80}") {
        for text in [text, format!("feathercall://{tail}"), format!("feathercall-answer:{tail}")] {
            let _ = Invite::find(&text);
            let _ = ManualAnswer::find(&text);
        }
    }
}
