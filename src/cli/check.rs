//! `check`: reads the configuration as `up` does and prints every problem in it.
//! Owns the output.
//! Never starts a process and never connects to a running system.

use std::fmt::Write;

use mainstay_policy::spec::{Kind, Readiness};
use mainstay_process::Probe;
use mainstay_protocol::enums::CliExitCode;
use serde::Serialize;

use super::args::{CheckArgs, GlobalArgs};
use super::error::CliError;
use super::machine_checks::check_machine;
use super::{format, terminal};
use crate::config::{self, ConfigSources, Configuration, Problem, Problems};
use crate::import::owned_probe::owned_probe_of;
use crate::import::wrapper::wrapper_advice;

pub(crate) fn run(args: &CheckArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    if args.schema {
        terminal::print_json(&config::json_schema())?;
        return Ok(CliExitCode::Ok);
    }
    let read = ConfigSources::find(global.config.as_deref(), &args.set);
    match read.and_then(|sources| config::load(&sources)) {
        Ok(configuration) => {
            let mut warnings = self::warnings(&configuration);
            warnings.extend(check_machine(&configuration));
            warnings.extend(foreign_answers(&configuration));
            warnings.extend(wrapped_commands(&configuration));
            if args.json {
                terminal::print_json(&CheckReport::passed(&configuration, &warnings))?;
            } else {
                terminal::print_text(&passed(&configuration))?;
                for warning in &warnings {
                    terminal::print_error(&format!("warning: {}", format::single_line(warning)));
                }
            }
            Ok(CliExitCode::Ok)
        }
        Err(problems) => {
            if args.json {
                terminal::print_json(&CheckReport::failed(&problems))?;
            } else {
                terminal::print_error(&failed(&problems));
            }
            Ok(CliExitCode::Configuration)
        }
    }
}

/// What is odd about the files, although they can run: one line each.
pub(super) fn warnings(configuration: &Configuration) -> Vec<String> {
    let warnings = configuration.warnings().iter();
    let line = |problem: &Problem| {
        let place = problem.place.as_ref().map(|place| format!("{place}: "));
        let hint = problem.hint.as_ref().map(|hint| format!("; {hint}"));
        let (place, hint) = (place.unwrap_or_default(), hint.unwrap_or_default());
        format::single_line(&format!("{place}{}{hint}", problem.message)).into_owned()
    };
    warnings.map(line).collect()
}

/// Modules whose `ready` is a command that another program on their port would answer as well.
fn foreign_answers(configuration: &Configuration) -> Vec<String> {
    let modules = configuration.modules.iter();
    let found = modules.filter_map(|(spec, _)| {
        let Readiness::Probe(Probe::Exec(argv)) = &spec.readiness else {
            return None;
        };
        let own = owned_probe_of(argv)?;
        Some(format!(
            "module.{}.ready is a command, which cannot tell whose answer it gets; {own} counts \
             only while the module itself has the port",
            spec.name
        ))
    });
    found.collect()
}

/// Modules whose stop signal goes to a program that may not pass it on.
fn wrapped_commands(configuration: &Configuration) -> Vec<String> {
    let modules = configuration.modules.iter();
    let found = modules.filter_map(|(spec, launch)| {
        let advice = wrapper_advice(&launch.argv)?;
        Some(format!("module.{}.command runs by {advice}", spec.name))
    });
    found.collect()
}

/// The result in JSON.
#[derive(Debug, Serialize)]
struct CheckReport<'a> {
    ok: bool,
    name: Option<&'a str>,
    fingerprint: Option<&'a str>,
    files: Vec<String>,
    /// The waves, in order.
    waves: Vec<Vec<&'a str>>,
    problems: &'a [Problem],
    /// What is odd, or missing on this machine; `up` starts nevertheless.
    warnings: &'a [String],
    /// Problems that are not listed.
    more_problems: usize,
}

impl<'a> CheckReport<'a> {
    fn passed(configuration: &'a Configuration, warnings: &'a [String]) -> CheckReport<'a> {
        let files = configuration.files.iter();
        CheckReport {
            ok: true,
            name: Some(&configuration.system.name),
            fingerprint: Some(&configuration.fingerprint),
            files: files.map(|path| path.display().to_string()).collect(),
            waves: configuration.waves(),
            problems: &[],
            warnings,
            more_problems: 0,
        }
    }

    fn failed(problems: &'a Problems) -> CheckReport<'a> {
        CheckReport {
            ok: false,
            name: None,
            fingerprint: None,
            files: Vec::new(),
            waves: Vec::new(),
            problems: &problems.problems,
            warnings: &[],
            more_problems: problems.more,
        }
    }
}

fn passed(configuration: &Configuration) -> String {
    let own = configuration.modules.iter();
    let own = own.filter(|(spec, _)| spec.kind != Kind::Builtin);
    let modules = count(own.count(), "module");
    let files = count(configuration.files.len(), "file");
    let mut out = format!("configuration ok: {modules}, {files}\nstart order:\n");
    for (wave, names) in configuration.waves().iter().enumerate() {
        let _ = writeln!(out, "  {}  {}", wave + 1, names.join(", "));
    }
    out
}

/// Escapes text of files, whatever bytes it has.
pub(super) fn failed(problems: &Problems) -> String {
    let mut out = String::new();
    for line in problems.to_string().lines() {
        let _ = writeln!(out, "{}", format::single_line(line));
    }
    let _ = write!(
        out,
        "\nconfiguration not usable: {}",
        count(problems.count(), "problem")
    );
    out
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Configuration, Problems> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("mainstay.toml"), text).expect("a file");
        config::load(&ConfigSources::folder(folder.path()))
    }

    const GOOD: &str = "[module.b]\ncommand = [\"b\"]\nrequires = [\"a\"]\n[module.a]\n\
                        command = [\"a\"]\n";

    #[test]
    fn a_good_one_is_counted_and_ordered() {
        let text = passed(&load(GOOD).expect("good"));
        let expected =
            "configuration ok: 2 modules, 1 file\nstart order:\n  1  a, event-bus\n  2  b\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_command_that_another_program_would_answer_is_a_warning() {
        let found = |ready: &str| {
            let text = format!("[module.pg]\ncommand = [\"pg\"]\nready = {ready}\n");
            foreign_answers(&load(&text).expect("good"))
        };
        let warned = found("{ exec = [\"sh\", \"-c\", \"pg_isready -p 5433\"] }");
        assert!(
            warned[0].contains("{ tcp = \"127.0.0.1:5433\" } counts"),
            "{warned:?}"
        );
        assert_eq!(found("{ exec = [\"pg_isready\"] }").len(), 1);
        assert_eq!(found("{ exec = [\"./ready\"] }").len(), 0);
        assert_eq!(found("{ tcp = \"127.0.0.1:5432\" }").len(), 0);
    }

    #[test]
    fn a_command_by_another_user_is_a_warning() {
        let found = |command: &str| {
            let text = format!("[module.pg]\ncommand = {command}\n");
            wrapped_commands(&load(&text).expect("good"))
        };
        let expected = "module.pg.command runs by runuser, which may not pass the stop signal on: \
                        a stop then takes its whole shutdown_timeout; with user = \"postgres\" \
                        the command needs no runuser";
        let command = "[\"runuser\", \"-u\", \"postgres\", \"--\", \"postgres\"]";
        assert_eq!(found(command), [expected]);
        assert_eq!(found("[\"postgres\"]").len(), 0);
    }

    #[test]
    fn a_bad_one_shows_every_problem() {
        let text = failed(&load("[helth]\n[logs]\nkep = 1\n").expect_err("bad"));
        assert!(text.contains("did you mean `health`?"), "{text}");
        assert!(
            text.ends_with("configuration not usable: 2 problems"),
            "{text}"
        );
    }

    #[test]
    fn programs_read_the_same() {
        let problems = load("[helth]\n").expect_err("bad");
        let json = serde_json::to_value(CheckReport::failed(&problems)).expect("JSON");
        assert_eq!(json["ok"], false);
        assert_eq!(json["problems"][0]["place"]["line"], 1);
        let good = load(GOOD).expect("good");
        let json = serde_json::to_value(CheckReport::passed(&good, &[])).expect("JSON");
        assert_eq!(json["waves"][1][0], "b");
    }
}
