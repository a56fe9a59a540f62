//! Limits that have to be enforced, on a machine that cannot enforce them.
//! Owns the refusal, with the location of each limit.
//! Never knows a mechanism: the caller says what there is.

use super::launch::EnforcementPolicy;
use super::lower::Configuration;
use super::problem::{Problem, Problems};

/// Why a limit cannot be enforced, and how it could be.
pub(crate) struct NotEnforced {
    pub(crate) cause: String,
    pub(crate) remedy: String,
}

/// Reports every limit that cannot be enforced although `resources.enforcement` requires it.
///
/// # Errors
/// A problem for each of them.
pub(crate) fn check_enforcement(
    configuration: &Configuration,
    missing: impl Fn(&str) -> Option<NotEnforced>,
) -> Result<(), Problems> {
    let mut problems = Problems::default();
    if configuration.system.enforcement == EnforcementPolicy::BestEffort {
        return Ok(());
    }
    for (spec, _) in &configuration.modules {
        let limits = &spec.throttle.limits;
        for (key, limit) in [
            ("cpu_percent", limits.cpu_permille),
            ("memory_mb", limits.memory_bytes),
            ("threads", limits.threads),
            ("processes", limits.processes),
        ] {
            let Some(missing) = limit.and_then(|_| missing(key)) else {
                continue;
            };
            let path = ["module", &spec.name, "limits", key];
            let message = format!("cannot enforce {}: {}", path.join("."), missing.cause);
            let mut problem = Problem::new(message).hint(missing.remedy);
            problem.place = configuration.location(&path);
            problems.push(|| problem);
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems)
    }
}
