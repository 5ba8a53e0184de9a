//! A question before what cannot be undone, put once and only to somebody who can answer.

use super::Out;
use std::io::{BufRead, IsTerminal, Write};

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
