//! What mainstay (or systemd) tells a program when it starts it: a few environment variables.
//! Owns their names and their reading.
//! Never changes the environment and never shows the token.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use mainstay_protocol::{ENV_GENERATION, ENV_MODULE, ENV_SETTINGS, ENV_SOCKET, ENV_TOKEN};

/// Where a module finds mainstay. Everything absent means: not started by mainstay.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// `MAINSTAY_SOCKET`: the socket the module connects to.
    pub socket: Option<PathBuf>,
    /// `MAINSTAY_TOKEN`: what it shows there.
    pub token: Option<String>,
    /// `MAINSTAY_MODULE`: its name.
    pub module: Option<String>,
    /// `MAINSTAY_GENERATION`: a number that grows with every start.
    pub generation: Option<u64>,
    /// `MAINSTAY_SETTINGS`: a JSON file with its settings.
    pub settings: Option<PathBuf>,
    /// `NOTIFY_SOCKET`: the datagram socket of sd_notify; a leading `@` means abstract.
    pub notify_socket: Option<OsString>,
    /// `WATCHDOG_USEC`: feed the watchdog at least this often (absent when `WATCHDOG_PID`
    /// names another process).
    pub watchdog: Option<Duration>,
}

impl Surroundings {
    /// Reads the process's environment. Unreadable values count as absent.
    #[must_use]
    pub fn from_env() -> Surroundings {
        Surroundings::read(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    fn read(variable: impl Fn(&str) -> Option<OsString>) -> Surroundings {
        let text = |name: &str| variable(name).and_then(|value| value.into_string().ok());
        let number = |name: &str| text(name).and_then(|value| value.parse::<u64>().ok());
        let mine = text("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        Surroundings {
            socket: variable(ENV_SOCKET).map(PathBuf::from),
            token: text(ENV_TOKEN),
            module: text(ENV_MODULE),
            generation: number(ENV_GENERATION),
            settings: variable(ENV_SETTINGS).map(PathBuf::from),
            notify_socket: variable("NOTIFY_SOCKET"),
            watchdog: number("WATCHDOG_USEC")
                .filter(|usec| *usec > 0 && mine)
                .map(Duration::from_micros),
        }
    }
}

impl std::fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings")
            .field("socket", &self.socket)
            .field("token", &self.token.as_ref().map(|_| "(hidden)"))
            .field("module", &self.module)
            .field("generation", &self.generation)
            .field("settings", &self.settings)
            .field("notify_socket", &self.notify_socket)
            .field("watchdog", &self.watchdog)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Surroundings {
        let find = |name: &str| pairs.iter().find(|pair| pair.0 == name);
        Surroundings::read(|name| find(name).map(|pair| OsString::from(pair.1)))
    }

    #[test]
    fn an_empty_environment_is_outside() {
        assert_eq!(with(&[]), Surroundings::default());
    }

    #[test]
    fn a_watchdog_of_another_process_is_not_ours() {
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
