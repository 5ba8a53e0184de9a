//! `fieldgate clock`: the witness of the kernel's clock for a daemon whose sandbox forbids the question (decision 0053).
//! It is run by a unit of its own and shown to nobody.

use super::{EXIT_UNREACHABLE, Out};
use crate::system::{
    clock::Clock,
    notify,
    steps::Steps,
    witness::{EVERY, Word},
};
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  systemctl start fieldgate-clock\n\nSays in /run/fieldgate-clock, every 5 s and whenever the clock is set, whether the kernel takes it for synchronised.\nExit: 3 the kernel does not answer, or the file cannot be written."
)]
pub struct Args {}

pub fn run(out: &Out, _args: &Args) -> ExitCode {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime needs only memory and an epoll descriptor");
    let why = runtime.block_on(watch());
    out.error("clock", &why, "it runs in its own unit: systemctl start fieldgate-clock");
    ExitCode::from(EXIT_UNREACHABLE)
}

/// Until it cannot: then its last word grows old and is believed no more.
async fn watch() -> String {
    let mut steps = Steps::of(&Clock::Real);
    let mut said = None;
    loop {
        let Some(word) = Word::now() else { return "the kernel does not say here whether its clock is synchronised".to_owned() };
        if let Err(error) = word.leave() {
            return format!("cannot leave a word about the clock: {error}");
        }
        if said.replace(word.is_synchronised()) != Some(word.is_synchronised()) {
            notify::ready(if word.is_synchronised() { "the clock is synchronised" } else { "the clock is not synchronised" });
        }
        tokio::select! {
            biased;
            () = steps.next() => {}
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}
