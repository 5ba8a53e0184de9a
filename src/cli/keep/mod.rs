//! What a gateway is made of: its configuration and its data. Saved, put on another machine, wiped.
//!
//! ```text
//! backup ─► belongings ─► archive (tar, 0600) ─► restore ─► belongings of the spare
//!              └─► factory-reset
//! ```

mod archive;
pub mod backup;
mod belongings;
pub mod reset;
pub mod restore;

use super::{EXIT_REFUSED, Out};
use std::process::ExitCode;

/// Why it was not done, with what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Refusal {
    message: String,
    remedy: String,
}

impl Refusal {
    fn new(message: impl Into<String>, remedy: impl Into<String>) -> Refusal {
        Refusal { message: message.into(), remedy: remedy.into() }
    }

    fn told(&self, out: &Out) -> ExitCode {
        out.error("refused", &self.message, &self.remedy);
        ExitCode::from(EXIT_REFUSED)
    }
}

/// For errors of files: what was being done, to what.
fn cannot(what: &str, path: &std::path::Path) -> impl Fn(std::io::Error) -> Refusal {
    let what = format!("cannot {what} {}", path.display());
    move |error| Refusal::new(format!("{what}: {error}"), "run it with sudo; is there room on that disk?")
}
