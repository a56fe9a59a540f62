//! The details of one module, one per line.
//! Owns the labels.
//! Never prints a line without a value.

use std::fmt::Write;

use mainstay_protocol::enums::{DesiredState, Rung};
use mainstay_protocol::view::{LastExit, Usage};
use mainstay_protocol::{ModuleState, ModuleView, Timestamp};

use super::format;
use super::health::trend_text;
use super::status::{health_colour, state_colour};
use super::terminal::Terminal;
use crate::os_text::millis_text;

pub(crate) fn render(module: &ModuleView, now: Timestamp, screen: Terminal) -> String {
    let mut out = String::new();
    title(&mut out, module);
    let mut state = String::new();
    screen.paint(
        &mut state,
        state_colour(module.state),
        match module.is_done() {
            true => "done",
            false => module.state.as_str(),
        },
    );
    let _ = write!(state, " for {}", format::since(module.since, now));
    match (&module.started_because, module.cause) {
        (Some(because), _) if module.state == ModuleState::Running => {
            let _ = write!(state, ", {}", format::single_line(because));
        }
        (_, Some(cause)) => {
            let _ = write!(state, ", because: {cause}");
        }
        (_, None) => {}
    }
    if module.desired == DesiredState::Down {
        state.push_str(", desired: down");
    }
    line(&mut out, "state", &state);
    let mut health = String::new();
    screen.paint(
        &mut health,
        health_colour(module.health),
        module.health.as_str(),
    );
    let _ = write!(health, ", score {} of 100", module.score);
    line(&mut out, "health", &health);
    facts(&mut out, module, now);
    out
}

fn title(out: &mut String, module: &ModuleView) {
    out.push_str(&format::single_line(&module.module));
    if !module.version.is_empty() {
        let _ = write!(out, " {}", format::single_line(&module.version));
    }
    if !module.description.is_empty() {
        let _ = write!(out, " - {}", format::single_line(&module.description));
    }
    out.push('\n');
}

fn facts(out: &mut String, module: &ModuleView, now: Timestamp) {
    if let Some(text) = &module.status_text {
        line(out, "says", &format::single_line(text));
    }
    if let Some(pid) = module.pid {
        let stopped = suspended_text(module).map_or_else(String::new, |text| format!(", {text}"));
        line(
            out,
            "process",
            &format!("{pid}, run {}{stopped}", module.generation),
        );
    }
    if let Some(usage) = &module.usage {
        line(out, "uses", &usage_text(usage));
    }
    let metrics = module.metrics.iter();
    let metrics = metrics.map(|(name, value)| format!("{} = {value}", format::single_line(name)));
    line(out, "reports", &metrics.collect::<Vec<_>>().join(", "));
    for issue in &module.issues {
        line(out, "issue", &format::single_line(issue));
    }
    for trend in &module.trends {
        line(out, "trend", &trend_text(trend));
    }
    line(
        out,
        "kind",
        &format!(
            "{}, {}, importance {}",
            module.kind,
            if module.required {
                "required"
            } else {
                "optional"
            },
            module.importance
        ),
    );
    line(out, "requires", &format::list(&module.requires));
    line(out, "wants", &format::list(&module.wants));
    line(out, "waits for", &waits_for(module).unwrap_or_default());
    line(out, "without", &format::list(&module.degraded));
    let features = module.features.iter();
    let features = features.map(|(name, on)| format!("{name} {}", if *on { "on" } else { "off" }));
    line(
        out,
        "features",
        &features.collect::<Vec<String>>().join(", "),
    );
    if module.throttle.rung != Rung::None {
        let throttle = &module.throttle;
        line(
            out,
            "throttled",
            &format!("{} (by {})", throttle.rung, throttle.mechanism),
        );
    }
    line(out, "restarts", &restarts_text(module));
    recovery_facts(out, module, now);
    if module.output_dropped_bytes > 0 {
        let lost = format::bytes(module.output_dropped_bytes);
        line(
            out,
            "output",
            &format!("{lost} were lost; `mainstay status` says why"),
        );
    }
}

/// How often it was restarted, and which failures still count; empty: never, and none does.
fn restarts_text(module: &ModuleView) -> String {
    let (automatic, requested) = (module.restarts, module.requested_restarts);
    let counted = match module.attempts {
        0 if automatic + requested == 0 => return String::new(),
        0 => String::new(),
        1 => "; 1 recent failure still counts".to_owned(),
        many => format!("; {many} recent failures still count"),
    };
    format!("{automatic} automatic, {requested} requested{counted}")
}

/// Why a module failed, and what follows.
fn recovery_facts(out: &mut String, module: &ModuleView, now: Timestamp) {
    let ended = module.last_exit.as_ref().map(exit_text);
    if let Some(text) = failure_text(module).filter(|text| ended.as_ref() != Some(text)) {
        line(out, "failed", &text);
    }
    if let Some(exit) = &module.last_exit {
        let ago = format::since(exit.at, now);
        let ran = exit.ran_ms.map(millis_text);
        let ran = ran.map_or_else(String::new, |ran| format!(" after {ran}"));
        let text = format!("{}{ran}, {ago} ago", exit_text(exit));
        line(out, "last exit", &text);
    }
    if let Some(strategy) = &module.proposal {
        let text = format!(
            "{strategy}; `mainstay recover {}` accepts it",
            module.module
        );
        line(out, "proposed", &text);
    }
    if let Some(at) = module.held_until {
        let (at, name) = (format::local_clock(at, now), &module.module);
        let by = module.held_by.as_deref().map(format::single_line);
        let by = by.map_or_else(String::new, |by| format!(" by {by}"));
        line(
            out,
            "held",
            &format!("until {at}{by}; `mainstay release {name}` ends that"),
        );
    }
    if let Some(at) = module.next_attempt_at {
        line(
            out,
            "next try",
            &format!(
                "{} (at {})",
                format::until(at, now),
                format::local_clock(at, now)
            ),
        );
    }
}

/// That its main process does nothing, and why.
pub(crate) fn suspended_text(module: &ModuleView) -> Option<String> {
    let signal = module.suspended_by.as_ref()?;
    Some(format!(
        "stopped by a signal ({})",
        format::single_line(signal)
    ))
}

fn line(out: &mut String, label: &str, text: &str) {
    if !text.is_empty() {
        let _ = writeln!(out, "  {label:<10} {text}");
    }
}

fn usage_text(usage: &Usage) -> String {
    let kind = usage.memory_kind;
    let mut text = format!(
        "{} of a core, {} ({kind}), processes: {}",
        format::percent(usage.cpu_percent),
        format::bytes(usage.memory_bytes),
        usage.processes
    );
    for (what, count) in [("threads", usage.threads), ("files", usage.file_handles)] {
        if let Some(count) = count {
            let _ = write!(text, ", {what}: {count}");
        }
    }
    text
}

/// Returns what a module waits for: in words, else the names.
pub(crate) fn waits_for(module: &ModuleView) -> Option<String> {
    let text = module.waits_for.as_deref();
    let text =
        text.filter(|_| matches!(module.state, ModuleState::Waiting | ModuleState::Starting));
    let text = text.map(|text| format::single_line(text).into_owned());
    let names = || format::list(&module.waiting_on);
    Some(text.unwrap_or_else(names)).filter(|text| !text.is_empty())
}

/// Returns why a module failed, in the words of `why`. An older runtime says how it exited alone.
pub(crate) fn failure_text(module: &ModuleView) -> Option<String> {
    if !matches!(module.state, ModuleState::Failed | ModuleState::Backoff) {
        return None;
    }
    reason_text(module)
}

/// Why it failed or stopped last, or at least how.
pub(crate) fn reason_text(module: &ModuleView) -> Option<String> {
    let reason = module.reason.as_deref().map(format::single_line);
    let reason = reason.map(std::borrow::Cow::into_owned);
    reason.or_else(|| module.last_exit.as_ref().map(exit_text))
}

/// That there was nothing to stop, and what the stop changes.
pub(crate) fn was_down(module: &ModuleView) -> String {
    let name = format::single_line(&module.module);
    let end = reason_text(module);
    let end = end.map_or_else(String::new, |end| format!(" ({end})"));
    format!("{name} was down already{end}; it is not started again\n")
}

pub(crate) fn exit_text(exit: &LastExit) -> String {
    format::single_line(&exit.text).into_owned()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeMap;

    /// The protocol's own example of a method.
    pub(crate) fn golden(method: &str) -> Value {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/protocol/golden");
        let text = std::fs::read_to_string(format!("{folder}/{method}.json"));
        serde_json::from_str(&text.expect("a golden file")).expect("JSON")
    }

    pub(crate) fn example() -> ModuleView {
        serde_json::from_value(golden("module.get")["reply"]["result"].clone()).expect("a view")
    }

    #[test]
    fn every_fact_has_its_line() {
        let mut module = example();
        module.throttle.rung = Rung::Cap;
        let text = render(&module, Timestamp(1_795_000_000_223), Terminal::default());
        let expected = "\
storage 1.0.0 - Keeps samples and scores
  state      backoff for 100ms, because: exit
  health     degraded, score 80 of 100
  says       compacting
  process    4711, run 4, stopped by a signal (SIGSTOP)
  uses       1.5% of a core, 8.0 MiB (pss), processes: 1, threads: 3, files: 9
  reports    queue_depth = 120
  issue      queue is long
  trend      memory_bytes grows by 10485760 an hour, reaches its limit in 9m
  kind       service, required, importance normal
  requires   event-bus
  wants      metrics
  waits for  event-bus
  without    thumbnails
  features   search on, thumbnails off
  throttled  cap (by cgroup2)
  restarts   3 automatic, 1 requested; 1 recent failure still counts
  last exit  exit code 1 after 3.2 s, 103ms ago
  proposed   restart; `mainstay recover storage` accepts it
  held       until 11:06:40 by updater (uid 1000, pid 4711); `mainstay release storage` ends that
  next try   in 300ms (at 11:06:40)
  output     512 B were lost; `mainstay status` says why
";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_says_nothing_is_left_out() {
        let mut module = example();
        (module.version, module.description) = (String::new(), String::new());
        (module.status_text, module.pid, module.usage) = (None, None, None);
        module.proposal = None;
        module.features.clear();
        (module.metrics, module.issues) = (BTreeMap::new(), Vec::new());
        module.trends = Vec::new();
        (module.requires, module.wants) = (Vec::new(), Vec::new());
        module.features.clear();
        (module.waiting_on, module.degraded) = (Vec::new(), Vec::new());
        (module.restarts, module.requested_restarts) = (0, 0);
        (module.attempts, module.output_dropped_bytes) = (0, 0);
        (module.last_exit, module.next_attempt_at, module.cause) = (None, None, None);
        module.reason = None;
        (module.held_until, module.held_by) = (None, None);
        (module.desired, module.required) = (DesiredState::Down, false);
        let text = render(&module, Timestamp(1_795_000_005_123), Terminal::default());
        let expected = "\
storage
  state      backoff for 5s, desired: down
  health     degraded, score 80 of 100
  kind       service, optional, importance normal
";
        assert_eq!(text, expected);
    }
}
