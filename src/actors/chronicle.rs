//! Tells the journal what happened, and because of what.
//! Owns, per module, the number of its newest event: the cause of the next one.
//! Never waits for the journal.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mainstay_policy::ModuleId;
use mainstay_protocol::method::EventsParams;
use mainstay_protocol::{Cause, EventKind};
use serde_json::Value;

use super::House;
use super::registry::RegistryMsg;
use crate::journal::{Draft, Journal, replay};
use crate::os::Os;

/// What led to an event.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Because {
    /// Nothing we know of.
    Nothing,
    /// The newest event of the same module.
    Itself,
    /// The newest event of another module.
    Module(ModuleId),
    /// This event.
    Event(u64),
}

/// One thing to tell; start with [`Entry::of`] and add what is known.
#[derive(Debug)]
pub(crate) struct Entry {
    kind: EventKind,
    module: Option<(ModuleId, u64)>,
    cause: Option<Cause>,
    because: Because,
    actor: Option<String>,
    administrative: bool,
    payload: Value,
}

impl Entry {
    /// Something that happened to the system.
    pub(crate) fn of(kind: EventKind) -> Entry {
        let because = Because::Nothing;
        Entry {
            kind,
            module: None,
            cause: None,
            because,
            actor: None,
            administrative: false,
            payload: Value::Null,
        }
    }

    /// It happened to this run of this module; its newest event is taken as the cause.
    pub(crate) fn module(mut self, module: ModuleId, generation: u64) -> Entry {
        self.module = Some((module, generation));
        self.because = Because::Itself;
        self
    }

    /// Why, in the closed word.
    pub(crate) fn cause(mut self, cause: Cause) -> Entry {
        self.cause = Some(cause);
        self
    }

    /// Which event led to it.
    pub(crate) fn because(mut self, because: Because) -> Entry {
        self.because = because;
        self
    }

    /// Who asked.
    pub(crate) fn by(mut self, actor: String) -> Entry {
        self.actor = Some(actor);
        self
    }

    /// An administrative action of `actor`: it goes into the hash chain.
    pub(crate) fn administrative(mut self, actor: String) -> Entry {
        self.administrative = true;
        self.by(actor)
    }

    /// What the kind carries.
    pub(crate) fn payload(mut self, payload: Value) -> Entry {
        self.payload = payload;
        self
    }
}

/// The pen.
pub(crate) struct Chronicle {
    journal: Journal,
    os: Arc<dyn Os>,
    names: Vec<Arc<str>>,
    newest: Vec<AtomicU64>,
}

impl Chronicle {
    /// A pen for these modules, in plan order.
    pub(crate) fn new(journal: Journal, os: Arc<dyn Os>, names: Vec<Arc<str>>) -> Chronicle {
        let newest = names.iter().map(|_| AtomicU64::new(0)).collect();
        Chronicle {
            journal,
            os,
            names,
            newest,
        }
    }

    /// Writes it down; returns its number.
    pub(crate) fn tell(&self, entry: Entry) -> u64 {
        let cause_seq = match entry.because {
            Because::Nothing => None,
            Because::Itself => entry.module.and_then(|(module, _)| self.newest(module)),
            Because::Module(module) => self.newest(module),
            Because::Event(seq) => Some(seq),
        };
        let seq = self.journal.append(Draft {
            at: self.os.wall_clock(),
            mono_ns: self.os.now().0,
            kind: entry.kind,
            module: entry
                .module
                .map(|(module, _)| self.names[module.index()].to_string()),
            generation: entry.module.map(|(_, generation)| generation),
            cause: entry.cause,
            cause_seq,
            administrative: entry.administrative,
            actor: entry.actor,
            payload: entry.payload,
        });
        let kind = entry.kind;
        let module = entry.module.map(|(module, _)| &*self.names[module.index()]);
        tracing::debug!(seq, cause = cause_seq, module, "{kind}");
        // What came of a request leads to nothing.
        let leads_on = kind != EventKind::OperationFinished;
        if let Some((module, _)) = entry.module.filter(|_| leads_on) {
            self.newest[module.index()].store(seq, Ordering::Relaxed);
        }
        seq
    }

    /// The newest event of a module, as a runtime before knew it.
    pub(crate) fn restore_newest(&self, module: ModuleId, seq: u64) {
        self.newest[module.index()].fetch_max(seq, Ordering::Relaxed);
    }

    /// The newest event of a module, if it had one since this runtime started.
    pub(crate) fn newest(&self, module: ModuleId) -> Option<u64> {
        Some(self.newest[module.index()].load(Ordering::Relaxed)).filter(|seq| *seq > 0)
    }

    /// The journal itself, for readers.
    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }
}

/// Exits that are looked through for the newest of each module.
const RECALLED: usize = 10_000;

/// A runtime that returned tells its readers how runs ended before its time.
pub(crate) fn recall(house: Arc<House>) {
    tokio::task::spawn_blocking(move || {
        let params = EventsParams {
            kinds: vec![EventKind::RuntimeStarted, EventKind::ModuleExited],
            limit: Some(RECALLED),
            ..EventsParams::default()
        };
        let events = house.chronicle.journal().read(&params).unwrap_or_default();
        let exits = replay(&events).into_iter();
        let exits = exits.filter_map(|(name, told)| Some((house.find(&name)?, told.last_exit?)));
        let msg = RegistryMsg::Recalled(exits.collect());
        house.switchboard.registry.cast(msg);
    });
}
