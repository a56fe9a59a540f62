//! `completions`: what a shell needs to complete commands, options, and names of modules.
//! Owns the request of a shell for candidates, and the names of modules as candidates.
//! Never installs anything, and never fails aloud while a shell completes.

use std::ffi::{OsStr, OsString};

use clap::CommandFactory;
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::Shells;
use mainstay_protocol::enums::CliExitCode;

use super::args::{Cli, Completions, GlobalArgs};
use super::error::CliError;
use super::system_locator::SystemLocator;
use super::{history, terminal};

/// The variable by which a shell asks for candidates; its value names the shell.
const VARIABLE: &str = "MAINSTAY_COMPLETE";
/// Signals that people send.
const SIGNALS: [&str; 8] = ["HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "CONT", "STOP"];

pub(crate) fn run(args: &Completions) -> Result<CliExitCode, CliError> {
    terminal::print(&script(args.shell)?)?;
    Ok(CliExitCode::Ok)
}

/// Answers a shell that asks for candidates, and ends the process; returns if none does.
pub(crate) fn answer_shell() {
    if std::env::var_os(VARIABLE).is_some() {
        CompleteEnv::with_factory(Cli::command)
            .var(VARIABLE)
            .complete();
    }
}

/// The script that makes a shell ask: what it completes is always that of the installed program.
fn script(shell: clap_complete::Shell) -> Result<String, CliError> {
    let (name, mut script) = (shell.to_string(), Vec::new());
    let shells = Shells::builtins();
    let unknown = || CliError::new(CliExitCode::Usage, format!("cannot complete in {name}"));
    let shell = shells.completer(&name).ok_or_else(unknown)?;
    shell
        .write_registration(VARIABLE, "mainstay", "mainstay", "mainstay", &mut script)
        .map_err(CliError::Output)?;
    Ok(String::from_utf8_lossy(&script).into_owned())
}

/// The modules of the system that the words before name.
pub(crate) fn modules() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let words: Vec<OsString> = std::env::args_os().collect();
        candidates(&global_args(&words))
    })
}

/// Names of signals.
pub(crate) fn signals() -> ArgValueCandidates {
    ArgValueCandidates::new(|| SIGNALS.iter().map(CompletionCandidate::new).collect())
}

/// Of the running system each with its state; else those of its files.
fn candidates(global: &GlobalArgs) -> Vec<CompletionCandidate> {
    let running = SystemLocator::find(global).map_err(CliError::from);
    let running = running.and_then(|system| Ok(system.connect()?.modules()?));
    if let Ok(modules) = running {
        let candidate = |module: mainstay_protocol::ModuleView| {
            let state = module.state.as_str().to_owned();
            CompletionCandidate::new(module.module).help(Some(state.into()))
        };
        return modules.into_iter().map(candidate).collect();
    }
    let configuration = history::configuration(global);
    let modules = configuration.map(|configuration| configuration.modules);
    let names = modules
        .into_iter()
        .flatten()
        .map(|(spec, _)| spec.name.clone());
    names.map(CompletionCandidate::new).collect()
}

/// The options that name a system, wherever they stand.
fn global_args(words: &[OsString]) -> GlobalArgs {
    let value = |option: &str| {
        let joined = format!("{option}=");
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == OsStr::new(option) {
                return words.next().cloned();
            }
            if let Some(value) = word.to_str().and_then(|word| word.strip_prefix(&joined)) {
                return Some(value.into());
            }
        }
        None
    };
    GlobalArgs {
        config: value("--config").map(Into::into),
        name: value("--name").and_then(|name| name.into_string().ok()),
        socket: value("--socket").map(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_shell_asks_the_program_itself() {
        for shell in clap_complete::Shell::value_variants() {
            let script = script(*shell).expect("a script");
            assert!(script.contains(VARIABLE), "{shell}: {script}");
        }
    }

    #[test]
    fn verbs_methods_and_modules_are_candidates() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("config");
        std::fs::create_dir(&config).expect("a folder");
        let text = "[mainstay]\nname = \"app\"\nruntime_dir = \"${project}/run\"\n\
            [module.web]\ncommand = [\"/bin/true\"]\n";
        std::fs::write(config.join("mainstay.toml"), text).expect("a file");
        let words = ["mainstay", "restart", "--config"].map(OsString::from);
        let words = [&words[..], &[config.into_os_string()]].concat();
        let names = candidates(&global_args(&words));
        let names: Vec<&OsStr> = names.iter().map(CompletionCandidate::get_value).collect();
        assert!(names.contains(&OsStr::new("web")), "{names:?}");
        let complete = |line: &str| -> Vec<OsString> {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let last = words.len() - 1;
            let mut command = Cli::command();
            let found = clap_complete::engine::complete(&mut command, words, last, None);
            let found = found.expect("candidates").into_iter();
            found.map(|one| one.get_value().to_owned()).collect()
        };
        assert_eq!(complete("mainstay rest"), ["restart"]);
        assert_eq!(complete("mainstay call events.l"), ["events.list"]);
        assert!(complete("mainstay signal x US").contains(&OsString::from("USR1")));
    }

    #[test]
    fn the_options_that_name_a_system_are_read_in_both_forms() {
        let words = ["mainstay", "--name=app", "why", "--socket", "/run/x"].map(OsString::from);
        let global = global_args(&words);
        assert_eq!(global.name.as_deref(), Some("app"));
        assert_eq!(global.socket, Some("/run/x".into()));
        assert_eq!(global.config, None);
    }
}
