//! Describes events in plain words, for `events`, `why` and logs.
//! Owns the message of each kind. Never fails: a missing field of a payload is left out.

use mainstay_process::Signal;
use mainstay_protocol::{Event, EventKind, StateCause};
use serde_json::Value;

use crate::os_text::{code_text, millis_text};

/// Largest number of names in one message.
const NAMED: usize = 5;

/// Returns one message without a full stop, such as `storage was killed by SIGKILL after 12 s`.
#[must_use]
pub fn describe(event: &Event) -> String {
    let facts = PayloadReader(&event.payload);
    let who = event.module.as_deref().unwrap_or("mainstay");
    match event.kind {
        EventKind::Other(kind) => format!("{who}: {}", kind.as_str()),
        EventKind::ModuleStateChanged => state_changed(event, who, facts),
        EventKind::ModuleReady => {
            let after = facts.millis("after_ms");
            format!("{who} is ready{}", prefixed(" after ", after))
        }
        EventKind::ModuleExited => exited(who, facts),
        EventKind::ModuleHealthChanged => {
            let to = facts.text("to").unwrap_or("unknown");
            let issues = prefixed(": ", facts.list("issues"));
            format!(
                "{who} is {to}{}{issues}",
                prefixed(", was ", facts.text("from"))
            )
        }
        EventKind::ModuleThrottled | EventKind::ModuleReleased => throttled(event.kind, who, facts),
        // A dependency changed, and the module keeps running.
        EventKind::ModuleDegraded | EventKind::ModuleRestored if facts.text("by").is_some() => {
            format!(
                "{who} keeps running and is {}",
                facts.text("text").unwrap_or("notified")
            )
        }
        EventKind::ModuleAdded | EventKind::ModuleRemoved | EventKind::ModuleRenamed => {
            membership(event.kind, who, facts)
        }
        EventKind::ModuleDegraded => format!("{who} is degraded{}", facts.why()),
        EventKind::ModuleRestored => format!("{who} is restored{}", facts.why()),
        EventKind::ModuleOutputLost => format!("output of {who} is lost{}", facts.why()),
        EventKind::ModuleOutputRestored => format!("output of {who} is written again"),
        EventKind::ModuleSuspended | EventKind::ModuleContinued => {
            suspended(event.kind, who, facts)
        }
        EventKind::ModuleTreeSignalled => tree_signalled(who, facts),
        EventKind::ModuleFilesChanged => files_changed(who, facts),
        EventKind::ModuleHookFailed => hook_failed(who, facts),
        EventKind::ForensicsWritten | EventKind::ChaosInjected => fault(event, who, facts),
        EventKind::RecoveryStarted
        | EventKind::RecoveryProposed
        | EventKind::CascadeStopped
        | EventKind::UserNotified
        | EventKind::RecoveryStepCompleted
        | EventKind::RecoveryCompleted
        | EventKind::RecoveryFailed
        | EventKind::GroupExceeded => recovery(event.kind, who, facts),
        EventKind::OperationRequested => requested(event, facts),
        EventKind::ConfigSet => config_set(event, facts),
        EventKind::ConfigApplied
        | EventKind::ConfigCommitted
        | EventKind::ConfigRejected
        | EventKind::ConfigRolledBack
        | EventKind::ConfigProblemCleared => configuration(event.kind, facts),
        EventKind::RuntimeUpgraded
        | EventKind::RuntimeUpgradeFailed
        | EventKind::HolderUpgraded
        | EventKind::HolderUpgradeFailed => upgrade(event, facts),
        EventKind::HolderReplaced => holder_replaced(facts),
        EventKind::OperationFinished => operation(event, facts) + " " + &operation_result(event),
        EventKind::SystemStatusChanged
        | EventKind::SystemOverloaded
        | EventKind::SystemResumed
        | EventKind::ActorRestarted
        | EventKind::RuntimeStarted
        | EventKind::RuntimeReturned
        | EventKind::ClientRefused
        | EventKind::JournalGap => system(event, facts),
    }
}

fn state_changed(event: &Event, who: &str, facts: PayloadReader<'_>) -> String {
    let cause = event
        .cause
        .map(|cause| reason(cause, event.actor.as_deref(), facts));
    let because = prefixed(": ", cause.as_deref());
    let text = prefixed(": ", facts.text("text"));
    match facts.text("to").unwrap_or_default() {
        "waiting" => match (facts.list("waiting_on"), facts.text("text")) {
            (_, Some(text)) => format!("{who} waits {text}"),
            (Some(needs), None) => format!("{who} waits for {needs} to be ready"),
            (None, None) => format!("{who} waits to be started{because}"),
        },
        "starting" => format!("{who} is starting{because}{text}"),
        to if event.cause == Some(StateCause::Adopted) => adopted(event, who, to, facts),
        "running" => format!("{who} is running{text}"),
        "stopping" => format!("{who} is stopping{because}{text}"),
        "stopped" => format!("{who} stopped{because}{text}"),
        "backoff" => match facts.text("text") {
            Some(text) => format!("{who} failed: {text}"),
            None => format!("{who} failed{because}; a restart is scheduled"),
        },
        "failed" if text.is_empty() => format!("{who} has failed{because}"),
        "failed" => format!("{who} has failed{text}"),
        "not_started" => format!("{who} is not started"),
        "" => format!("{who} changed its state{because}{text}"),
        other => format!("{who} changed to {other}{because}{text}"),
    }
}

/// Describes the state in which a runtime found a module, with what the holder's record says.
fn adopted(event: &Event, who: &str, to: &str, facts: PayloadReader<'_>) -> String {
    let text = prefixed(": ", facts.text("text").filter(|_| to != "running"));
    let was = prefixed("; before that: ", facts.text("was"));
    let requested = prefixed("; requested by ", event.actor.as_deref());
    let since = prefixed(" since ", facts.text("since"));
    match to {
        "running" => format!("{who} kept running while the runtime was away{was}"),
        _ => format!(
            "{who} is still {}{since}{text}{requested}",
            to.replace('_', " ")
        ),
    }
}

/// Returns a cause as the end of a message.
fn reason(cause: StateCause, actor: Option<&str>, facts: PayloadReader<'_>) -> String {
    let by = facts.text("by");
    match cause {
        StateCause::Boot => "initial startup".to_owned(),
        StateCause::Requested => actor.or(by).map_or_else(
            || "on request".to_owned(),
            |who| format!("requested by {who}"),
        ),
        StateCause::Dependency => match (by, facts.truth("needed")) {
            (None, _) => "a dependency changed".to_owned(),
            (Some(by), false) => format!("its dependency {by} changed"),
            (Some(by), true) => format!("{by} needs it"),
        },
        StateCause::Exec => "its program cannot be executed".to_owned(),
        StateCause::Exit => "its process exited".to_owned(),
        StateCause::Startup => "its start failed".to_owned(),
        StateCause::Timeout => "its timeout expired".to_owned(),
        StateCause::Probe => "a health probe failed".to_owned(),
        StateCause::Watchdog => "its watchdog expired".to_owned(),
        StateCause::Limit => "it exceeded a limit".to_owned(),
        StateCause::Reload => "the configuration changed".to_owned(),
        StateCause::Group => by.map_or_else(
            || "its group acted".to_owned(),
            |by| format!("along with {by}, which failed"),
        ),
        StateCause::Probation => "one more try after it was given up".to_owned(),
        StateCause::Idle => "not used for long".to_owned(),
        StateCause::Shutdown => "the system is stopping".to_owned(),
        StateCause::Other(cause) => cause.as_str().to_owned(),
        StateCause::Adopted => "the runtime returned and found it so".to_owned(),
    }
}

fn signal_of(number: i64) -> Signal {
    Signal(i32::try_from(number).unwrap_or_default())
}

fn exited(who: &str, facts: PayloadReader<'_>) -> String {
    let after = prefixed(" after ", facts.millis("ran_ms"));
    let dumped = if facts.truth("core_dumped") {
        " and dumped core"
    } else {
        ""
    };
    match (
        facts.integer("signal"),
        facts.integer("code"),
        facts.text("text"),
    ) {
        (Some(signal), ..) => format!("{who} was killed by {}{dumped}{after}", signal_of(signal)),
        (None, Some(code), _) => {
            let code = i32::try_from(code).unwrap_or(i32::MAX);
            format!(
                "{who} exited with {}{after}",
                code_text(code).trim_start_matches("exit ")
            )
        }
        (None, None, Some(text)) => format!("{who} exited{after}: {text}"),
        (None, None, None) => format!("{who} exited{after}, exit code unknown"),
    }
}

fn hook_failed(who: &str, facts: PayloadReader<'_>) -> String {
    let hook = facts.text("hook").unwrap_or("a command");
    let command = prefixed(" `", facts.text("command").map(|text| format!("{text}`")));
    format!("{hook}{command} of {who} failed{}", facts.why())
}

fn files_changed(who: &str, facts: PayloadReader<'_>) -> String {
    let more = facts.integer("count").unwrap_or(1).saturating_sub(1);
    let more = (more > 0).then(|| format!(" and {more} more"));
    let path = facts.text("path").unwrap_or("files");
    let stays = match facts.truth("restart") {
        true => "",
        false => "; it is not restarted: it is to be down",
    };
    format!("{path}{} of {who} changed{stays}", prefixed("", more))
}

/// Describes a fault on request, or what was written down about a run that was killed.
fn fault(event: &Event, who: &str, facts: PayloadReader<'_>) -> String {
    if event.kind == EventKind::ForensicsWritten {
        let reason = prefixed(" before ", facts.text("reason"));
        let path = prefixed(": ", facts.text("path"));
        return format!("the state of {who} was written down{reason}{path}");
    }
    let action = facts.text("action").unwrap_or("fault");
    let by = prefixed(" by ", event.actor.as_deref());
    format!("chaos {action} of {who} was requested{by}")
}

/// How a plan changes which modules there are, and their names.
fn membership(kind: EventKind, who: &str, facts: PayloadReader<'_>) -> String {
    let plan = facts.plan();
    match kind {
        EventKind::ModuleAdded => format!("{who} was added by {plan}"),
        EventKind::ModuleRenamed => {
            let from = facts.text("from").unwrap_or("another name");
            format!("{who} was renamed from {from} by {plan}")
        }
        _ => format!("{who} was removed by {plan}"),
    }
}

fn throttled(kind: EventKind, who: &str, facts: PayloadReader<'_>) -> String {
    let rung = facts.text("to").map(|rung| format!("{rung})"));
    let (verb, rung) = match kind {
        EventKind::ModuleThrottled => ("throttled", prefixed(" (", rung)),
        _ => ("throttled less", prefixed(" (now ", rung)),
    };
    format!("{who} is {verb}{rung}{}", facts.why())
}

fn suspended(kind: EventKind, who: &str, facts: PayloadReader<'_>) -> String {
    if kind == EventKind::ModuleContinued {
        return format!("{who} was continued");
    }
    let signal = prefixed(" (", facts.text("signal").map(|name| format!("{name})")));
    format!("{who} is stopped by a signal{signal}")
}

fn tree_signalled(who: &str, facts: PayloadReader<'_>) -> String {
    let signal = facts
        .integer("signal")
        .map_or("the stop signal".into(), |signal| {
            signal_of(signal).to_string()
        });
    let processes = facts.0.get("processes").and_then(Value::as_array);
    let name = |process: &Value| {
        let command = process.get("command").and_then(Value::as_str);
        let command = command.filter(|name| !name.is_empty()).unwrap_or("process");
        let pid = process.get("pid").and_then(Value::as_u64);
        format!("{command}{}", prefixed(" ", pid))
    };
    let mut names: Vec<String> = processes.into_iter().flatten().map(name).collect();
    let total = facts.count("total").unwrap_or(names.len());
    if total > NAMED {
        names.truncate(NAMED - 1);
    }
    let more = total - names.len().min(total);
    names.extend((more > 0).then(|| format!("{more} more")));
    let left = prefixed(": ", enumerate(&names));
    format!("the main process of {who} exited: {signal} was sent to the rest of its tree{left}")
}

fn recovery(kind: EventKind, who: &str, facts: PayloadReader<'_>) -> String {
    match kind {
        EventKind::RecoveryStarted => recovery_started(who, facts),
        EventKind::RecoveryStepCompleted => {
            let step = facts.text("text").or_else(|| facts.text("reason"));
            format!(
                "recovery of {who}: {}",
                step.unwrap_or("a step is completed")
            )
        }
        EventKind::RecoveryProposed => {
            let strategy = facts.text("strategy").unwrap_or("restart");
            let why = facts.why();
            format!("{who} failed{why}; proposed: {strategy}; `mainstay recover {who}` accepts it")
        }
        EventKind::CascadeStopped => {
            let failed = facts
                .list("failed")
                .unwrap_or_else(|| "many modules".to_owned());
            let stopped = prefixed("; stopped: ", facts.list("stopped"));
            format!("too many failures at once: {failed}{stopped}")
        }
        EventKind::UserNotified => format!("notice{}", facts.why()),
        EventKind::RecoveryCompleted => format!("recovery of {who} succeeded{}", facts.why()),
        EventKind::RecoveryFailed => {
            let probation = prefixed("; one more try in ", facts.millis("probation_ms"));
            format!("recovery of {who} failed{}{probation}", facts.why())
        }
        _ => {
            let group = facts.text("group").unwrap_or("of modules");
            format!("group {group} used up its budget{}", facts.why())
        }
    }
}

fn recovery_started(who: &str, facts: PayloadReader<'_>) -> String {
    let attempt = facts.integer("attempt").map(|attempt| {
        let of = prefixed(
            " of ",
            facts.integer("max_attempts").filter(|&most| most > 0),
        );
        format!("attempt {attempt}{of}")
    });
    let next = facts
        .millis("delay_ms")
        .map(|delay| format!("next start in {delay}"));
    let failure = facts
        .text("failure")
        .map(|failure| format!("after {failure}"));
    let strategy = facts.text("strategy").filter(|word| *word != "restart");
    let strategy = strategy.map(|word| format!("by {word}"));
    let along = facts.list("along").map(|names| format!("with {names}"));
    let parts = [attempt, failure, strategy, along, next];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        return format!("recovery of {who} began");
    }
    format!("recovery of {who}: {}", parts.join(", "))
}

fn configuration(kind: EventKind, facts: PayloadReader<'_>) -> String {
    let plan = facts.plan();
    let why = facts.why();
    match kind {
        EventKind::ConfigApplied => format!("{plan} was applied{why}"),
        EventKind::ConfigCommitted => format!("{plan} was committed{why}"),
        EventKind::ConfigRejected => format!("a changed configuration was rejected{why}"),
        EventKind::ConfigRolledBack => format!("{plan} was restored{why}"),
        _ => format!("the configuration problem was cleared{why}"),
    }
}

/// Returns `ann set health.interval: "30s" → "10s"`.
fn config_set(event: &Event, facts: PayloadReader<'_>) -> String {
    let key = facts.text("key").unwrap_or("a value");
    let who = event.actor.as_deref().unwrap_or("somebody");
    let shown = |name: &str| match &event.payload[name] {
        serde_json::Value::Null => "not set".to_owned(),
        value => value.to_string(),
    };
    let place = match event.payload["persisted"].as_bool() {
        Some(true) => " in its file",
        _ => "",
    };
    if event.payload["hidden"].as_bool() == Some(true) {
        return format!("{who} changed {key}{place}, values not shown");
    }
    let (before, after) = (shown("before"), shown("after"));
    format!("{who} changed {key}{place}: {before} → {after}")
}

fn requested(event: &Event, facts: PayloadReader<'_>) -> String {
    match &event.actor {
        Some(actor) => format!("{actor} requested {}", operation(event, facts)),
        None => format!("{} requested", operation(event, facts)),
    }
}

/// Returns `restart of web` or `stop of the system`.
fn operation(event: &Event, facts: PayloadReader<'_>) -> String {
    let whose = event.module.as_deref().unwrap_or("the system");
    format!(
        "{} of {whose}",
        facts.text("operation").unwrap_or("operation")
    )
}

/// Describes the result of an operation: `done after 12 s`, `overtaken: ann requested stop`.
pub(super) fn operation_result(event: &Event) -> String {
    let facts = PayloadReader(&event.payload);
    let result = facts.text("result").unwrap_or("finished");
    let after = prefixed(" after ", facts.millis("after_ms"));
    format!("{result}{after}{}", facts.why())
}

fn system(event: &Event, facts: PayloadReader<'_>) -> String {
    let why = facts.why();
    match event.kind {
        EventKind::SystemStatusChanged => {
            let to = facts.text("to").unwrap_or("unknown");
            format!(
                "the system is {to}{}{why}",
                prefixed(", was ", facts.text("from"))
            )
        }
        EventKind::SystemOverloaded => format!("the system is overloaded{why}"),
        EventKind::SystemResumed => {
            format!(
                "the machine slept{}",
                prefixed(" for ", facts.millis("slept_ms"))
            )
        }
        EventKind::ActorRestarted => {
            let actor = facts.text("actor").unwrap_or("unknown");
            let error = prefixed(": ", facts.text("error"));
            format!("actor {actor} died and was restarted{error}")
        }
        EventKind::RuntimeStarted => {
            format!("mainstay{} started", prefixed(" ", facts.text("version")))
        }
        EventKind::RuntimeReturned => {
            let away = prefixed(" after ", facts.millis("away_ms"));
            let adopted = prefixed("; modules adopted: ", facts.count("adopted"));
            let exits = prefixed("; modules exited meanwhile: ", facts.count("exits"));
            let reason = prefixed("; last runtime: ", facts.text("reason"));
            format!("the runtime returned{away}{adopted}{exits}{reason}")
        }
        EventKind::ClientRefused => {
            let method = prefixed(" ", facts.text("method"));
            let code = prefixed(": ", facts.text("code"));
            if let Some(count) = facts.count("count") {
                return format!("{count} clients were refused{method}{code}");
            }
            let client = event.actor.as_deref().unwrap_or("a client");
            format!("{client} was refused{method}{code}")
        }
        _ => gap(facts),
    }
}

fn holder_replaced(facts: PayloadReader<'_>) -> String {
    let process = |key| {
        facts
            .count(key)
            .map_or_else(String::new, |pid| format!(" (pid {pid})"))
    };
    let (now, before) = (process("pid"), process("before"));
    format!("the holder died{before}; another one goes on in its place{now}, modules went on")
}

fn upgrade(event: &Event, facts: PayloadReader<'_>) -> String {
    let program = prefixed(" to ", facts.text("program"));
    let version = match (facts.text("from"), facts.text("to")) {
        (Some(from), Some(to)) if from != to => format!(" (version {to}, was {from})"),
        (_, Some(to)) => format!(" (version {to})"),
        _ => String::new(),
    };
    let reason = prefixed(": ", facts.text("reason"));
    match event.kind {
        EventKind::RuntimeUpgraded => format!("the runtime was upgraded{program}{version}"),
        EventKind::HolderUpgraded => format!("the holder follows the runtime{version}"),
        EventKind::HolderUpgradeFailed => format!("the holder keeps its program{reason}"),
        _ => format!("the upgrade{program}{version} was rolled back{reason}"),
    }
}

fn gap(facts: PayloadReader<'_>) -> String {
    let (Some(from), Some(to)) = (facts.integer("from"), facts.integer("to")) else {
        return format!("events may be missing{}", facts.why());
    };
    let what = match facts.integer("lost") {
        Some(1) if from == to => format!("event {from} is not in the journal"),
        Some(1) => format!("1 event between {from} and {to} is not in the journal"),
        Some(lost) => format!("{lost} events between {from} and {to} are not in the journal"),
        // The numbers in between were reserved, most of them never used.
        None => format!("events before event {to} may be missing"),
    };
    let actions = match facts.0.get("actions") {
        None => String::new(),
        Some(actions) => match actions.as_u64() {
            Some(1) => ", 1 administrative row among it".to_owned(),
            Some(count) => format!(", {count} administrative rows among it"),
            None => ", perhaps administrative rows among it".to_owned(),
        },
    };
    format!("{what}{actions}{}", facts.why())
}

/// Reads a payload, in which each field is optional.
#[derive(Clone, Copy)]
struct PayloadReader<'a>(&'a Value);

impl<'a> PayloadReader<'a> {
    fn text(self, name: &str) -> Option<&'a str> {
        self.0.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    fn integer(self, name: &str) -> Option<i64> {
        self.0.get(name)?.as_i64()
    }

    fn truth(self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool) == Some(true)
    }

    /// Returns a number, or the length of a list.
    fn count(self, name: &str) -> Option<usize> {
        match self.0.get(name)? {
            Value::Array(list) => Some(list.len()),
            number => usize::try_from(number.as_u64()?).ok(),
        }
    }

    fn millis(self, name: &str) -> Option<String> {
        self.0.get(name)?.as_u64().map(millis_text)
    }

    /// Returns `a`, `a and b`, `a, b and c`; none for an empty list.
    fn list(self, name: &str) -> Option<String> {
        let names: Vec<&str> = self
            .0
            .get(name)?
            .as_array()?
            .iter()
            .filter_map(Value::as_str)
            .collect();
        enumerate(&names)
    }

    /// Returns `plan 7`, or `the configuration` if the payload has no number.
    fn plan(self) -> String {
        let plan = self.integer("plan").map(|plan| format!("plan {plan}"));
        plan.unwrap_or_else(|| "the configuration".to_owned())
    }

    /// Returns the reason in a payload, as the end of a message.
    fn why(self) -> String {
        prefixed(": ", self.text("text").or_else(|| self.text("reason")))
    }
}

/// Returns `a`, `a and b`, `a, b and c`, `a, b, c, d, e and 7 more`; none for an empty list.
pub(super) fn enumerate<T: AsRef<str>>(names: &[T]) -> Option<String> {
    let text = |names: &[T]| {
        names
            .iter()
            .map(AsRef::as_ref)
            .collect::<Vec<_>>()
            .join(", ")
    };
    match names {
        [] => None,
        [one] => Some(one.as_ref().to_owned()),
        many if many.len() > NAMED => Some(format!(
            "{} and {} more",
            text(&many[..NAMED]),
            many.len() - NAMED
        )),
        [first @ .., last] => Some(format!("{} and {}", text(first), last.as_ref())),
    }
}

fn prefixed<T: std::fmt::Display>(prefix: &str, text: Option<T>) -> String {
    text.map_or_else(String::new, |text| format!("{prefix}{text}"))
}
