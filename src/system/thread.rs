//! A thread with a runtime of its own, so that what floods it takes nothing from the lines and the uplink but its share of
//! a core.

use std::io;
use tokio::sync::oneshot;

/// Threads of one such runtime that wait for the disk. More: the next one waits for its turn.
const BLOCKING: usize = 2;

/// Runs the future there; what is given back resolves at its end.
pub fn on_own_thread<F, R>(name: &str, run: F) -> io::Result<oneshot::Receiver<()>>
where
    F: FnOnce() -> R + Send + 'static,
    R: Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING).build()?;
    let (done, ended) = oneshot::channel();
    let work = move || {
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, run());
        drop(local);
        let _ = done.send(());
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(work)?;
    Ok(ended)
}
