//! Limits that have to be enforced, on a machine that cannot enforce them.
//! Owns the refusal, with the location of each limit.
//! Never knows a mechanism: the caller says what there is.

use mainstay_process::Isolation;

use super::launch::EnforcementPolicy;
use super::lower::Configuration;
use super::problem::{Problem, Problems};

/// The keys of `isolation` that ask for something.
pub(crate) fn asked_isolation(isolation: &Isolation) -> impl Iterator<Item = &'static str> {
    let asked = [
        ("capabilities", isolation.capabilities.is_some()),
        ("read_only", !isolation.read_only.is_empty()),
        ("private_tmp", isolation.private_tmp),
    ];
    asked.into_iter().filter(|(_, is)| *is).map(|(key, _)| key)
}

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
    for (spec, launch) in &configuration.modules {
        let limits = &spec.throttle.limits;
        let isolation = asked_isolation(&launch.isolation).map(|key| ("isolation", key, true));
        let limits = [
            ("cpu_percent", limits.cpu_permille.is_some()),
            ("memory_mb", limits.memory_bytes.is_some()),
            ("threads", limits.threads.is_some()),
            ("processes", limits.processes.is_some()),
            ("io_mb_per_s", limits.io_bytes_per_s.is_some()),
            ("cpu_affinity", launch.limits.cpu_affinity.is_some()),
        ];
        let limits = limits.map(|(key, is_set)| ("limits", key, is_set));
        let asked = limits.into_iter().chain(isolation);
        for (section, key, _) in asked.filter(|(.., is_set)| *is_set) {
            let Some(missing) = missing(key) else {
                continue;
            };
            let path = ["module", &spec.name, section, key];
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
