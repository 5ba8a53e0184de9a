//! `fieldgate run`: the daemon in the foreground, as systemd starts it.

use super::{EXIT_AGAIN, EXIT_CONFIG, Global, Out};
use crate::{
    app::{self, End},
    config,
    store::StoreError,
    system::{logging, memory, pace},
};
use std::{panic, process::ExitCode};
use tokio::runtime::Runtime;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fieldgate run --config ./fieldgate.toml\n  systemctl start fieldgate\n\nSIGTERM or Ctrl-C: sends what is in memory, keeps the rest on disk, ends within 5 s.\nSIGHUP: reads the configuration again; begins anew with it if it checks and says something else.\nExit: 75 to be started again, 78 the configuration does not check, or a newer fieldgate wrote the data; systemd does not restart on it."
)]
pub struct Args {}

pub fn run(global: &Global, out: &Out, _args: &Args) -> ExitCode {
    memory::give_back_what_is_free();
    logging::init(global.verbose);
    memory::keep_out_of_cores();
    let Some(config) = load(global, out) else {
        return ExitCode::from(EXIT_CONFIG);
    };
    let run = pace::begin();
    // One thread: engine, TCP lines, uplink and socket share it; serial lines, the MQTT endpoint and the database have their own.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime needs only memory and an epoll descriptor");
    end_on_panic();
    let end = see_through(runtime, app::run(config, &global.config));
    if end.is_ok() {
        run.ended_in_order();
    }
    match end {
        Ok(End::Stopped) => ExitCode::SUCCESS,
        Ok(End::Again) => {
            let error = memory::begin_anew();
            tracing::error!(%error, "cannot begin anew in this process; whoever started it has to start it again");
            ExitCode::from(EXIT_AGAIN)
        }
        Err(error) => {
            out.error("start", &format!("{error:#}"), "");
            // A newer program's data, like a wrong configuration, is for a person to mend: systemd must not try again.
            match error.downcast_ref::<StoreError>() {
                Some(StoreError::TooNew { .. }) => ExitCode::from(EXIT_CONFIG),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// The configuration alone: what else was read is given back.
fn load(global: &Global, out: &Out) -> Option<config::Config> {
    let loaded = config::load(&global.config);
    if !loaded.problems.is_empty() {
        eprint!("{}", super::check::render(&loaded, out));
    }
    loaded.config
}

/// Runs it and leaves at once. Dropping the runtime would wait for a name lookup that hangs, for as long as the resolver
/// likes to try: longer than a stop may take.
fn see_through<T>(runtime: Runtime, work: impl Future<Output = T>) -> T {
    let end = runtime.block_on(work);
    runtime.shutdown_background();
    end
}

/// A part that panicked would leave a gateway that looks alive and no longer polls, listens or stores. The whole process
/// ends instead, as by `kill -9`, which it survives, and systemd starts it again.
fn end_on_panic() {
    let say = panic::take_hook();
    panic::set_hook(Box::new(move |why| {
        say(why);
        tracing::error!(%why, "a defect; the process ends so that it can be started again");
        std::process::abort();
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::clock::Clock;
    use std::{os::unix::process::ExitStatusExt, process::Command, sync::mpsc, time::Duration};

    #[test]
    fn a_name_lookup_that_hangs_does_not_delay_the_exit() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (hang, hangs) = mpsc::channel::<()>();
        let begun = Clock::Real.now();
        see_through(runtime, async move {
            let (begin, begins) = tokio::sync::oneshot::channel();
            tokio::task::spawn_blocking(move || {
                let _ = begin.send(());
                hangs.recv_timeout(Duration::from_secs(10))
            });
            begins.await.unwrap();
        });
        let took = Clock::Real.now() - begun;
        drop(hang);
        assert!(took < Duration::from_secs(5), "{took:?}");
    }

    #[test]
    fn a_thread_that_panics_ends_the_process() {
        let me = std::env::current_exe().unwrap();
        let child = ["--exact", "cli::run::tests::panics_in_a_thread", "--ignored"];
        let status = Command::new(me).args(child).output().unwrap().status;
        assert_eq!(status.signal(), Some(6), "{status}");
    }

    #[test]
    #[ignore = "the other half of the test above: it ends its process"]
    fn panics_in_a_thread() {
        end_on_panic();
        let _ = std::thread::spawn(|| panic!("a defect")).join();
    }
}
