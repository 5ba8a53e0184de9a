//! `fieldgate run`: the daemon in the foreground, as systemd starts it.

use super::{EXIT_CONFIG, Global, Out};
use crate::{app, config, system::logging};
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fieldgate run --config ./fieldgate.toml\n  systemctl start fieldgate\n\nSIGTERM or Ctrl-C: sends what is in memory, keeps the rest on disk, ends within 5 s.\nExit: 78 the configuration does not check; systemd does not restart on it."
)]
pub struct Args {}

pub fn run(global: &Global, out: &Out, _args: &Args) -> ExitCode {
    logging::init(global.verbose);
    let loaded = config::load(&global.config);
    if !loaded.problems.is_empty() {
        eprint!("{}", super::check::render(&loaded, out));
    }
    let Some(config) = loaded.config else {
        return ExitCode::from(EXIT_CONFIG);
    };
    // One thread: engine, TCP lines, uplink and socket share it; serial lines, the MQTT endpoint and the database have their own.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime needs only memory and an epoll descriptor");
    match runtime.block_on(app::run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            out.error("start", &format!("{error:#}"), "");
            ExitCode::FAILURE
        }
    }
}
