//! Records in the journal what happened, and because of what.
//! Owns, per module, the number of its newest event: the cause of the next one.
//! Never waits for the journal.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use mainstay_policy::ModuleId;
use mainstay_protocol::method::EventsParams;
use mainstay_protocol::{EventKind, StateCause};
use serde_json::Value;

use super::RuntimeContext;
use super::registry::RegistryMsg;
use super::slot_store::SlotStore;
use crate::journal::{Journal, NewEvent, replay};
use crate::os::Os;

/// What led to an event.
#[derive(Debug, Clone, Copy)]
pub(crate) enum CausedBy {
    /// Unknown.
    Unknown,
    /// The newest event of the same module.
    SameModule,
    /// The newest event of another module.
    Module(ModuleId),
    /// This event.
    Event(u64),
}

/// An event to record; start with [`EventBuilder::of`] and add what is known.
#[derive(Debug)]
pub(crate) struct EventBuilder {
    kind: EventKind,
    module: Option<(ModuleId, u64)>,
    cause: Option<StateCause>,
    caused_by: CausedBy,
    requester: Option<String>,
    administrative: bool,
    payload: Value,
}

impl EventBuilder {
    /// Something that happened to the system.
    pub(crate) fn of(kind: EventKind) -> EventBuilder {
        let because = CausedBy::Unknown;
        EventBuilder {
            kind,
            module: None,
            cause: None,
            caused_by: because,
            requester: None,
            administrative: false,
            payload: Value::Null,
        }
    }

    /// It happened to this run of this module; its newest event is taken as the cause.
    pub(crate) fn module(mut self, module: ModuleId, generation: u64) -> EventBuilder {
        self.module = Some((module, generation));
        self.caused_by = CausedBy::SameModule;
        self
    }

    /// Why, in the closed word.
    pub(crate) fn cause(mut self, cause: StateCause) -> EventBuilder {
        self.cause = Some(cause);
        self
    }

    /// Which event led to it.
    pub(crate) fn caused_by(mut self, because: CausedBy) -> EventBuilder {
        self.caused_by = because;
        self
    }

    /// The requester.
    pub(crate) fn by(mut self, requester: String) -> EventBuilder {
        self.requester = Some(requester);
        self
    }

    /// An administrative action of `requester`: it goes into the hash chain.
    pub(crate) fn administrative(mut self, requester: String) -> EventBuilder {
        self.administrative = true;
        self.by(requester)
    }

    /// What the kind carries.
    pub(crate) fn payload(mut self, payload: Value) -> EventBuilder {
        self.payload = payload;
        self
    }
}

/// Records events.
pub(crate) struct EventRecorder {
    journal: Journal,
    os: Arc<dyn Os>,
    names: ArcSwap<Vec<Arc<str>>>,
    last_seq: SlotStore<AtomicU64>,
}

impl EventRecorder {
    /// A recorder for modules of these names, by slot.
    pub(crate) fn new(journal: Journal, os: Arc<dyn Os>, names: Vec<Arc<str>>) -> EventRecorder {
        EventRecorder {
            journal,
            os,
            last_seq: SlotStore::new(names.len(), |_| AtomicU64::default()),
            names: ArcSwap::from_pointee(names),
        }
    }

    /// Replaces the names of the modules, by slot; there may be more of them than before.
    pub(super) fn set_names(&self, names: Vec<Arc<str>>) {
        self.last_seq.grow(names.len(), |_| AtomicU64::default());
        self.names.store(Arc::new(names));
    }

    /// Writes it down; returns its number.
    pub(crate) fn record(&self, entry: EventBuilder) -> u64 {
        let cause_seq = match entry.caused_by {
            CausedBy::Unknown => None,
            CausedBy::SameModule => entry.module.and_then(|(module, _)| self.last_seq(module)),
            CausedBy::Module(module) => self.last_seq(module),
            CausedBy::Event(seq) => Some(seq),
        };
        let names = self.names.load();
        let name = entry.module.map(|(module, _)| &*names[module.index()]);
        let seq = self.journal.append(NewEvent {
            at: self.os.wall_clock(),
            mono_ns: self.os.now().0,
            kind: entry.kind,
            module: name.map(str::to_owned),
            generation: entry.module.map(|(_, generation)| generation),
            cause: entry.cause,
            cause_seq,
            administrative: entry.administrative,
            actor: entry.requester,
            payload: entry.payload,
        });
        let kind = entry.kind;
        tracing::debug!(seq, cause = cause_seq, module = name, "{kind}");
        // What came of a request leads to nothing.
        let leads_on = kind != EventKind::OperationFinished;
        if let Some((module, _)) = entry.module.filter(|_| leads_on) {
            self.last_seq.get(module).store(seq, Ordering::Relaxed);
        }
        seq
    }

    /// The newest event of a module, as a runtime before knew it.
    pub(crate) fn restore_newest(&self, module: ModuleId, seq: u64) {
        self.last_seq.get(module).fetch_max(seq, Ordering::Relaxed);
    }

    /// The newest event of a module, if it had one since this runtime started.
    pub(crate) fn last_seq(&self, module: ModuleId) -> Option<u64> {
        Some(self.last_seq.get(module).load(Ordering::Relaxed)).filter(|seq| *seq > 0)
    }

    /// The journal itself, for readers.
    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }
}

/// Exits that are looked through for the newest of each module.
const EXITS_SCANNED_MAX: usize = 10_000;

/// Publishes the exits that an earlier runtime recorded, after this runtime has returned.
pub(crate) fn restore_last_exits(ctx: Arc<RuntimeContext>) {
    tokio::task::spawn_blocking(move || {
        let params = EventsParams {
            kinds: vec![
                EventKind::RuntimeStarted,
                EventKind::ModuleExited,
                EventKind::ModuleRenamed,
            ],
            limit: Some(EXITS_SCANNED_MAX),
            ..EventsParams::default()
        };
        let events = ctx.recorder.journal().read(&params).unwrap_or_default();
        let exits = replay(&events).into_iter();
        let exits = exits.filter_map(|(name, told)| Some((ctx.find(&name)?, told.last_exit?)));
        let msg = RegistryMsg::ExitsRestored(exits.collect());
        ctx.actor_refs.registry.cast(msg);
    });
}
