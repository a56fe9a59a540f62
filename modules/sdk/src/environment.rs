//! The environment variables that mainstay (or systemd) passes to a program at its start.
//! Owns their names and how they are read.
//! Never changes the environment and never prints the token.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use mainstay_protocol::{
    ENV_FEATURES, ENV_GENERATION, ENV_MODULE, ENV_SETTINGS, ENV_SOCKET, ENV_TOKEN,
};

/// Where a module finds mainstay. If every field is `None`, mainstay did not start the program.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ModuleEnvironment {
    /// `MAINSTAY_SOCKET`: the socket the module connects to.
    pub socket: Option<PathBuf>,
    /// `MAINSTAY_TOKEN`: the authentication token it sends in `hello`.
    pub token: Option<String>,
    /// `MAINSTAY_MODULE`: its name.
    pub module: Option<String>,
    /// `MAINSTAY_GENERATION`: a number that grows with every start.
    pub generation: Option<u64>,
    /// `MAINSTAY_FEATURES`: the features that are on at its start.
    pub features: Vec<String>,
    /// `MAINSTAY_SETTINGS`: a JSON file with its settings.
    pub settings: Option<PathBuf>,
    /// `NOTIFY_SOCKET`: the datagram socket of sd_notify; a leading `@` means abstract.
    pub notify_socket: Option<OsString>,
    /// `WATCHDOG_USEC`: the longest time between two keep-alives of the watchdog; `None` if
    /// `WATCHDOG_PID` names another process.
    pub watchdog: Option<Duration>,
}

impl ModuleEnvironment {
    /// Reads the process's environment. Unreadable values count as absent.
    #[must_use]
    pub fn from_env() -> ModuleEnvironment {
        ModuleEnvironment::read(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    fn read(variable: impl Fn(&str) -> Option<OsString>) -> ModuleEnvironment {
        let text = |name: &str| variable(name).and_then(|value| value.into_string().ok());
        let number = |name: &str| text(name).and_then(|value| value.parse::<u64>().ok());
        let is_this_process =
            text("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        ModuleEnvironment {
            socket: variable(ENV_SOCKET).map(PathBuf::from),
            token: text(ENV_TOKEN),
            module: text(ENV_MODULE),
            generation: number(ENV_GENERATION),
            features: text(ENV_FEATURES)
                .map(|names| names.split(',').map(str::to_owned).collect())
                .unwrap_or_default(),
            settings: variable(ENV_SETTINGS).map(PathBuf::from),
            notify_socket: variable("NOTIFY_SOCKET"),
            watchdog: number("WATCHDOG_USEC")
                .filter(|usec| *usec > 0 && is_this_process)
                .map(Duration::from_micros),
        }
    }
}

impl std::fmt::Debug for ModuleEnvironment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModuleEnvironment")
            .field("socket", &self.socket)
            .field("token", &self.token.as_ref().map(|_| "(hidden)"))
            .field("module", &self.module)
            .field("generation", &self.generation)
            .field("features", &self.features)
            .field("settings", &self.settings)
            .field("notify_socket", &self.notify_socket)
            .field("watchdog", &self.watchdog)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> ModuleEnvironment {
        let find = |name: &str| pairs.iter().find(|pair| pair.0 == name);
        ModuleEnvironment::read(|name| find(name).map(|pair| OsString::from(pair.1)))
    }

    #[test]
    fn an_empty_environment_means_not_supervised() {
        assert_eq!(with(&[]), ModuleEnvironment::default());
    }

    #[test]
    fn a_watchdog_of_another_process_is_ignored() {
        assert_eq!(
            with(&[("WATCHDOG_USEC", "2000000")]).watchdog,
            Some(Duration::from_secs(2))
        );
        let other = with(&[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "1")]);
        assert_eq!(other.watchdog, None);
        assert_eq!(with(&[("WATCHDOG_USEC", "soon")]).watchdog, None);
    }

    #[test]
    fn the_token_is_not_shown() {
        let shown = format!("{:?}", with(&[(ENV_TOKEN, "s3cret")]));
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
