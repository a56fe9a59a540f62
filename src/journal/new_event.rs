//! An event before and after it has a sequence number.
//! Owns the types of a new event and of a numbered entry.
//! Never assigns a number and never reads a clock: the caller passes both times.

use mainstay_protocol::{Event, EventKind, StateCause, Timestamp};
use serde_json::Value;

/// An event that has no number yet.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// When it happened, on the wall clock.
    pub at: Timestamp,
    /// When it happened, in nanoseconds of the monotonic clock of this boot.
    pub mono_ns: u64,
    /// What happened.
    pub kind: EventKind,
    /// The module it happened to.
    pub module: Option<String>,
    /// The run of that module.
    pub generation: Option<u64>,
    /// The cause, for events that have one.
    pub cause: Option<StateCause>,
    /// The sequence number of the event that led to this one.
    pub cause_seq: Option<u64>,
    /// The requester of an operation or an administrative action.
    pub actor: Option<String>,
    /// Whether it is a link of the hash chain of administrative actions.
    pub administrative: bool,
    /// The payload that the kind describes.
    pub payload: Value,
}

impl NewEvent {
    /// Returns an event without module, cause and payload.
    #[must_use]
    pub const fn new(kind: EventKind, at: Timestamp, mono_ns: u64) -> NewEvent {
        NewEvent {
            at,
            mono_ns,
            kind,
            module: None,
            generation: None,
            cause: None,
            cause_seq: None,
            actor: None,
            administrative: false,
            payload: Value::Null,
        }
    }

    /// Sets the module and its run.
    #[must_use]
    pub fn module(mut self, module: impl Into<String>, generation: u64) -> NewEvent {
        self.module = Some(module.into());
        self.generation = Some(generation);
        self
    }

    /// Sets the cause.
    #[must_use]
    pub fn cause(mut self, cause: StateCause) -> NewEvent {
        self.cause = Some(cause);
        self
    }

    /// Sets the sequence number of the event that led to it.
    #[must_use]
    pub fn caused_by(mut self, seq: u64) -> NewEvent {
        self.cause_seq = Some(seq);
        self
    }

    /// Sets the requester.
    #[must_use]
    pub fn by(mut self, actor: impl Into<String>) -> NewEvent {
        self.actor = Some(actor.into());
        self
    }

    /// Makes it an administrative action of `actor`, and so a link of the hash chain.
    #[must_use]
    pub fn administrative(mut self, actor: impl Into<String>) -> NewEvent {
        self.administrative = true;
        self.by(actor)
    }

    /// Sets the payload.
    #[must_use]
    pub fn payload(mut self, payload: Value) -> NewEvent {
        self.payload = payload;
        self
    }
}

/// A numbered event, with the fields that clients do not see.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) event: Event,
    pub(super) mono_ns: u64,
    pub(super) administrative: bool,
}

impl Entry {
    pub(super) fn new(seq: u64, draft: NewEvent) -> Entry {
        Entry {
            event: Event {
                seq,
                at: draft.at,
                kind: draft.kind,
                module: draft.module,
                generation: draft.generation,
                cause: draft.cause,
                cause_seq: draft.cause_seq,
                actor: draft.actor,
                payload: draft.payload,
            },
            mono_ns: draft.mono_ns,
            administrative: draft.administrative,
        }
    }
}
