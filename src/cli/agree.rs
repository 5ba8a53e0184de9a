//! A question before what cannot be undone, put once and only to somebody who can answer.

use super::Out;
use std::{
    io::{BufRead, IsTerminal, Write},
    process::ExitCode,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Yes,
    No,
    /// A script, a pipe: nobody was asked.
    Nobody,
}

pub fn ask(out: &Out, question: &str) -> Answer {
    if !std::io::stdin().is_terminal() || out.json {
        return Answer::Nobody;
    }
    eprint!("{question} [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let _ = std::io::stdin().lock().read_line(&mut answer);
    if matches!(answer.trim(), "y" | "Y" | "yes") { Answer::Yes } else { Answer::No }
}

/// `Err`: it is not to be done, which is said: in the words of `not_done` where somebody answered, else as an error with what
/// to do without anybody.
pub fn or_end(out: &Out, question: &str, not_done: &str, unasked: (&str, &str)) -> Result<(), ExitCode> {
    match ask(out, question) {
        Answer::Yes => Ok(()),
        Answer::No => {
            out.say(not_done);
            Err(ExitCode::FAILURE)
        }
        Answer::Nobody => {
            out.error("not-asked", &format!("{}, and nobody is here to agree", unasked.0), unasked.1);
            Err(ExitCode::from(2))
        }
    }
}
