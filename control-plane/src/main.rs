//! The `keygate` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    keygate::cli::main()
}
