//! The unit of systemd, and what installs it.
//! Owns its text, its escapes and the sandbox: strict for the machine, what needs no rights for a
//! user. Never writes it.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use mainstay_protocol::enums::CliExitCode;

use super::{
    Installation, MARKER, PathError, Scope, ServiceCommand, ServiceFile, ServiceSpec, text_of,
};

/// Seconds beyond the startup timeout for a start of mainstay itself.
const START_SLACK: u64 = 30;
/// Within so many seconds the holder reports that its loop goes on.
const WATCHDOG: u64 = 30;
/// Names the runtime, in the runtime directory.
const PID_FILE: &str = "runtime.pid";
/// Where units of the machine are; those of users are in their configuration.
const SYSTEM_UNITS: &str = "/etc/systemd/system";
/// What root needs for modules: other users, their files and signals, limits, low ports.
const CAPABILITIES: &str = "CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_KILL \
                            CAP_NET_BIND_SERVICE CAP_SETGID CAP_SETPCAP CAP_SETUID CAP_SYS_NICE \
                            CAP_SYS_PTRACE CAP_SYS_RESOURCE";

/// The name of its unit.
pub(crate) fn unit_name(spec: &ServiceSpec) -> String {
    format!("mainstay-{}.service", spec.name)
}

/// The folder of its unit.
fn unit_dir(spec: &ServiceSpec) -> PathBuf {
    match spec.scope {
        Scope::System => PathBuf::from(SYSTEM_UNITS),
        Scope::User => spec.home.join(".config/systemd/user"),
    }
}

/// What starts it.
fn target(scope: Scope) -> &'static str {
    match scope {
        Scope::System => "multi-user.target",
        Scope::User => "default.target",
    }
}

/// Everything that its installation does.
///
/// # Errors
/// A path that cannot be in a unit.
pub(crate) fn installation(spec: &ServiceSpec) -> Result<Installation, PathError> {
    let unit = unit_name(spec);
    let dir = unit_dir(spec);
    let systemctl = |words: &[&str]| {
        let scope: &[&str] = match spec.scope {
            Scope::System => &["systemctl"],
            Scope::User => &["systemctl", "--user"],
        };
        ServiceCommand::new(&[scope, words].concat())
    };
    let reload = systemctl(&["daemon-reload"]);
    let enable = systemctl(&["reenable", "--quiet", &unit]);
    Ok(Installation {
        directories: vec![spec.state_dir.clone(), spec.log_dir.clone()],
        files: vec![ServiceFile {
            path: dir.join(&unit),
            text: text(spec)?,
        }],
        start: vec![
            reload.clone(),
            enable.clone(),
            // A start limit that was hit before does not count any more.
            systemctl(&["reset-failed", &unit]).may_fail(),
            systemctl(&["start", &unit]),
        ],
        refresh: vec![reload.clone(), enable],
        stop: vec![
            systemctl(&["stop", &unit]).may_fail(),
            systemctl(&["disable", "--quiet", &unit]).may_fail(),
        ],
        links: vec![
            dir.join(format!("{}.wants", target(spec.scope)))
                .join(&unit),
        ],
        clean: vec![reload, systemctl(&["reset-failed", &unit]).may_fail()],
        // systemd removes the innermost directory alone.
        surrounding: in_run(spec)
            .and(spec.runtime_dir.parent())
            .map(Path::to_owned),
        rights: rights(spec),
        unit,
    })
}

/// What mainstay writes itself, with the mode of each.
fn directories(spec: &ServiceSpec) -> [(&Path, &'static str); 3] {
    [
        (&spec.state_dir, "700"),
        (&spec.log_dir, "700"),
        (&spec.runtime_dir, "711"),
    ]
}

/// The runtime directory as systemd makes and removes it, where it is in `/run`, or in the
/// `/run/user/UID` of a user.
fn in_run(spec: &ServiceSpec) -> Option<&Path> {
    let mut inside = spec.runtime_dir.strip_prefix("/run").ok()?;
    if spec.scope == Scope::User {
        let mut parts = inside.strip_prefix("user").ok()?.components();
        let _uid = parts.next()?;
        inside = parts.as_path();
    }
    // systemd takes words apart at blanks, and knows no escapes here.
    let text = inside.to_str()?;
    let is_plain = |one: char| one.is_ascii_alphanumeric() || "/._-".contains(one);
    (!text.is_empty() && text.chars().all(is_plain)).then_some(inside)
}

/// The file that names the runtime. systemd takes the rest of the line as it is, specifiers apart.
fn pid_file(spec: &ServiceSpec) -> Result<String, PathError> {
    let file = in_run(spec).unwrap_or(&spec.runtime_dir).join(PID_FILE);
    Ok(text_of(&file)?.replace('%', "%%"))
}

/// Whether a part of it is in a folder for temporary files, which then cannot be its own.
fn uses_tmp(spec: &ServiceSpec) -> bool {
    let own = [&spec.program, &spec.config_dir].into_iter();
    let mut all = own.chain(&spec.writable).map(PathBuf::as_path);
    let is_tmp = |path: &Path| path.starts_with("/tmp") || path.starts_with("/var/tmp");
    all.any(is_tmp) || directories(spec).iter().any(|(path, _)| is_tmp(path))
}

/// The text of the unit.
///
/// # Errors
/// A path that cannot be in a unit.
pub(crate) fn text(spec: &ServiceSpec) -> Result<String, PathError> {
    let mut unit = format!(
        "# {MARKER}: do not edit it, it is replaced by the next one.\n\
         # Change it with `systemctl edit {}`.\n",
        unit_name(spec)
    );
    let mut line = |text: &str| {
        unit.push_str(text);
        unit.push('\n');
    };
    line("[Unit]");
    line(&format!("Description=mainstay system {}", spec.name));
    if spec.scope == Scope::System {
        line("After=network.target");
    }
    line("StartLimitIntervalSec=60");
    line("StartLimitBurst=5");
    line("");
    line("[Service]");
    // Ready when the first start is completed; the holder is the main process.
    line("Type=notify");
    line("NotifyAccess=main");
    // Where another holder can go on, the runtime is the main process until that one is.
    line(&format!("PIDFile={}", pid_file(spec)?));
    for text in prepare(spec)? {
        line(&text);
    }
    for (key, verb) in [
        ("ExecStart", &["up"][..]),
        ("ExecReload", &["reload", "--wait"]),
        // What it does not stop is sent SIGTERM, which does the same.
        ("ExecStop", &["down"]),
    ] {
        check_program(&spec.program)?;
        let words: Vec<String> = spec.command(verb)?.iter().map(|word| quote(word)).collect();
        let dash = if key == "ExecStop" { "-" } else { "" };
        line(&format!("{key}={dash}:{}", words.join(" ")));
    }
    for (name, value) in &spec.variables {
        line(&format!(
            "Environment={}",
            quote(&format!("{name}={value}"))
        ));
    }
    line("Restart=on-failure");
    line("RestartSec=1s");
    let invalid = CliExitCode::Configuration as u8;
    line(&format!("RestartPreventExitStatus={invalid}"));
    line(&format!(
        "TimeoutStartSec={}",
        spec.startup_timeout.as_secs() + START_SLACK
    ));
    line(&format!("TimeoutStopSec={}", spec.stop_window().as_secs()));
    line(&format!("WatchdogSec={}", WATCHDOG));
    line("KillMode=mixed");
    // After the watchdog has ended a holder that hangs.
    line("TimeoutAbortSec=5");
    line("Delegate=cpu memory pids io");
    // Modules have limits of their own, and one that is killed for memory is restarted.
    line("TasksMax=infinity");
    line("OOMPolicy=continue");
    line("");
    unit.push_str(&sandbox(spec)?);
    let _ = write!(unit, "\n[Install]\nWantedBy={}\n", target(spec.scope));
    Ok(unit)
}

/// What makes the directories before the sandbox, which cannot open one that is missing.
fn prepare(spec: &ServiceSpec) -> Result<Vec<String>, PathError> {
    let mut lines = Vec::new();
    for (path, mode) in directories(spec) {
        if let Some(inside) = in_run(spec).filter(|_| path == spec.runtime_dir) {
            lines.push(format!("RuntimeDirectory={}", inside.display()));
            lines.push(format!("RuntimeDirectoryMode=0{mode}"));
        } else if spec.scope == Scope::System {
            let path = quote(text_of(path)?);
            lines.push(format!("ExecStartPre=+:mkdir -p -m {mode} {path}"));
        }
    }
    Ok(lines)
}

/// What the service, and with it each module, may do.
fn sandbox(spec: &ServiceSpec) -> Result<String, PathError> {
    let mut keys = vec![
        "NoNewPrivileges=yes",
        "LockPersonality=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "SystemCallArchitectures=native",
        "SystemCallErrorNumber=EPERM",
    ];
    let mut text = String::from("# The sandbox holds for modules too.\n");
    if spec.scope == Scope::User {
        keys.push("SystemCallFilter=@system-service");
    } else {
        let mounts = spec.mounts;
        // Modules with parts of the file system of their own need mounts and their namespaces.
        keys.push(match mounts {
            true => "SystemCallFilter=@system-service @mount",
            false => "SystemCallFilter=@system-service",
        });
        keys.push(match mounts {
            true => "RestrictNamespaces=mnt",
            false => "RestrictNamespaces=yes",
        });
        keys.extend([
            "ProtectSystem=strict",
            "ProtectHome=read-only",
            "PrivateDevices=yes",
            "PrivateMounts=yes",
            "ProtectClock=yes",
            "ProtectHostname=yes",
            "ProtectKernelLogs=yes",
            "ProtectKernelModules=yes",
            "ProtectKernelTunables=yes",
            "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        ]);
        let admin = if mounts { " CAP_SYS_ADMIN" } else { "" };
        let _ = writeln!(text, "CapabilityBoundingSet={CAPABILITIES}{admin}");
        if !uses_tmp(spec) {
            keys.push("PrivateTmp=yes");
        }
        let own = directories(spec).into_iter().map(|(path, _)| path);
        let mut paths: Vec<&Path> = own
            .chain(spec.writable.iter().map(PathBuf::as_path))
            .collect();
        paths.sort_unstable();
        paths.dedup();
        for path in paths {
            // systemd opens these for `ExecStartPre=+` too, which makes those that are missing.
            let path = quote(&format!("-{}", text_of(path)?));
            let _ = writeln!(text, "ReadWritePaths={path}");
        }
    }
    for key in keys {
        text.push_str(key);
        text.push('\n');
    }
    Ok(text)
}

/// systemd accepts everything in arguments, and not in the name of a program.
fn check_program(program: &Path) -> Result<(), PathError> {
    match text_of(program)?.contains(['"', '\'', '\\']) {
        true => Err(PathError::Program(program.to_owned())),
        false => Ok(()),
    }
}

/// One word of a unit: in quotes where it has to be, and without specifiers. `:` before a command
/// turns the replacement of variables off.
fn quote(word: &str) -> String {
    let word = word.replace('%', "%%");
    let is_plain = |one: char| one.is_alphanumeric() || "/._-+=:,@%~".contains(one);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word;
    }
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

/// What it gets, one sentence each.
fn rights(spec: &ServiceSpec) -> Vec<String> {
    match spec.scope {
        Scope::User => vec![
            "it runs as this user, from login to logout; `loginctl enable-linger` lets it run from \
             the boot on"
                .to_owned(),
            "modules cannot gain rights by executing a file (sudo, setuid programs)".to_owned(),
        ],
        Scope::System => {
            let paths: Vec<String> = directories(spec)
                .into_iter()
                .map(|(path, _)| path)
                .chain(spec.writable.iter().map(PathBuf::as_path))
                .map(|path| path.display().to_string())
                .collect();
            vec![
                "it runs as root from the boot on; a module with `user` runs as that user"
                    .to_owned(),
                format!(
                    "mainstay and modules may write to {}, /dev/shm and a /tmp of their own; \
                     --writable DIR adds a directory",
                    paths.join(", ")
                ),
                format!(
                    "capabilities: {CAPABILITIES}{}",
                    if spec.mounts { " CAP_SYS_ADMIN" } else { "" }
                ),
                "modules cannot gain rights by executing a file, open devices, load kernel \
                 modules, set the clock or change the kernel's settings"
                    .to_owned(),
                "control groups below its own: cpu, memory, pids, io".to_owned(),
            ]
        }
    }
}

#[cfg(test)]
mod tests;
