//! Finds what a configuration names and this machine lacks: commands, folders, users.
//! Owns the warnings of `check`.
//! Never an error: a build, a mount or `before_start` may create it before the start.

use mainstay_policy::spec::{ModuleSpec, Readiness};
use mainstay_process::Probe;

use crate::config::{Configuration, LaunchSpec, ProbeKind};
#[cfg(unix)]
use crate::os::accounts;
use crate::os::preflight;

/// Returns one warning for each missing item.
pub(super) fn check_machine(configuration: &Configuration) -> Vec<String> {
    let modules = configuration.modules.iter();
    modules
        .flat_map(|(spec, launch)| of_module(spec, launch))
        .collect()
}

fn of_module(spec: &ModuleSpec, launch: &LaunchSpec) -> Vec<String> {
    let name = &spec.name;
    let mut found = Vec::new();
    if let Some(user) = launch
        .user
        .as_ref()
        .filter(|user| !preflight::has_user(user))
    {
        found.push(format!(
            "cannot find the user {user} of module.{name}.user; create it"
        ));
    }
    if let Some(group) = launch
        .group
        .as_ref()
        .filter(|group| !preflight::has_group(group))
    {
        found.push(format!(
            "cannot find the group {group} of module.{name}.group; create it"
        ));
    }
    #[cfg(unix)]
    if let Err(error) = accounts::resolve(launch.user.as_deref(), launch.group.as_deref())
        && error.failure.errno == libc::EINVAL
    {
        found.push(format!("{} (module.{name})", error.message));
    }
    if !launch.directory.is_dir() {
        let directory = launch.directory.display();
        found.push(format!(
            "cannot find the folder {directory} of module.{name}.directory; create it"
        ));
        // Relative commands would be missing for this reason alone.
        return found;
    }
    let path = preflight::search_path(&launch.env, launch.clear_env);
    for (key, command) in commands(spec, launch) {
        let Some(program) = command.first() else {
            continue;
        };
        if let Some(why) = preflight::check_program(program, &launch.directory, &path) {
            found.push(format!(
                "cannot execute {program} of module.{name}.{key}: {why}"
            ));
        }
    }
    found
}

/// Returns every command of a module, with its key.
fn commands<'a>(spec: &'a ModuleSpec, launch: &'a LaunchSpec) -> Vec<(&'static str, &'a [String])> {
    let mut commands: Vec<(&'static str, &'a [String])> = vec![("command", &launch.argv)];
    if let Readiness::Probe(Probe::Exec(command)) = &spec.readiness {
        commands.push(("ready", command));
    }
    for probe in &launch.probes {
        if let ProbeKind::Probe(Probe::Exec(command)) = &probe.check {
            commands.push(("health.probes", command));
        }
    }
    let hooks = [
        ("before_start", &launch.before_start),
        ("after_stop", &launch.after_stop),
        ("prewarm", &launch.prewarm),
    ];
    for (key, list) in hooks {
        commands.extend(list.iter().map(|command| (key, &command[..])));
    }
    commands
}
