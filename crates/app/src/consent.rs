//! Consent of a person to a model of their face: asked, stated with an option, or given in the window.

use std::io::{BufRead, IsTerminal as _, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use capture::SourceSpec;
use console::Term;
use face::{Consent, ConsentForm};

use crate::commands::UsageError;
use crate::output;

/// What a person should know before they consent.
const QUESTION: &str = "\
This makes a face file of the person in the pictures, with the room behind them.
Whoever holds such a file can show that face saying and doing anything. It stays on this computer,
encrypted; during a call your peer receives the part that draws the face and the room.
Is it your own face, or do you have the person's consent? Enroll it? [y/N] ";

/// Longest answer that is read, bytes.
const MAX_ANSWER_BYTES: u64 = 100;

/// Consent to enroll a face on the command line. `None` for the actor, who is nobody.
///
/// # Errors
/// If the person refuses, or there is no terminal to ask on and `is_stated` (`--i-consent`) is not
/// set.
pub(crate) fn ask(source: &SourceSpec, is_stated: bool) -> anyhow::Result<Option<Consent>> {
    if matches!(source, SourceSpec::Actor) {
        return Ok(None);
    }
    if is_stated {
        return Ok(Some(given_now(ConsentForm::Option)));
    }
    let Some(mut terminal) = terminal_to_ask() else {
        let message = "a face is enrolled only with the person's consent, and there is no terminal to ask on; \
                       state it with --i-consent";
        return Err(UsageError(message.to_owned()).into());
    };
    anyhow::ensure!(
        is_confirmed(&mut std::io::stdin().lock(), &mut terminal, QUESTION)?,
        "nothing was enrolled, because consent was not given"
    );
    Ok(Some(given_now(ConsentForm::Terminal)))
}

/// Returns the terminal to ask a person on, who answers on standard input; none if either is
/// redirected.
pub(crate) fn terminal_to_ask() -> Option<Term> {
    output::terminal().filter(|_| std::io::stdin().is_terminal())
}

/// Asks a question and returns whether the answer is yes. No answer is no.
pub(crate) fn is_confirmed(
    answers: &mut impl BufRead,
    terminal: &mut impl Write,
    question: &str,
) -> std::io::Result<bool> {
    write!(terminal, "{question}")?;
    terminal.flush()?;
    let answer = capture::read_line(answers, MAX_ANSWER_BYTES)?;
    Ok(["y", "yes"].contains(&answer.to_lowercase().as_str()))
}

/// Returns a record of consent given at this moment.
pub(crate) fn given_now(form: ConsentForm) -> Consent {
    let given = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Consent { given: Duration::from_secs(given.as_secs()), form }
}

/// Returns the name of a form of consent, as `model info` prints it.
pub(crate) fn form_name(form: ConsentForm) -> &'static str {
    match form {
        ConsentForm::Terminal => "terminal",
        ConsentForm::Option => "option",
        ConsentForm::Window => "window",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_consent() {
        for (answer, want) in [
            ("y\n", true),
            (" Yes \n", true),
            ("n\n", false),
            ("\n", false),
            ("", false),
            ("yo\n", false),
        ] {
            let mut shown = Vec::new();
            assert_eq!(
                is_confirmed(&mut answer.as_bytes(), &mut shown, "so?").unwrap(),
                want,
                "{answer:?}"
            );
            assert_eq!(shown, b"so?");
        }
    }

    #[test]
    fn the_actor_is_nobody_and_a_stated_consent_is_recorded() {
        assert_eq!(ask(&SourceSpec::Actor, false).unwrap(), None);
        let camera = SourceSpec::Camera(None);
        assert_eq!(
            ask(&camera, true).unwrap().map(|consent| consent.form),
            Some(ConsentForm::Option)
        );
    }
}
