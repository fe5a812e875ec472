//! Questions that a call without a window asks on standard error, answered by lines of standard
//! input.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use call::{Command, Event, QuestionId};

use crate::standard_input::{Line, StandardInput};

/// Shortest time in which a person can read a question and answer it. What a terminal delivers sooner
/// was typed before the question.
const READING_TIME: Duration = Duration::from_millis(300);

/// Questions that are open.
#[derive(Debug, Default)]
pub(super) struct Questions {
    input: StandardInput,
    /// Whether the answer of a manual guest is awaited.
    wants_answer: bool,
    /// Who asks to join, and the number of that question.
    knock: Option<(QuestionId, String)>,
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
        self.wants_answer = true;
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
                }
            }
            Event::PeerFaceReplaced { .. } if self.auto_admit => {
                eprintln!("the peer shows another face now");
            }
            Event::KnockWithdrawn { question } => {
                if let Some((_, name)) = self.knock.take_if(|(asked, _)| asked == question) {
                    eprintln!("{name} does not ask any more");
                }
            }
            Event::AnswerRefused => {
                eprintln!("that is not the answer to this invite; paste the right one:");
                self.wants_answer = true;
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
    /// # Errors
    /// If standard input has ended and a question is open.
    pub(super) fn poll(&mut self) -> anyhow::Result<Option<Command>> {
        if !self.wants_answer && self.knock.is_none() {
            return Ok(None);
        }
        let line = match self.input.poll() {
            Line::Text(line) => line,
            Line::NotYet => return Ok(None),
            Line::End if self.wants_answer => {
                anyhow::bail!("standard input has ended before the answer of your peer")
            }
            Line::End => {
                let name = self.knock.as_ref().map_or("", |(_, name)| name);
                anyhow::bail!(
                    "{name} asks to join, but standard input has ended; --auto-admit lets in \
                     whoever has the link"
                )
            }
        };
        Ok(self.decide(line))
    }

    fn decide(&mut self, line: String) -> Option<Command> {
        if self.wants_answer {
            self.wants_answer = line.is_empty();
            return (!line.is_empty()).then_some(Command::AcceptAnswer(line));
        }
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
        assert_eq!(questions.decide("y".to_owned()), Some(answer));
    }

    #[test]
    fn a_line_answers_the_question_that_is_open() {
        let mut questions = Questions { wants_answer: true, ..Questions::default() };
        assert_eq!(questions.decide(String::new()), None);
        let answer = Some(Command::AcceptAnswer("feathercall-answer:x".to_owned()));
        assert_eq!(questions.decide("feathercall-answer:x".to_owned()), answer);
        for (line, lets_in) in [("y", true), ("YES", true), ("n", false), ("No", false)] {
            questions.note(&knock(7));
            assert_eq!(questions.decide("perhaps".to_owned()), None);
            let answer = Command::Admit { question: QuestionId(7), lets_in };
            assert_eq!(questions.decide(line.to_owned()), Some(answer));
            assert_eq!(questions.knock, None);
        }
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
    fn without_a_question_standard_input_is_left_alone() {
        let mut questions = Questions::default();
        questions.note(&knock(1));
        questions.note(&Event::KnockWithdrawn { question: QuestionId(1) });
        assert!(matches!(questions.poll(), Ok(None)));
        assert_eq!(format!("{:?}", questions.input), format!("{:?}", StandardInput::default()));
    }
}
