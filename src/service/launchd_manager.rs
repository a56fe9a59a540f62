//! launchd, of the machine or of this user.
//! Owns how it is asked what a job does.
//! Never changes anything.

use super::perform::{ServiceManager, ServiceState, run};
use super::{Scope, ServiceCommand};

/// launchd, in the domain of the machine or of a user.
#[derive(Debug)]
pub(crate) struct Launchd {
    domain: String,
}

impl Launchd {
    /// Finds it; `uid` is that of the user of an agent.
    ///
    /// # Errors
    /// In a sentence: this user may not use it.
    pub(crate) fn find(scope: Scope, uid: u32) -> Result<Launchd, String> {
        let domain = match scope {
            Scope::System if uid != 0 => {
                return Err(
                    "only root may install a service of the machine; run it as root, or with \
                     --user"
                        .to_owned(),
                );
            }
            Scope::System => "system".to_owned(),
            Scope::User => format!("gui/{uid}"),
        };
        Ok(Launchd { domain })
    }
}

impl ServiceManager for Launchd {
    fn state(&self, unit: &str) -> Result<ServiceState, String> {
        let target = format!("{}/{unit}", self.domain);
        let print = ServiceCommand::new(&["launchctl", "print", &target]).may_fail();
        Ok(parse(&run(&print)?))
    }

    fn log(&self, _: &str, _: &str) -> Option<ServiceCommand> {
        None
    }
}

/// What `launchctl print` says of a job; nothing when it is not loaded.
fn parse(text: &str) -> ServiceState {
    let value = |key: &str| {
        let mut lines = text.lines().map(str::trim);
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))
    };
    ServiceState {
        state: value("state").unwrap_or("not loaded").to_owned(),
        pid: value("pid").and_then(|pid| pid.parse().ok()),
        enabled: !text.trim().is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_launchctl_prints_is_read() {
        let text =
            "gui/501/mainstay.shop = {\n\tactive count = 1\n\tstate = running\n\tpid = 77\n}";
        let state = parse(text);
        assert_eq!((state.state.as_str(), state.pid), ("running", Some(77)));
        assert_eq!(parse("").state, "not loaded");
    }
}
