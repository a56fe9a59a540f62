//! The first line about a system: how it is, because of whom, and how many modules are where.
//! Owns which module is named, and its shortest reason; the whole one is in its row.
//! Never prints.

use std::collections::HashSet;
use std::fmt::Write;

use mainstay_protocol::enums::{DesiredState, HealthStatus, ModuleState, SystemStatus};
use mainstay_protocol::view::ModuleCounts;
use mainstay_protocol::{ModuleView, SystemView};

use super::table::cut;
use super::{format, status_rows};

/// Modules that are named as waiting.
const WAITING_SHOWN: usize = 2;
/// Columns of a reason; the rest of it is in the row of its module.
const REASON_COLUMNS: usize = 60;

/// The status in capitals with its reason, and the modules that remain to be counted. A system that
/// is not well names the module. A healthy one says which modules were stopped on request, or wait
/// and are not required.
pub(crate) fn answer(system: &SystemView, modules: &[ModuleView]) -> (String, ModuleCounts) {
    let (mut word, mut counts) = (system.status.as_str().to_uppercase(), system.modules);
    match system.status {
        SystemStatus::Healthy => {
            let stopped = counts.stopped_on_request;
            if stopped > 0 {
                let _ = write!(word, ", {stopped} stopped on request");
                counts.stopped = counts.stopped.saturating_sub(stopped);
                counts.stopped_on_request = 0;
            }
            let waiting = modules
                .iter()
                .filter(|module| module.state == ModuleState::Waiting);
            let names: Vec<String> = waiting.map(|module| module.module.clone()).collect();
            if !names.is_empty() {
                let shown = format::list(&names[..names.len().min(WAITING_SHOWN)]);
                let more = if names.len() > WAITING_SHOWN {
                    ", …"
                } else {
                    ""
                };
                let _ = write!(word, ", {} waiting ({shown}{more})", names.len());
                counts.waiting = counts.waiting.saturating_sub(names.len());
            }
        }
        SystemStatus::Degraded | SystemStatus::Critical => {
            if let Some(because) = because(system, modules) {
                let _ = write!(word, ": {because}");
            }
        }
        _ => {}
    }
    (word, counts)
}

/// The module that is most in trouble, in a few words, and how many others there are. A
/// module that is required, or that others need, comes first.
fn because(system: &SystemView, modules: &[ModuleView]) -> Option<String> {
    let needs = modules.iter().flat_map(|module| &module.requires);
    let needed: HashSet<&str> = needs.map(String::as_str).collect();
    let matters = |module: &ModuleView| module.required || needed.contains(&*module.module);
    let mut ranked: Vec<&ModuleView> = modules.iter().collect();
    ranked.sort_by_key(|module| (!matters(module), status_rows::rank(module)));
    let mut troubles = ranked
        .into_iter()
        .filter_map(|module| trouble(module, matters(module)));
    // On probation a module runs as if nothing were.
    let Some(first) = troubles.next() else {
        return system.reason.as_deref().map(format::one_line);
    };
    Some(match troubles.count() {
        0 => first,
        more => format!("{first}, {more} more"),
    })
}

/// Why a system is not well because of this module, in a few words.
fn trouble(module: &ModuleView, matters: bool) -> Option<String> {
    let name = format::single_line(&module.module);
    let is_down_on_request = module.desired == DesiredState::Down;
    let what = match module.state {
        ModuleState::Failed => "failed".to_owned(),
        ModuleState::Backoff => "in backoff".to_owned(),
        ModuleState::Stopped if matters && is_down_on_request => "stopped on request".to_owned(),
        ModuleState::Waiting | ModuleState::Starting | ModuleState::Stopping if matters => {
            module.state.as_str().to_owned()
        }
        ModuleState::Running => ill(module)?,
        _ => return None,
    };
    Some(format!("{name} {what}"))
}

/// What is wrong with a module that runs.
fn ill(module: &ModuleView) -> Option<String> {
    if !module.degraded.is_empty() {
        return Some(format!("without {}", format::list(&module.degraded)));
    }
    let is_ill = matches!(
        module.health,
        HealthStatus::Degraded | HealthStatus::Unhealthy
    );
    let issue = module.issues.first().map(|issue| format::one_line(issue));
    is_ill.then(|| match issue {
        Some(issue) => format!("{} ({})", module.health, cut(&issue, REASON_COLUMNS)),
        None => module.health.as_str().to_owned(),
    })
}

/// How many modules are in each state, those that work first.
pub(crate) fn counts_text(counts: &ModuleCounts) -> String {
    let each = [
        (counts.running, "running"),
        (counts.done, "done"),
        (counts.starting, "starting"),
        (counts.waiting, "waiting"),
        (counts.stopping, "stopping"),
        (
            counts.stopped.saturating_sub(counts.stopped_on_request),
            "stopped",
        ),
        (counts.stopped_on_request, "stopped on request"),
        (counts.not_started, "not started"),
        (counts.backoff, "in backoff"),
        (counts.failed, "failed"),
    ];
    let each = each.iter().filter(|(count, _)| *count > 0);
    let text: Vec<String> = each
        .map(|(count, state)| format!("{count} {state}"))
        .collect();
    match (text.is_empty(), counts.total) {
        (true, 0) => "no modules".to_owned(),
        (true, _) => "none running".to_owned(),
        (false, _) => text.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::module_details::tests::{example, golden};

    fn system(status: SystemStatus) -> SystemView {
        let view = golden("system.status")["reply"]["result"].clone();
        let view: SystemView = serde_json::from_value(view).expect("a view");
        SystemView { status, ..view }
    }

    fn module(name: &str, state: ModuleState) -> ModuleView {
        let (health, degraded) = (HealthStatus::Healthy, Vec::new());
        ModuleView {
            module: name.to_owned(),
            state,
            health,
            degraded,
            ..example()
        }
    }

    #[test]
    fn a_system_that_is_not_well_names_the_module_and_the_shortest_reason() {
        let degraded = system(SystemStatus::Degraded);
        let word = |modules: &[ModuleView]| answer(&degraded, modules).0;
        let mut web = module("web", ModuleState::Running);
        web.health = HealthStatus::Unhealthy;
        web.issues = vec!["tcp 127.0.0.1:80: connection refused, 3 tries".to_owned()];
        let ill = "DEGRADED: web unhealthy (tcp 127.0.0.1:80: connection refused, 3 tries)";
        assert_eq!(word(&[web.clone()]), ill);
        web.issues.clear();
        assert_eq!(word(&[web.clone()]), "DEGRADED: web unhealthy");
        let mut failed = module("flaky", ModuleState::Failed);
        assert_eq!(
            word(&[web.clone(), failed.clone()]),
            "DEGRADED: flaky failed, 1 more"
        );
        // A module that others need comes first.
        (web.required, failed.required) = (false, false);
        let mut database = module("db", ModuleState::Stopped);
        (database.required, database.desired) = (false, DesiredState::Down);
        web.requires = vec!["db".to_owned()];
        assert_eq!(
            word(&[web, failed, database]),
            "DEGRADED: db stopped on request, 2 more"
        );
        let mut down = module("db", ModuleState::Stopped);
        (down.required, down.desired) = (true, DesiredState::Down);
        assert_eq!(word(&[down]), "DEGRADED: db stopped on request");
    }

    #[test]
    fn on_probation_it_says_what_the_runtime_does() {
        let mut degraded = system(SystemStatus::Degraded);
        degraded.reason = Some("not well: web".to_owned());
        let web = module("web", ModuleState::Running);
        assert_eq!(answer(&degraded, &[web]).0, "DEGRADED: not well: web");
        degraded.reason = None;
        assert_eq!(answer(&degraded, &[]).0, "DEGRADED");
    }

    #[test]
    fn a_healthy_system_names_what_waits_and_is_not_required() {
        let mut healthy = system(SystemStatus::Healthy);
        (healthy.modules.stopped, healthy.modules.waiting) = (1, 1);
        healthy.modules.stopped_on_request = 1;
        let (word, counts) = answer(&healthy, &[module("api", ModuleState::Waiting)]);
        assert_eq!(word, "HEALTHY, 1 stopped on request, 1 waiting (api)");
        assert_eq!((counts.waiting, counts.stopped_on_request), (0, 0));
        let waiting = ["a", "b", "c"].map(|name| module(name, ModuleState::Waiting));
        let word = answer(&healthy, &waiting).0;
        assert!(word.ends_with("3 waiting (a and b, …)"), "{word}");
    }
}
