//! What the service manager is told of the system: its phase, a status line, the time it needs.
//! Owns what was reported last.
//! Never decides when a phase begins: the published snapshots do; the holder sends.

use std::convert::Infallible;
use std::time::Duration;

use mainstay_policy::MonoTime;
use mainstay_policy::states::Status;
use mainstay_protocol::view::ModuleCounts;

use crate::actors::RuntimeContext;
use crate::control::view_builder;
use crate::os::Os;
use crate::os::holder_client::HolderClient;

use crate::actors::holder_setup::STOP_MARGIN;

/// Between two messages at least.
const INTERVAL: Duration = Duration::from_millis(250);
/// How often what is not published is looked at: the plan, and reloads.
const RECHECK: Duration = Duration::from_secs(1);
/// What a start and a stop get beyond their own timeouts.
const SLACK: Duration = Duration::from_secs(10);
/// Longest status line in characters.
const STATUS_MAX: usize = 200;

/// What the system does, in the words of a service manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Running,
    Reloading,
    Stopping,
}

/// What the service manager knows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Report {
    phase: Phase,
    status: String,
    /// Reloads that a signal has requested so far.
    reloads: u64,
}

/// Reports each change until it is dropped; without a service manager it never does.
pub(super) async fn follow(ctx: &RuntimeContext, client: &HolderClient) -> Infallible {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return std::future::pending().await;
    }
    let mut published = ctx.snapshots.version();
    let mut reloads = ctx.signalled_reloads.subscribe();
    let (mut last, mut main_processes) = (None, client.main_processes());
    loop {
        if std::mem::replace(&mut main_processes, client.main_processes()) != main_processes {
            last = None;
        }
        let is_published = *published.borrow_and_update() > 0;
        reloads.mark_unchanged();
        // Until the lifecycle has published, a returning runtime looks like one that starts.
        if is_published {
            let report = Report::of(ctx);
            if last.as_ref() != Some(&report) {
                let now = client.now();
                for text in report.messages(last.as_ref(), now, time_left(ctx)) {
                    client.notify_service_manager(text);
                }
                last = Some(report);
            }
        }
        let is_told = last
            .as_ref()
            .is_some_and(|last: &Report| last.phase == Phase::Stopping);
        let pause = tokio::time::sleep(INTERVAL);
        tokio::pin!(pause);
        let mut has_changed = false;
        // A stop may be over before the pause is.
        while is_told || !ctx.snapshots.system().summary.stopping {
            tokio::select! {
                () = &mut pause => break,
                _ = published.changed() => has_changed = true,
            }
        }
        let is_stopping = ctx.snapshots.system().summary.stopping && !is_told;
        if has_changed || is_stopping {
            continue;
        }
        tokio::select! {
            _ = published.changed() => {}
            _ = reloads.changed() => {}
            () = tokio::time::sleep(RECHECK) => {}
        }
    }
}

/// How long a start, or a stop, may still take.
fn time_left(ctx: &RuntimeContext) -> Duration {
    let system = &ctx.configuration().system_spec;
    let stop = ctx.os.stop_time_left().unwrap_or(system.shutdown_timeout);
    let longest = match ctx.snapshots.system().summary.stopping {
        true => stop + STOP_MARGIN,
        false => system.startup_timeout,
    };
    longest.saturating_add(SLACK)
}

impl Report {
    fn of(ctx: &RuntimeContext) -> Report {
        let now = ctx.snapshots.system();
        let (plan, committed) = (ctx.plan().number(), ctx.committed.load().number);
        let signalled = *ctx.signalled_reloads.borrow();
        let is_reloading = plan != committed || signalled.pending > 0;
        let phase = match now.summary.status {
            Status::Starting => Phase::Starting,
            Status::Stopping => Phase::Stopping,
            Status::Healthy | Status::Degraded | Status::Critical if is_reloading => {
                Phase::Reloading
            }
            Status::Healthy | Status::Degraded | Status::Critical => Phase::Running,
        };
        let counts = view_builder::counts(ctx);
        let status = match phase {
            Phase::Starting => format!("starting: {}", running(&counts)),
            Phase::Reloading => format!("applying the configuration (plan {plan})"),
            Phase::Stopping => {
                let left = counts.running + counts.starting + counts.stopping;
                format!("stopping: {left} of {} still run", counts.total)
            }
            Phase::Running => {
                let status = now.summary.status;
                let parts = [
                    ctx.reason(&now.summary),
                    now.config_problem.clone(),
                    Some(running(&counts)),
                ];
                let parts: Vec<String> = parts.into_iter().flatten().collect();
                let word = crate::actors::convert::status(status);
                format!("{word}: {}", parts.join("; "))
            }
        };
        Report {
            phase,
            status: one_line(&status),
            reloads: signalled.total,
        }
    }

    /// What is new since the last report: messages of sd_notify(3).
    fn messages(&self, last: Option<&Report>, now: MonoTime, time_left: Duration) -> Vec<String> {
        let mut messages = Vec::new();
        let extend = format!("EXTEND_TIMEOUT_USEC={}", time_left.as_micros());
        // A manager that reloads by a signal compares this with its own clock.
        let reloading = format!("RELOADING=1\nMONOTONIC_USEC={}", now.0 / 1000);
        let is_running = |last: &Report| last.phase == Phase::Running;
        if last.is_none_or(|last| last.phase != self.phase) {
            messages.push(match self.phase {
                Phase::Starting => extend,
                Phase::Running => "READY=1".to_owned(),
                Phase::Reloading => reloading,
                Phase::Stopping => format!("STOPPING=1\n{extend}"),
            });
        } else if last.is_some_and(|last| last.reloads != self.reloads && is_running(last)) {
            // It was completed since then: the manager waits for both.
            messages.extend([reloading, "READY=1".to_owned()]);
        }
        if last.is_none_or(|last| last.status != self.status) {
            messages.push(format!("STATUS={}", self.status));
        }
        messages
    }
}

fn running(counts: &ModuleCounts) -> String {
    let total = counts.total.saturating_sub(counts.done);
    let done = match counts.done {
        0 => String::new(),
        done => format!(", {done} done"),
    };
    format!("{} of {total} modules run{done}", counts.running)
}

/// A message is one assignment a line: the text of a status has one line.
fn one_line(text: &str) -> String {
    let clean = |one: char| if one.is_control() { ' ' } else { one };
    text.chars().take(STATUS_MAX).map(clean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(phase: Phase, status: &str) -> Report {
        Report {
            phase,
            status: status.to_owned(),
            reloads: 0,
        }
    }

    #[test]
    fn messages_say_what_is_new() {
        let (now, left) = (MonoTime(5_000_000), Duration::from_secs(2));
        let starting = report(Phase::Starting, "starting");
        let running = report(Phase::Running, "healthy");
        let told = |report: &Report, last| report.messages(last, now, left);
        let first = ["EXTEND_TIMEOUT_USEC=2000000", "STATUS=starting"];
        assert_eq!(told(&starting, None), first);
        let ready = ["READY=1", "STATUS=healthy"];
        assert_eq!(told(&running, Some(&starting)), ready);
        assert!(told(&running, Some(&running)).is_empty());
        let reloading = report(Phase::Reloading, "healthy");
        let reload = "RELOADING=1\nMONOTONIC_USEC=5000";
        assert_eq!(told(&reloading, Some(&running)), [reload]);
        assert_eq!(told(&running, Some(&reloading)), ["READY=1"]);
        let signalled = Report {
            reloads: 1,
            ..running.clone()
        };
        assert_eq!(told(&signalled, Some(&running)), [reload, "READY=1"]);
        let stopping = report(Phase::Stopping, "stopping");
        let stop = ["STOPPING=1\nEXTEND_TIMEOUT_USEC=2000000", "STATUS=stopping"];
        assert_eq!(told(&stopping, Some(&running)), stop);
        // A runtime that returns reports all of it again.
        assert_eq!(told(&running, None), ready);
    }

    #[test]
    fn a_status_cannot_add_an_assignment() {
        let text = format!("well\nREADY=1{}", "x".repeat(500));
        let line = one_line(&text);
        assert!(!line.contains('\n') && line.chars().count() == STATUS_MAX);
    }
}
