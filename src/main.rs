//! Arguments → the verb → exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    credd::cli::main()
}
