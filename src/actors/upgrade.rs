//! An upgrade of the runtime, as the runtimes before and after it see it.
//! Owns the note that the holder carries from one to the next, and the event of the result.
//! Never replaces anything: the holder does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainstay_process::Instance;
use mainstay_protocol::view::{UpgradeOutcome, UpgradeView};
use mainstay_protocol::{EventKind, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::RuntimeContext;
use super::event_recorder::EventBuilder;
use crate::os::{CHANNEL_VERSION, UpgradeReport, UpgradeState, machine};
use crate::{journal, plan_store};

/// Under which name the holder keeps the number of the last upgrade whose result was recorded; no
/// module has a dot in its name.
const RECORD: &str = "mainstay.upgrade";
/// The same for the program of the holder that was recorded last: its version and file.
const HOLDER_RECORD: &str = "mainstay.holder";
/// How long the result may take to be committed.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// The versions of what a program shares with others: the holder and the state directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProgramVersions {
    /// Its own.
    pub(crate) version: String,
    /// Of the channel to the holder.
    pub(crate) channel: u32,
    /// Of the schema of the journal.
    pub(crate) journal: u32,
    /// Of the other files of the state directory.
    pub(crate) state: u32,
}

impl ProgramVersions {
    /// Those of this program.
    pub(crate) fn own() -> ProgramVersions {
        ProgramVersions {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            channel: CHANNEL_VERSION,
            journal: journal::schema_version(),
            state: plan_store::SCHEMA_VERSION,
        }
    }

    /// Why a program of this version cannot take the place of one of the version `running`.
    pub(crate) fn problem(&self, running: &ProgramVersions) -> Option<String> {
        if self.channel != running.channel {
            return Some(format!(
                "it speaks version {} of the holder channel and the running holder version {}; \
                 run `mainstay down`, then start mainstay again with that program",
                self.channel, running.channel
            ));
        }
        let older = [
            ("the journal", self.journal, running.journal),
            ("the state directory", self.state, running.state),
        ];
        let older = older.into_iter().find(|(_, new, old)| new < old);
        older.map(|(what, new, old)| {
            format!(
                "it is version {} with schema {new} of {what}, and schema {old} is in use; name a \
                 program that is not older",
                self.version
            )
        })
    }
}

/// What the holder keeps of an upgrade for the runtimes after it, without reading it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct UpgradeNote {
    pub(crate) program: String,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) requester: String,
    pub(crate) requested_at: Timestamp,
}

/// The program of the holder.
#[derive(Debug, Default)]
struct HolderProgram {
    /// Empty: it is not known.
    version: String,
    /// Why it is not that of this runtime.
    problem: Option<String>,
}

/// The last upgrade that the holder knows of, and its own.
#[derive(Debug, Default)]
pub(crate) struct LastUpgrade {
    report: Option<(UpgradeReport, UpgradeNote)>,
    holder: Mutex<HolderProgram>,
    /// This runtime is ready: an upgrade to it is done.
    ready: AtomicBool,
}

impl From<Option<UpgradeReport>> for LastUpgrade {
    fn from(report: Option<UpgradeReport>) -> LastUpgrade {
        let report = report.map(|report| {
            let note = serde_json::from_str(&report.note).unwrap_or_default();
            (report, note)
        });
        LastUpgrade {
            report,
            ..LastUpgrade::default()
        }
    }
}

impl LastUpgrade {
    /// The version of the holder's program, if it is known.
    pub(crate) fn holder_version(&self) -> Option<String> {
        let version = lock(&self.holder).version.clone();
        (!version.is_empty()).then_some(version)
    }

    /// What a person should know of the holder's program.
    pub(crate) fn holder_issue(&self, pid: u32) -> Option<String> {
        let holder = lock(&self.holder);
        let problem = holder.problem.as_ref()?;
        let version = match &*holder.version {
            "" => String::new(),
            version => format!(" of version {version}"),
        };
        Some(format!(
            "the holder (pid {pid}) keeps its program{version}: {problem}; the next `mainstay up` \
             starts it with the new one"
        ))
    }

    /// As clients see it.
    pub(crate) fn view(&self) -> Option<UpgradeView> {
        let (report, note) = self.report.as_ref()?;
        let (outcome, problem) = match &report.state {
            UpgradeState::Pending if !self.ready.load(Ordering::Relaxed) => {
                (UpgradeOutcome::Pending, None)
            }
            UpgradeState::RolledBack { problem } => {
                (UpgradeOutcome::RolledBack, Some(problem.clone()))
            }
            UpgradeState::Pending | UpgradeState::Done | UpgradeState::Other => {
                (UpgradeOutcome::Done, None)
            }
        };
        Some(UpgradeView {
            number: report.number,
            outcome,
            problem,
            program: note.program.clone(),
            from: note.from.clone(),
            to: note.to.clone(),
            requested_at: note.requested_at,
        })
    }
}

/// Records the result of the last upgrade; again only if this runtime dies before the holder knows
/// that it is committed. The holder knows that this runtime is ready.
pub(crate) fn on_ready(ctx: &Arc<RuntimeContext>) {
    note_holder_program(ctx);
    let last = &ctx.upgrade;
    last.ready.store(true, Ordering::Relaxed);
    let Some((view, (_, note))) = last.view().zip(last.report.as_ref()) else {
        return;
    };
    let (record, number) = (Instance::new(RECORD, 1), view.number.to_string());
    if ctx.os.saved_record(&record).as_ref() == Some(&number) {
        return;
    }
    let kind = match view.problem {
        None => EventKind::RuntimeUpgraded,
        Some(_) => EventKind::RuntimeUpgradeFailed,
    };
    let mut payload = json!({
        "number": view.number, "program": view.program, "from": view.from, "to": view.to,
    });
    if let Some(problem) = view.problem {
        payload["reason"] = problem.into();
    }
    let event = EventBuilder::of(kind).payload(payload);
    ctx.recorder
        .record(event.administrative(note.requester.clone()));
    save_when_written(ctx, record, number);
}

/// Keeps a record once all that was recorded so far is in the journal.
fn save_when_written(ctx: &Arc<RuntimeContext>, record: Instance, text: String) {
    let ctx = Arc::clone(ctx);
    tokio::task::spawn_blocking(move || {
        if ctx.recorder.journal().flush(FLUSH_TIMEOUT) {
            ctx.os.save_record(&record, text);
        }
    });
}

/// Records that the holder executes another program than a runtime has recorded last: the one that
/// requested it may have died before the answer.
fn note_holder_program(ctx: &Arc<RuntimeContext>) {
    let Some(file) = machine::program_identity(ctx.holder.get()) else {
        return;
    };
    let is_own = machine::program_identity(std::process::id()) == Some(file);
    let file = format!("{}:{}", file.0, file.1);
    let record = Instance::new(HOLDER_RECORD, 1);
    let saved = ctx.os.saved_record(&record);
    let before = saved.as_deref().and_then(|text| text.split_once(' '));
    let version = match before {
        _ if is_own => env!("CARGO_PKG_VERSION"),
        Some((version, known)) if known == file => version,
        _ => return,
    };
    version.clone_into(&mut lock(&ctx.upgrade.holder).version);
    let text = format!("{version} {file}");
    if saved.as_ref() == Some(&text) {
        return;
    }
    if let Some((from, _)) = before {
        let payload = json!({ "from": from, "to": version });
        let event = EventBuilder::of(EventKind::HolderUpgraded);
        ctx.recorder.record(event.payload(payload));
    }
    save_when_written(ctx, record, text);
}

/// The holder executes the program of this runtime, or keeps its own; `is_last`: as long as this
/// runtime lives.
pub(crate) fn on_holder_executed(
    ctx: &Arc<RuntimeContext>,
    problem: Option<String>,
    is_last: bool,
) {
    lock(&ctx.upgrade.holder).problem.clone_from(&problem);
    let Some(problem) = problem else {
        return note_holder_program(ctx);
    };
    if is_last {
        let (from, to) = (ctx.upgrade.holder_version(), env!("CARGO_PKG_VERSION"));
        let payload = json!({ "from": from, "to": to, "reason": problem });
        let event = EventBuilder::of(EventKind::HolderUpgradeFailed);
        ctx.recorder.record(event.payload(payload));
    }
}

fn lock(holder: &Mutex<HolderProgram>) -> MutexGuard<'_, HolderProgram> {
    holder.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_another_channel_or_an_older_schema_is_refused() {
        let running = ProgramVersions::own();
        assert_eq!(running.problem(&running), None);
        let newer = ProgramVersions {
            version: "9.0.0".to_owned(),
            journal: running.journal + 1,
            state: running.state + 1,
            ..running.clone()
        };
        assert_eq!(newer.problem(&running), None);
        let refused = running.problem(&newer).expect("it is older");
        assert!(refused.contains("of the journal"), "{refused}");
        let older_state = ProgramVersions {
            journal: newer.journal,
            ..running.clone()
        };
        let refused = older_state.problem(&newer).expect("it is older");
        assert!(refused.contains("of the state directory"), "{refused}");
        let channel = ProgramVersions {
            channel: running.channel + 1,
            ..newer
        };
        let refused = channel.problem(&running).expect("another channel");
        assert!(refused.contains("holder channel"), "{refused}");
    }

    #[test]
    fn a_report_without_a_note_is_shown_all_the_same() {
        for (state, outcome) in [
            (UpgradeState::Pending, UpgradeOutcome::Pending),
            (UpgradeState::Done, UpgradeOutcome::Done),
            (UpgradeState::Other, UpgradeOutcome::Done),
        ] {
            let note = "of a later version".to_owned();
            let report = UpgradeReport {
                number: 2,
                state,
                note,
            };
            let view = LastUpgrade::from(Some(report)).view().expect("a report");
            assert_eq!((view.number, view.outcome), (2, outcome));
        }
        assert_eq!(LastUpgrade::default().view(), None);
    }
}
