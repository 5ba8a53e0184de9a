//! `fieldgate config`: changes to the configuration that a program can make.

mod add;
pub mod draft;

use super::{Global, Out};
use std::process::ExitCode;

/// Change the configuration by a command instead of an editor.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fieldgate config add --from-scan              what the last scan found, into conf.d\n\nMore: fieldgate config add --help"
)]
pub struct Args {
    #[command(subcommand)]
    verb: ConfigVerb,
}

#[derive(Debug, clap::Subcommand)]
enum ConfigVerb {
    /// Write found devices into conf.d
    Add(add::Args),
}

pub fn run(global: &Global, out: &Out, args: &Args) -> ExitCode {
    match &args.verb {
        ConfigVerb::Add(args) => add::run(global, out, args),
    }
}
