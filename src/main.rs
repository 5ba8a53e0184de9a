//! Exit codes and nothing else: what there is to do is in `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    fieldgate::cli::main()
}
