//! Ctrl-C while something long runs: the first ends it with what was found, the second ends the program at once.

use std::{
    process::exit,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};
use tokio::signal::unix::{SignalKind, signal};

/// Interrupted; results so far were printed.
pub const EXIT_INTERRUPTED: u8 = 130;

#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on. Where signals cannot be watched, Ctrl-C ends the program as it does by itself.
    pub fn watch() -> Interrupt {
        let interrupt = Interrupt::default();
        let flag = interrupt.0.clone();
        let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
        let watch = move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            runtime.block_on(async move {
                let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else { return };
                let _ = ready.send(());
                loop {
                    tokio::select! {
                        biased;
                        _ = int.recv() => {}
                        _ = term.recv() => {}
                    }
                    if flag.swap(true, Relaxed) {
                        exit(EXIT_INTERRUPTED.into());
                    }
                }
            });
        };
        if std::thread::Builder::new().name("interrupt".into()).spawn(watch).is_ok() {
            // A Ctrl-C in the first millisecond counts as well.
            let _ = is_ready.recv();
        }
        interrupt
    }

    pub fn came(&self) -> bool {
        self.0.load(Relaxed)
    }
}
