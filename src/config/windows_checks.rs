//! Refuses what a configuration contains and Windows does not have.
//! Owns the messages, each with its location and next step.
//! Never accepts a key that is then ignored.

use super::lower::ParsedModule;
use super::read_context::ReadContext;
use mainstay_policy::spec::Readiness;
use mainstay_process::Probe;

use super::key_table::KeyTable;
use super::launch::ProbeKind;
use super::schema::compound::Principal;
use super::schema::system::IpcSection;

/// The available kinds of readiness.
const READY: &str = "use { log = \"…\" }, { file = \"…\" }, { tcp = \"…\" }, { http = \"…\" }, \
                     { exec = […] }, or { notify = true } with the SDK";

/// Refuses keys of modules.
pub(crate) fn modules<'a>(read: &[ParsedModule<'a>], at: &mut ReadContext<'a>) {
    for each in read {
        let (name, module) = (each.name, &each.module);
        let same = "leave it out: modules run as the user of mainstay";
        let limits = "leave it out: no mechanism enforces it here";
        let asked = [
            (&["user"][..], module.user.is_some(), "other users", same),
            (&["group"], module.group.is_some(), "groups", same),
            (
                &["limits", "file_handles"],
                module.limits.file_handles.is_some(),
                "limits of open files",
                limits,
            ),
            (
                &["limits", "nice"],
                module.limits.nice.is_some(),
                "nice values",
                limits,
            ),
            (
                &["limits", "oom_score_adj"],
                module.limits.oom_score_adj.is_some(),
                "order in which processes are killed for memory",
                limits,
            ),
            (
                &["isolation", "no_new_privileges"],
                module.isolation.no_new_privileges == Some(true),
                "privileges gained by an exec",
                limits,
            ),
            (
                &["reload_signal"],
                module.reload_signal.is_some(),
                "signals to tell a module of its settings",
                "use reload_command, or the SDK",
            ),
            (
                &["sockets"],
                !module.sockets.0.is_empty(),
                "sockets that a module could inherit",
                "leave it out, and let the module listen by itself",
            ),
            (
                &["ready"],
                matches!(module.ready.readiness, Readiness::Fd(_)),
                "descriptors that a module could inherit",
                READY,
            ),
            (
                &["ready"],
                matches!(module.ready.readiness, Readiness::Probe(Probe::Unix(_))),
                "Unix sockets",
                READY,
            ),
        ];
        for (keys, _, what, hint) in asked.into_iter().filter(|(_, asked, ..)| *asked) {
            let node = each.entry.and_then(|entry| entry.node.at(keys));
            let origin = node.map(|node| node.origin).unwrap_or_default();
            let message = format!(
                "cannot use module.{name}.{}: Windows has no {what}",
                keys.join(".")
            );
            at.problem::<()>(origin, message, hint);
        }
        probes(each, at);
    }
}

fn probes(each: &ParsedModule<'_>, at: &mut ReadContext<'_>) {
    for probe in &each.module.health.probes {
        let (what, hint) = match probe.look {
            ProbeKind::Watchdog(_) => ("sd_notify to feed a watchdog by", "use { sdk = true }"),
            ProbeKind::Probe(Probe::Unix(_)) => {
                ("Unix sockets", "use a tcp, http, exec or sdk probe")
            }
            _ => continue,
        };
        let name = each.name;
        let message = format!("cannot use a probe of module {name}: Windows has no {what}");
        at.problem::<()>(probe.origin, message, hint);
    }
}

/// Refuses principals that Windows cannot identify.
pub(crate) fn ipc<'a>(ipc: &IpcSection, table: &'a KeyTable, at: &mut ReadContext<'a>) {
    let lists = [
        ("observers", &ipc.observers),
        ("operators", &ipc.operators),
        ("admins", &ipc.admins),
    ];
    for (key, who) in lists {
        if who.iter().all(|who| *who == Principal::User) {
            continue;
        }
        let entry = table.get("ipc").and_then(|entry| entry.node.at(&[key]));
        let origin = entry.map(|node| node.origin).unwrap_or_default();
        let message = format!(
            "cannot use ipc.{key}: on Windows only the user of mainstay can use the socket"
        );
        at.problem::<()>(
            origin,
            message,
            &format!("{key} = [\"user\"], or leave it out"),
        );
    }
}
