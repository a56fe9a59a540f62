//! mainstay as a service of the system: systemd, launchd, Windows.
//! Owns what is written and run to install one, as plain data, so that it can be shown first.
//! Never writes or runs anything itself: `perform` does.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{Configuration, LaunchSpec};

#[cfg(all(unix, test))]
mod fixture;
#[cfg(any(target_os = "macos", test))]
pub(crate) mod launchd;
#[cfg(any(target_os = "macos", test))]
#[cfg_attr(
    not(target_os = "macos"),
    expect(dead_code, reason = "launchd is of macOS alone")
)]
mod launchd_manager;
pub(crate) mod native;
pub(crate) mod perform;
#[cfg(not(any(target_os = "macos", windows)))]
pub(crate) mod systemd;
#[cfg(not(any(target_os = "macos", windows)))]
mod systemd_manager;
#[cfg(any(windows, test))]
pub(crate) mod windows;
#[cfg(windows)]
pub(crate) mod windows_service;

/// The first words of each file that is written; a file without them belongs to someone else.
pub(crate) const MARKER: &str = "Written by `mainstay service install`";
/// Time beyond the stop budget, until the service manager kills what is left: the holder needs 5 s
/// of it to end what did not stop.
const STOP_SLACK: Duration = Duration::from_secs(15);

/// Whom a service belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The machine: it runs as root from the boot on.
    System,
    /// This user: it runs while the user is logged in.
    User,
}

/// What a service is installed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceSpec {
    /// The name of the system.
    pub(crate) name: String,
    /// It is not the one of the configuration.
    pub(crate) name_option: bool,
    pub(crate) scope: Scope,
    /// The program, an absolute path.
    pub(crate) program: PathBuf,
    pub(crate) config_dir: PathBuf,
    pub(crate) state_dir: PathBuf,
    pub(crate) runtime_dir: PathBuf,
    pub(crate) log_dir: PathBuf,
    /// The home folder of the user whose service it is.
    pub(crate) home: PathBuf,
    /// What modules write to beside the directories of mainstay.
    pub(crate) writable: Vec<PathBuf>,
    /// Variables that decide where the directories of this user are.
    pub(crate) variables: Vec<(String, String)>,
    /// A module has a file system of its own in parts: mainstay has to mount for it.
    pub(crate) mounts: bool,
    pub(crate) startup_timeout: Duration,
    pub(crate) shutdown_timeout: Duration,
}

/// A file to be written as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceFile {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// Everything that an installation does, in this order; and what its end does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Installation {
    /// What the service manager calls it.
    pub(crate) unit: String,
    /// Created, for their owner alone, if they are missing; a later `uninstall` leaves them.
    pub(crate) directories: Vec<PathBuf>,
    pub(crate) files: Vec<ServiceFile>,
    /// After the files are written, while the service does not run: the last one starts it.
    pub(crate) start: Vec<ServiceCommand>,
    /// Instead of those while the service runs: it goes on as it is.
    pub(crate) refresh: Vec<ServiceCommand>,
    /// Before the files are removed.
    pub(crate) stop: Vec<ServiceCommand>,
    /// Links that a service manager may have left without the files, and that go with them.
    pub(crate) links: Vec<PathBuf>,
    /// After the files are removed.
    pub(crate) clean: Vec<ServiceCommand>,
    /// Removed after that, if nothing is in it: what is around the runtime directories.
    pub(crate) surrounding: Option<PathBuf>,
    /// Rights, one sentence each.
    pub(crate) rights: Vec<String>,
}

/// A command of the service manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceCommand {
    pub(crate) argv: Vec<String>,
    /// Its failure changes nothing: what it undoes may not be there.
    pub(crate) may_fail: bool,
}

impl ServiceCommand {
    fn new(argv: &[&str]) -> ServiceCommand {
        ServiceCommand {
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            may_fail: false,
        }
    }

    fn may_fail(self) -> ServiceCommand {
        ServiceCommand {
            may_fail: true,
            ..self
        }
    }
}

/// Never opened for modules, although one of them works there.
const SYSTEM_DIRS: [&str; 8] = [
    "/", "/bin", "/boot", "/etc", "/lib", "/sbin", "/usr", "/var",
];

impl ServiceSpec {
    /// The service of this configuration, and its options.
    pub(crate) fn new(
        configuration: &Configuration,
        (scope, program, home): (Scope, PathBuf, PathBuf),
        writable: &[PathBuf],
    ) -> ServiceSpec {
        let system = &configuration.system;
        let launches = || configuration.modules.iter().map(|(_, launch)| launch);
        let directories = launches().map(|launch| launch.directory.clone());
        let mut writable: Vec<PathBuf> = writable.iter().cloned().chain(directories).collect();
        writable.retain(|path| !SYSTEM_DIRS.iter().any(|own| path == Path::new(own)));
        writable.retain(|path| path.is_absolute());
        writable.sort();
        writable.dedup();
        let mounts = |launch: &LaunchSpec| {
            launch.isolation.private_tmp || !launch.isolation.read_only.is_empty()
        };
        ServiceSpec {
            name: system.name.clone(),
            name_option: false,
            scope,
            program,
            config_dir: system.config_dir.clone(),
            state_dir: system.state_dir.clone(),
            runtime_dir: system.runtime_dir.clone(),
            log_dir: system.logs.directory.clone(),
            home,
            writable,
            variables: Vec::new(),
            mounts: launches().any(mounts),
            startup_timeout: configuration.system_spec.startup_timeout,
            shutdown_timeout: configuration.system_spec.shutdown_timeout,
        }
    }

    /// What is known without a configuration: enough to find an installation.
    pub(crate) fn named(
        name: String,
        scope: Scope,
        runtime_dir: PathBuf,
        home: PathBuf,
    ) -> ServiceSpec {
        ServiceSpec {
            name,
            name_option: false,
            scope,
            program: PathBuf::new(),
            config_dir: PathBuf::new(),
            state_dir: PathBuf::new(),
            runtime_dir,
            log_dir: PathBuf::new(),
            home,
            writable: Vec::new(),
            variables: Vec::new(),
            mounts: false,
            startup_timeout: Duration::ZERO,
            shutdown_timeout: Duration::ZERO,
        }
    }

    /// How long a stop may take before the service manager kills what is left.
    pub(crate) fn stop_window(&self) -> Duration {
        self.shutdown_timeout.saturating_add(STOP_SLACK)
    }

    /// The command line of `mainstay VERB` for this system.
    fn command(&self, verb: &[&str]) -> Result<Vec<String>, PathError> {
        let (program, config) = (text_of(&self.program)?, text_of(&self.config_dir)?);
        let mut words = vec![program];
        words.extend(verb);
        words.extend(["--config", config]);
        if self.name_option {
            words.extend(["--name", &self.name]);
        }
        Ok(words.into_iter().map(str::to_owned).collect())
    }
}

/// A path that cannot be part of a definition.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathError {
    #[error("cannot name {} in a service: it is no UTF-8; use a path that is", .0.display())]
    NoText(PathBuf),
    #[cfg_attr(
        not(any(windows, test)),
        expect(dead_code, reason = "only Windows refuses it")
    )]
    #[error(
        "cannot install a service for one user: Windows has services of the machine alone; use \
         --system"
    )]
    NoUserServices,
    #[cfg_attr(
        any(windows, target_os = "macos"),
        expect(dead_code, reason = "systemd's rule")
    )]
    #[error(
        "cannot start {} from a unit: systemd takes no program with a quotation mark or a \
         backslash in its path; move it, or call it by a link", .0.display()
    )]
    Program(PathBuf),
    #[error("cannot name {0:?} in a service: it has a control character; use a path without one")]
    Control(PathBuf),
}

/// A path as the text of a definition.
fn text_of(path: &Path) -> Result<&str, PathError> {
    match path.to_str() {
        None => Err(PathError::NoText(path.to_owned())),
        Some(text) if text.contains(char::is_control) => Err(PathError::Control(path.to_owned())),
        Some(text) => Ok(text),
    }
}
