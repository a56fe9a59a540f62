//! `service`: mainstay as a service of the system, so that it starts with the machine or the user.
//! Owns the choice of the service manager and what is printed before anything is written.
//! Never installs anything itself: `service::perform` does.

use std::path::PathBuf;

use mainstay_protocol::enums::CliExitCode;
use serde::Serialize;

use super::args::{GlobalArgs, ServiceArgs, ServiceInstallArgs, ServiceScopeArgs, ServiceVerb};
use super::error::CliError;
use super::system_locator::SystemLocator;
use super::terminal;
use crate::config::{self, ConfigSources};
use crate::os;
use crate::runtime::first_plan;
use crate::service::perform::{self, FileState, Installed, ServiceManager};
use crate::service::{Installation, Scope, ServiceSpec, native};

pub(super) fn run(args: &ServiceArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    match &args.verb {
        ServiceVerb::Install(install_args) => install(install_args, global),
        ServiceVerb::Uninstall { scope, explain } => uninstall(scope, *explain, global),
        ServiceVerb::Status { scope, json } => status(scope, *json, global),
        #[cfg(windows)]
        ServiceVerb::Run { set } => {
            let up = super::args::UpArgs {
                set: set.clone(),
                ..super::args::UpArgs::default()
            };
            let runtime = super::up::runtime_command(&up, global)?;
            let name = global.name.as_deref().unwrap_or("mainstay");
            let served = crate::service::windows_service::serve(name, runtime);
            served.map(|()| CliExitCode::Ok).map_err(failed)
        }
    }
}

fn failed(text: String) -> CliError {
    CliError::new(CliExitCode::Failed, text)
}

fn install(args: &ServiceInstallArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let (spec, problem) = spec(args, global)?;
    let installation = native::installation(&spec).map_err(|error| failed(error.to_string()))?;
    if let Some(problem) = problem {
        terminal::print_error(super::up::fallback_text(&problem).trim_end());
    }
    if args.explain {
        terminal::print_text(&explain_install(&installation, !args.no_start))?;
        return Ok(CliExitCode::Ok);
    }
    check_program(&spec)?;
    let manager = manager(spec.scope, "install")?;
    let name = &installation.unit;
    let installed = perform::install(&*manager, &spec, &installation, !args.no_start);
    let text = match installed.map_err(failed)? {
        Installed::Started(pid) => format!("{name} is installed and runs (pid {pid})"),
        Installed::Unchanged(pid) => format!("{name} is installed already and runs (pid {pid})"),
        Installed::Refreshed(pid) => format!(
            "{name} is installed again; it runs on as it was (pid {pid}), and as it is defined now \
             from its next start"
        ),
        Installed::NotStarted => format!("{name} is installed and starts with the system"),
    };
    terminal::print_text(&format!("{text}\n"))?;
    Ok(CliExitCode::Ok)
}

/// What starts with the machine runs as root, without the user who became root to install it.
fn check_program(spec: &ServiceSpec) -> Result<(), CliError> {
    if spec.scope == Scope::User {
        return Ok(());
    }
    let opened = os::program::open(&spec.program);
    let checked = opened.and_then(|file| config::check_program(&file, &spec.program, None));
    checked.map(drop).map_err(|error| {
        failed(format!(
            "cannot install a service that runs {} as root: {error}; install mainstay where root \
             alone may write",
            spec.program.display()
        ))
    })
}

fn uninstall(
    scope: &ServiceScopeArgs,
    explain: bool,
    global: &GlobalArgs,
) -> Result<CliExitCode, CliError> {
    let spec = named_spec(scope, global)?;
    let installation = native::installation(&spec).map_err(|error| failed(error.to_string()))?;
    if explain {
        terminal::print_text(&explain_uninstall(&installation))?;
        return Ok(CliExitCode::Ok);
    }
    let manager = manager(spec.scope, "uninstall")?;
    let was_there = perform::uninstall(&*manager, &installation).map_err(failed)?;
    let what = match was_there {
        true => "is stopped and removed; the state directory and the configuration are kept",
        false => "is not installed",
    };
    terminal::print_text(&format!("{} {what}\n", installation.unit))?;
    Ok(CliExitCode::Ok)
}

/// What `service status --json` prints.
#[derive(Debug, Serialize)]
struct ServiceView {
    service: String,
    /// `current`, `stale`, `foreign` or `missing`.
    definition: &'static str,
    state: String,
    pid: Option<u32>,
    enabled: bool,
    /// The holder that answers on the control socket.
    answers: Option<u32>,
}

fn status(
    scope: &ServiceScopeArgs,
    json: bool,
    global: &GlobalArgs,
) -> Result<CliExitCode, CliError> {
    let install_args = ServiceInstallArgs {
        scope: scope.clone(),
        ..ServiceInstallArgs::default()
    };
    let spec = spec(&install_args, global).map(|(spec, _)| spec);
    let spec = spec.or_else(|_| named_spec(scope, global))?;
    let installation = native::installation(&spec).map_err(|error| failed(error.to_string()))?;
    let manager = native::manager(spec.scope)
        .map_err(|why| failed(format!("cannot look at {}: {why}", installation.unit)))?;
    let state = manager.state(&installation.unit).map_err(failed)?;
    // Windows keeps the definition itself.
    let is_elsewhere = installation.files.is_empty() && state.enabled;
    let definition = match native::definition_state(&installation) {
        _ if is_elsewhere => "current",
        FileState::Current => "current",
        FileState::Stale => "stale",
        FileState::Foreign => "foreign",
        FileState::Missing => "missing",
    };
    let view = ServiceView {
        service: installation.unit,
        definition,
        state: state.state,
        pid: state.pid,
        enabled: state.enabled,
        answers: perform::holder(&spec).ok(),
    };
    terminal::print(&match json {
        true => format!("{}\n", serde_json::json!(view)),
        false => status_text(&view),
    })?;
    Ok(match view.pid {
        Some(_) => CliExitCode::Ok,
        None => CliExitCode::NotRunning,
    })
}

fn status_text(view: &ServiceView) -> String {
    let definition = match view.definition {
        "current" => "installed",
        "stale" => {
            "installed, and not as it would be now: `mainstay service install` brings it up to date"
        }
        "foreign" => "not written by mainstay",
        _ => "not installed",
    };
    let enabled = match view.enabled {
        true => "starts with the system",
        false => "does not start with the system",
    };
    let pid = view
        .pid
        .map(|pid| format!(", pid {pid}"))
        .unwrap_or_default();
    let answers = match (view.pid, view.answers) {
        (Some(pid), Some(holder)) if pid == holder => "it answers".to_owned(),
        (_, Some(holder)) => format!("process {holder} answers, which is not the service"),
        (_, None) => "nothing answers on its control socket".to_owned(),
    };
    format!(
        "{}\n  definition  {definition}\n  boot        {enabled}\n  state       {}{pid}\n  \
         control     {answers}\n",
        view.service, view.state
    )
}

fn scope_of(args: &ServiceScopeArgs) -> Scope {
    match (args.user, args.system) {
        (true, _) => Scope::User,
        (_, true) => Scope::System,
        _ if native::is_privileged() => Scope::System,
        _ => Scope::User,
    }
}

fn manager(scope: Scope, verb: &str) -> Result<Box<dyn ServiceManager>, CliError> {
    native::manager(scope).map_err(|why| failed(format!("cannot {verb} the service: {why}")))
}

/// The service of the configuration, and why it is not what the files say.
fn spec(
    args: &ServiceInstallArgs,
    global: &GlobalArgs,
) -> Result<(ServiceSpec, Option<String>), CliError> {
    let name = global.name.iter();
    let sets: Vec<String> = name.map(|name| format!("mainstay.name={name}")).collect();
    let first = ConfigSources::find(global.config.as_deref(), &sets)
        .and_then(|sources| first_plan::read(&sources))
        .map_err(|problems| CliError::new(CliExitCode::Configuration, problems.to_string()))?;
    let program = std::env::current_exe()
        .map_err(|error| failed(format!("cannot find mainstay's own program: {error}")))?;
    let whose = (scope_of(&args.scope), program, home());
    let mut spec = ServiceSpec::new(&first.configuration, whose, &args.writable);
    spec.name_option = global.name.is_some();
    spec.variables = native::variables();
    Ok((spec, first.problem))
}

/// What `uninstall` needs: a configuration that is broken, or gone, is no obstacle.
fn named_spec(scope: &ServiceScopeArgs, global: &GlobalArgs) -> Result<ServiceSpec, CliError> {
    let install_args = ServiceInstallArgs {
        scope: scope.clone(),
        ..ServiceInstallArgs::default()
    };
    // What starts is found by its last committed plan where the files do not tell its name.
    let (name, runtime_dir) = match spec(&install_args, global) {
        Ok((spec, _)) => (spec.name, spec.runtime_dir),
        Err(_) => {
            let system = SystemLocator::find(global)?;
            let folder = system.socket.parent().map(PathBuf::from);
            (system.name, folder.unwrap_or_default())
        }
    };
    Ok(ServiceSpec::named(
        name,
        scope_of(scope),
        runtime_dir,
        home(),
    ))
}

fn home() -> PathBuf {
    let user = directories::BaseDirs::new();
    user.map(|user| user.home_dir().to_owned())
        .unwrap_or_default()
}

/// Every file, right and command, before anything of it is done.
fn explain_install(installation: &Installation, start: bool) -> String {
    let mut text = format!(
        "{} would be installed; nothing was done.\n",
        installation.unit
    );
    section(&mut text, "Rights", installation.rights.iter().cloned());
    let folders = installation.directories.iter();
    let folders = folders.map(|path| path.display().to_string());
    section(
        &mut text,
        "Directories, created if they are missing",
        folders,
    );
    for file in &installation.files {
        text.push_str(&format!("\nFile {}\n", file.path.display()));
        for line in file.text.lines() {
            text.push_str(&format!("  {line}\n"));
        }
    }
    let all = installation.start.len();
    let count = if start { all } else { all.saturating_sub(1) };
    section(
        &mut text,
        "Commands",
        commands(&installation.start[..count]),
    );
    let title = "Commands instead, if it runs: it is not interrupted";
    section(&mut text, title, commands(&installation.refresh));
    if start {
        text.push_str(
            "\nThen it has to answer on its control socket, as the process of the service.\n",
        );
    }
    text
}

fn explain_uninstall(installation: &Installation) -> String {
    let mut text = format!(
        "{} would be removed; nothing was done.\n",
        installation.unit
    );
    section(&mut text, "Commands", commands(&installation.stop));
    let files = installation.files.iter().map(|file| &file.path);
    let files = files.chain(&installation.links);
    let files = files.map(|path| path.display().to_string());
    section(&mut text, "Files that are removed", files);
    section(
        &mut text,
        "Commands after that",
        commands(&installation.clean),
    );
    text
}

fn commands(all: &[crate::service::ServiceCommand]) -> impl Iterator<Item = String> {
    all.iter().map(|command| command.argv.join(" "))
}

fn section(text: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        text.push_str(&format!("\n{title}\n"));
    }
    lines.for_each(|line| text.push_str(&format!("  {line}\n")));
}
