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
    match on_one_thread(app::run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            out.error("start", &format!("{error:#}"), "");
            ExitCode::FAILURE
        }
    }
}

/// One thread: engine, TCP lines, uplink and socket share it; serial lines, the MQTT endpoint and the database have their
/// own. What is left of it afterwards is not waited for: a name server that does not answer holds its helper thread for
/// up to half a minute, and that is just when the uplink is down.
fn on_one_thread<T>(work: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime needs only memory and an epoll descriptor");
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::clock::Clock;
    use std::{sync::mpsc, time::Duration};

    #[test]
    fn a_name_server_that_does_not_answer_does_not_hold_the_stop() {
        let began = Clock::Real.now();
        let (answer, never) = mpsc::channel::<()>();
        on_one_thread(async move {
            let look_up = tokio::task::spawn_blocking(move || never.recv_timeout(Duration::from_secs(3)).is_ok());
            // Given up, as a stop gives up a connection attempt.
            let _ = tokio::time::timeout(Duration::from_millis(50), look_up).await;
        });
        let took = Clock::Real.now() - began;
        drop(answer);
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
}
