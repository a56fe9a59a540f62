//! systemd, of the machine or of this user.
//! Owns how it is asked what a service does.
//! Never changes anything.

use std::path::Path;

use super::perform::{ServiceManager, ServiceState, run};
use super::{Scope, ServiceCommand};

/// systemd that runs.
#[derive(Debug)]
pub(crate) struct Systemd(Scope);

impl Systemd {
    /// Finds it.
    ///
    /// # Errors
    /// In a sentence: it does not run here, or this user may not use it.
    pub(crate) fn find(scope: Scope, is_root: bool) -> Result<Systemd, String> {
        if scope == Scope::System {
            if !Path::new("/run/systemd/system").is_dir() {
                return Err(
                    "systemd does not run here (there is no /run/systemd/system); run `mainstay \
                     up` by what starts this machine or container"
                        .to_owned(),
                );
            }
            if !is_root {
                return Err(
                    "only root may install a service of the machine; run it as root, or with \
                     --user"
                        .to_owned(),
                );
            }
            return Ok(Systemd(scope));
        }
        let manager = Systemd(scope);
        let asked = ServiceCommand::new(&["systemctl", "--user", "show", "--property=Version"]);
        run(&asked).map(|_| manager).map_err(|why| {
            format!(
                "systemd has no manager for this user: {why}; log in as this user, or run it as \
                 root with --system"
            )
        })
    }

    fn systemctl(&self, words: &[&str]) -> ServiceCommand {
        let scope: &[&str] = match self.0 {
            Scope::System => &["systemctl"],
            Scope::User => &["systemctl", "--user"],
        };
        ServiceCommand::new(&[scope, words].concat())
    }
}

impl ServiceManager for Systemd {
    fn state(&self, unit: &str) -> Result<ServiceState, String> {
        let properties = "--property=ActiveState,SubState,MainPID,UnitFileState";
        let text = run(&self.systemctl(&["show", properties, unit]))?;
        Ok(parse(&text))
    }

    fn log(&self, unit: &str, lines: &str) -> Option<ServiceCommand> {
        let of = match self.0 {
            Scope::System => "--unit",
            Scope::User => "--user-unit",
        };
        let words = [
            "journalctl",
            "--no-pager",
            "--output=cat",
            "--lines",
            lines,
            of,
            unit,
        ];
        Some(ServiceCommand::new(&words))
    }
}

/// The properties that `systemctl show` printed.
fn parse(text: &str) -> ServiceState {
    let value = |key: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    };
    let word = |key: &str| value(key).unwrap_or_default();
    let pid = value("MainPID").and_then(|pid| pid.parse().ok());
    ServiceState {
        state: format!("{}, {}", word("ActiveState"), word("SubState")),
        pid: pid.filter(|pid| *pid != 0),
        enabled: word("UnitFileState").starts_with("enabled"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemctl_prints_is_read() {
        let text = "MainPID=812\nActiveState=active\nSubState=running\nUnitFileState=enabled\n";
        let state = parse(text);
        assert_eq!((state.pid, state.enabled), (Some(812), true));
        assert_eq!(state.state, "active, running");
        let text = "MainPID=0\nActiveState=inactive\nSubState=dead\nUnitFileState=\n";
        let state = parse(text);
        assert_eq!((state.pid, state.enabled), (None, false));
    }
}
