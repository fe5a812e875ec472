//! Questions that a call without a window asks on standard error, answered by lines of standard
//! input.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use call::{Command, Event, QuestionId};

use crate::paste::Paste;
use crate::standard_input::{Line, StandardInput};

/// Shortest time in which a person can read a question and answer it. What a terminal delivers sooner
/// was typed before the question.
const READING_TIME: Duration = Duration::from_millis(300);

/// Questions that are open.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug, Default)]
pub(super) struct Questions {
    input: StandardInput,
    /// What was pasted of the answer of a manual guest, while it is awaited.
    answer: Option<Paste>,
    /// Who asks to join, and the number of that question.
    knock: Option<(QuestionId, String)>,
    /// Whether a question was withdrawn, whose answer may still come.
    is_withdrawn: bool,
    /// Whether somebody was let in, so that the call is worth more than the next guest.
    has_met: bool,
    /// Whether the call answers by itself.
    auto_admit: bool,
    /// Whether a person types the answers; a program may write them ahead.
    is_terminal: bool,
}

impl Questions {
    /// Returns the questions of a call; with `auto_admit` it lets everybody in by itself.
    pub(super) fn new(auto_admit: bool) -> Self {
        let is_terminal = std::io::stdin().is_terminal();
        Self { auto_admit, is_terminal, ..Self::default() }
    }

    /// Asks for the answer of a manual guest.
    pub(super) fn ask_for_answer(&mut self) {
        eprintln!(
            "send this link to your peer, then paste the answer you get back and press Enter:"
        );
        self.answer = Some(Paste::new(call::check_answer, self.is_terminal));
    }

    /// Asks what an event requires; returns what can be decided without a question.
    pub(super) fn note(&mut self, event: &Event) -> Option<Command> {
        match event {
            Event::Knock { question, name } => {
                let name = if name.is_empty() { "somebody" } else { &**name };
                eprintln!("{name} asks to join: y lets in, n turns away");
                self.knock = Some((*question, name.to_owned()));
                if self.is_terminal {
                    self.input.ignore_until(Instant::now() + READING_TIME);
                } else if std::mem::take(&mut self.is_withdrawn) {
                    // What a program has written for the question before does not answer this one.
                    self.input.ignore_until(Instant::now());
                }
            }
            Event::Connected { .. } => self.has_met = true,
            Event::PeerFaceReplaced { .. } if self.auto_admit => {
                eprintln!("the peer shows another face now");
            }
            Event::KnockWithdrawn { question } => {
                if let Some((_, name)) = self.knock.take_if(|(asked, _)| asked == question) {
                    eprintln!("{name} does not ask any more");
                    self.is_withdrawn = true;
                }
            }
            Event::AnswerRefused => {
                eprintln!("that is not the answer to this invite; paste the right one:");
                self.answer = Some(Paste::new(call::check_answer, self.is_terminal));
            }
            &Event::PeerFaceReplaced { question } => {
                eprintln!(
                    "the peer offers another face, which is refused (--auto-admit accepts it)"
                );
                return Some(Command::AcceptFace { question, accepts: false });
            }
            _ => {}
        }
        None
    }

    /// Returns what the next line of standard input decides, if a question is open and the line is
    /// here.
    ///
    /// Once somebody was let in, a guest whom nobody can be asked about is turned away.
    ///
    /// # Errors
    /// If standard input has ended and a question is open before anybody was let in.
    pub(super) fn poll(&mut self) -> anyhow::Result<Option<Command>> {
        if let Some(answer) = &mut self.answer {
            let command = poll_answer(answer, &mut self.input, Instant::now())?;
            if command.is_some() {
                self.answer = None;
            }
            return Ok(command);
        }
        let Some((question, name)) = &self.knock else { return Ok(None) };
        match self.input.poll() {
            Line::Text(line) => Ok(self.decide(&line)),
            Line::NotYet => Ok(None),
            Line::End if self.has_met => {
                eprintln!("{name} is turned away, because standard input has ended");
                let command = Command::Admit { question: *question, lets_in: false };
                self.knock = None;
                Ok(Some(command))
            }
            Line::End => anyhow::bail!(
                "{name} asks to join, but standard input has ended; --auto-admit lets in whoever \
                 has the link"
            ),
        }
    }

    fn decide(&mut self, line: &str) -> Option<Command> {
        let lets_in = match line.to_ascii_lowercase().as_str() {
            "y" | "yes" => true,
            "n" | "no" => false,
            _ => {
                eprintln!("answer y or n");
                return None;
            }
        };
        let (question, _) = self.knock.take()?;
        Some(Command::Admit { question, lets_in })
    }
}

/// Returns the answer of a manual guest, if it is here. What is wrong is said, and asked for again.
///
/// # Errors
/// If standard input has ended without an answer.
fn poll_answer(
    answer: &mut Paste,
    input: &mut StandardInput,
    now: Instant,
) -> anyhow::Result<Option<Command>> {
    match input.poll() {
        Line::Text(line) => answer.push(&line, now),
        Line::NotYet => match answer.poll(now) {
            Some(Ok(text)) => return Ok(Some(Command::AcceptAnswer(text))),
            Some(Err(error)) => eprintln!("{error}; paste it again:"),
            None => {}
        },
        Line::End => match answer.finish() {
            Ok(text) => return Ok(Some(Command::AcceptAnswer(text))),
            Err(error) => anyhow::bail!("standard input has ended, and {error}"),
        },
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use types::PeerName;

    use super::*;

    fn knock(n: u32) -> Event {
        Event::Knock { question: QuestionId(n), name: PeerName::new("Bob") }
    }

    #[test]
    fn a_line_answers_the_newest_question() {
        let mut questions = Questions::default();
        questions.note(&knock(1));
        questions.note(&knock(2));
        // The end of the first one came late.
        questions.note(&Event::KnockWithdrawn { question: QuestionId(1) });
        let answer = Command::Admit { question: QuestionId(2), lets_in: true };
        assert_eq!(questions.decide("y"), Some(answer));
    }

    #[test]
    fn a_line_answers_the_question_that_is_open() {
        let mut questions = Questions::default();
        for (line, lets_in) in [("y", true), ("YES", true), ("n", false), ("No", false)] {
            questions.note(&knock(7));
            assert_eq!(questions.decide("perhaps"), None);
            let answer = Command::Admit { question: QuestionId(7), lets_in };
            assert_eq!(questions.decide(line), Some(answer));
            assert_eq!(questions.knock, None);
        }
    }

    #[test]
    fn an_answer_may_have_lines_and_a_wrong_one_is_asked_for_again() {
        let answer = "feathercall-answer:\n> BwcHB-ug6Dk";
        let (now, pause) = (Instant::now(), Duration::from_secs(1));
        let (sender, lines) = std::sync::mpsc::channel();
        let mut input = StandardInput::of(lines);
        let mut paste = Paste::new(call::check_answer, true);
        let mut told = Vec::new();
        for text in ["feathercall://call.example:4433/x#y", "feathercall-answer:BwcHB8", answer] {
            for line in text.lines() {
                sender.send((now, line.to_owned())).unwrap();
            }
            for i in 0..4 {
                told.extend(poll_answer(&mut paste, &mut input, now + i * pause).unwrap());
            }
        }
        assert_eq!(told, [Command::AcceptAnswer(answer.to_owned() + "\n")]);
        drop(sender);
        let error = poll_answer(&mut paste, &mut input, now).unwrap_err().to_string();
        assert!(error.starts_with("standard input has ended, and there is no answer"), "{error}");
    }

    #[test]
    fn a_line_typed_before_the_knock_does_not_let_in() {
        for is_terminal in [true, false] {
            let (sender, lines) = std::sync::mpsc::channel();
            let input = StandardInput::of(lines);
            let mut questions = Questions { input, is_terminal, ..Questions::default() };
            sender.send((Instant::now(), "y".to_owned())).unwrap();
            questions.note(&knock(7));
            if is_terminal {
                assert_eq!(questions.poll().unwrap(), None);
                sender.send((Instant::now() + 2 * READING_TIME, "y".to_owned())).unwrap();
            }
            let answer = Command::Admit { question: QuestionId(7), lets_in: true };
            assert_eq!(questions.poll().unwrap(), Some(answer), "{is_terminal}");
        }
    }

    #[test]
    fn a_piped_line_for_a_question_that_was_withdrawn_does_not_answer_the_next_one() {
        let (sender, lines) = std::sync::mpsc::channel();
        let mut questions = Questions { input: StandardInput::of(lines), ..Questions::default() };
        questions.note(&knock(1));
        questions.note(&Event::KnockWithdrawn { question: QuestionId(1) });
        sender.send((Instant::now(), "y".to_owned())).unwrap();
        questions.note(&knock(2));
        assert_eq!(questions.poll().unwrap(), None);
        sender.send((Instant::now(), "n".to_owned())).unwrap();
        let answer = Command::Admit { question: QuestionId(2), lets_in: false };
        assert_eq!(questions.poll().unwrap(), Some(answer));
        // A question that was answered leaves nothing behind.
        sender.send((Instant::now(), "y".to_owned())).unwrap();
        questions.note(&knock(3));
        let answer = Command::Admit { question: QuestionId(3), lets_in: true };
        assert_eq!(questions.poll().unwrap(), Some(answer));
    }

    #[test]
    fn the_end_of_standard_input_ends_a_call_only_before_somebody_was_let_in() {
        for has_met in [false, true] {
            let (_, lines) = std::sync::mpsc::channel();
            let mut questions =
                Questions { input: StandardInput::of(lines), ..Questions::default() };
            if has_met {
                questions.note(&Event::Connected { peer_name: PeerName::new("Ada") });
            }
            for n in 1..3 {
                questions.note(&knock(n));
                match questions.poll() {
                    Ok(command) => {
                        let question = QuestionId(n);
                        assert_eq!(command, Some(Command::Admit { question, lets_in: false }));
                        assert!(has_met);
                    }
                    Err(error) => assert!(!has_met && error.to_string().contains("Bob asks")),
                }
            }
        }
    }

    #[test]
    fn without_a_question_standard_input_is_left_alone() {
        let mut questions = Questions::default();
        questions.note(&knock(1));
        questions.note(&Event::KnockWithdrawn { question: QuestionId(1) });
        assert!(matches!(questions.poll(), Ok(None)));
        assert_eq!(format!("{:?}", questions.input), format!("{:?}", StandardInput::default()));
    }
}
