//! `completions`: a script for the shell, generated from the command line's own definition.
//! Owns nothing.
//! Never installs it.

use clap::CommandFactory;
use mainstay_protocol::enums::CliExitCode;

use super::args::{Cli, Completions};
use super::error::CliError;
use super::terminal;

pub(crate) fn run(args: &Completions) -> Result<CliExitCode, CliError> {
    terminal::print(&script(args.shell))?;
    Ok(CliExitCode::Ok)
}

fn script(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "mainstay", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_shell_gets_the_verbs() {
        for shell in clap_complete::Shell::value_variants() {
            let script = script(*shell);
            for verb in ["status", "restart", "why", "completions"] {
                assert!(script.contains(verb), "{shell}: {verb}");
            }
            // The other shells complete verbs and options alone.
            let has_values = matches!(
                shell,
                clap_complete::Shell::Bash | clap_complete::Shell::Zsh
            );
            let methods = !has_values || script.contains("events.list");
            assert!(methods, "{shell}: the methods of the protocol");
        }
    }
}
