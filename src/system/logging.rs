//! Where log lines go: to journald with their fields when systemd started us, else to stderr.
//! `FIELDGATE_LOG` chooses levels, such as `info,fieldgate::drivers=debug`.

use tracing_subscriber::{filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// `verbose`: 0 says changes, 1 adds debug, 2 adds what went over the wire.
pub fn init(verbose: u8) {
    let default = match verbose {
        0 => "info",
        1 => "fieldgate=debug,info",
        _ => "fieldgate=trace,debug",
    };
    let wanted = std::env::var("FIELDGATE_LOG").unwrap_or_else(|_| default.into());
    let filter: Targets = wanted.parse().unwrap_or_else(|_| default.parse().expect("the default filter is valid"));
    if std::env::var_os("JOURNAL_STREAM").is_some()
        && let Ok(journal) = tracing_journald::layer()
    {
        let _ = tracing_subscriber::registry().with(filter).with(journal).try_init();
        return;
    }
    let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let _ = tracing_subscriber::registry().with(filter).with(layer).try_init();
}
