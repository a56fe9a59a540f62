//! The binary: hands over to the command line.
//! Owns nothing. Never does anything else.

use std::process::ExitCode;

fn main() -> ExitCode {
    mainstay::cli::main()
}
