//! `why`: the chain of events that led to a module's state, and what else the journal knows of it.
//! Owns the selection of events. Never guesses: each link is an event of the journal.

use std::collections::BTreeMap;

use mainstay_protocol::method::WhyLink;
use mainstay_protocol::{Event, EventKind, StateCause, Timestamp};

use super::Journal;
use super::describe::describe;
use super::streak::Streak;

/// Largest number of links of a chain.
const LINKS: usize = 20;
/// Newest events of the module that are considered.
pub(super) const EVENTS_SCANNED: usize = 64;
/// A wait shorter than this, in milliseconds, is not shown.
const AT_ONCE: u64 = 10;
/// Newest events that are shown beside the chain of causes.
const EXTRA_LINKS: usize = 8;

/// Newest events of the module in its whole history.
pub(super) const HISTORY_MAX: usize = 500;

/// What the journal says about a module.
#[derive(Debug, Clone, Default)]
pub struct Story {
    /// What led to its state, or its whole history; oldest first.
    pub chain: Vec<WhyLink>,
    /// The failures since it was last requested, or since recovery was reset.
    pub streak: Option<Streak>,
    /// The forensics bundle of the last run that ended: when, and its path.
    pub forensics: Option<(Timestamp, String)>,
}

/// Returns what the journal says about `module`; `full`: its whole history. Blocks for reads of the
/// journal; events that cannot be read are left out.
#[must_use]
pub fn story(journal: &Journal, module: &str, full: bool) -> Story {
    let count = if full { HISTORY_MAX } else { EVENTS_SCANNED };
    let recent = journal.last(module, count);
    story_of(&recent, full, |seq| journal.event(seq))
}

/// The same of events that were read already; `find` reads others.
pub(super) fn story_of(recent: &[Event], full: bool, find: impl Fn(u64) -> Option<Event>) -> Story {
    let is_bundle = |event: &Event| event.kind == EventKind::ForensicsWritten;
    let bundle = recent.iter().rposition(is_bundle).filter(|place| {
        let since = recent[*place..].iter();
        let ends = since.filter(|event| event.kind == EventKind::ModuleExited);
        ends.count() <= 1 // the one that it was written before
    });
    let forensics = bundle.and_then(|place| {
        let event = &recent[place];
        let path = event.payload.get("path")?.as_str()?;
        Some((event.at, path.to_owned()))
    });
    Story {
        chain: match full {
            true => recent.iter().map(link).collect(),
            false => chain(recent, find),
        },
        streak: Streak::of(recent),
        forensics,
    }
}

fn link(event: &Event) -> WhyLink {
    WhyLink {
        seq: event.seq,
        at: event.at,
        kind: event.kind,
        module: event.module.clone(),
        text: describe(event),
    }
}

/// Returns what led to the state of the module of these events, oldest first; `find` reads others.
pub(super) fn chain(recent: &[Event], find: impl Fn(u64) -> Option<Event>) -> Vec<WhyLink> {
    let mut links = BTreeMap::new();
    let newest = recent
        .iter()
        .rfind(|event| event.kind == EventKind::ModuleStateChanged);
    if let Some(newest) = newest {
        follow(newest, find, &mut links);
    }
    let begin = chain_start(recent);
    let beside = recent
        .iter()
        .filter(|event| event.seq >= begin && explains_state(event.kind));
    for event in beside.rev().take(EXTRA_LINKS) {
        links.insert(event.seq, event.clone());
    }
    while links.len() > LINKS {
        links.pop_first();
    }
    let said_again = |link: &Event| links.values().any(|later| says_again(link, later));
    let told = links.values().filter(|link| !said_again(link)).cloned();
    to_links(told.collect())
}

/// Returns whether `later` repeats `link`: the requester, or an adoption in the same state.
fn says_again(link: &Event, later: &Event) -> bool {
    let follows = later.seq > link.seq && later.module == link.module;
    let same = match link.kind {
        EventKind::OperationRequested => {
            later.cause == Some(StateCause::Requested) && later.actor == link.actor
        }
        _ => is_adoption(link) && is_adoption(later) && moved_to(link) == moved_to(later),
    };
    follows && same
}

fn is_adoption(event: &Event) -> bool {
    event.kind == EventKind::ModuleStateChanged && event.cause == Some(StateCause::Adopted)
}

/// Converts events to links, without repeating what the previous one says.
fn to_links(links: Vec<Event>) -> Vec<WhyLink> {
    let mut told: Vec<WhyLink> = Vec::with_capacity(links.len());
    let (mut before, mut moved): (Option<Event>, Option<Event>) = (None, None);
    for event in links {
        if let Some(before) = &before
            && turn_came_at_once(before, &event)
        {
            told.pop();
        }
        let repeats = moved.as_ref().filter(|moved| says_why(moved, &event));
        let repeats = repeats.and_then(moved_to);
        let text = match (event.kind, repeats) {
            (EventKind::RecoveryStarted, Some("backoff"))
            | (EventKind::RecoveryFailed, Some("failed")) => describe(&without_reason(&event)),
            _ => describe(&event),
        };
        told.push(WhyLink {
            text,
            ..link(&event)
        });
        if event.kind == EventKind::ModuleStateChanged {
            moved = Some(event.clone());
        }
        before = Some(event);
    }
    told
}

/// Returns whether `before` is a wait that `event` ended at once.
fn turn_came_at_once(before: &Event, event: &Event) -> bool {
    moved_to(before) == Some("waiting")
        && moved_to(event) == Some("starting")
        && before.module == event.module
        && before.cause == event.cause
        && event.at.0.saturating_sub(before.at.0) < AT_ONCE
        && waits_for_none(before)
}

fn waits_for_none(event: &Event) -> bool {
    let needs = event.payload.get("waiting_on");
    needs
        .and_then(|needs| needs.as_array())
        .is_none_or(Vec::is_empty)
}

fn moved_to(event: &Event) -> Option<&str> {
    (event.kind == EventKind::ModuleStateChanged)
        .then(|| event.payload.get("to")?.as_str())
        .flatten()
}

/// Returns whether the last change of state contains the reason of `event`.
fn says_why(moved: &Event, event: &Event) -> bool {
    moved.module == event.module && moved.payload.get("text").is_some()
}

/// Removes what failed and the delay: the change of state before it says both.
fn without_reason(event: &Event) -> Event {
    let mut event = event.clone();
    if let Some(payload) = event.payload.as_object_mut() {
        for said in ["failure", "delay_ms", "text", "reason"] {
            payload.remove(said);
        }
    }
    event
}

/// Follows the causes from `newest`. A cause is older than its effect, so that the walk ends.
fn follow(newest: &Event, find: impl Fn(u64) -> Option<Event>, links: &mut BTreeMap<u64, Event>) {
    let mut event = newest.clone();
    while links.len() < LINKS {
        let cause = event.cause_seq.filter(|&cause| cause < event.seq);
        links.insert(event.seq, event);
        let Some(cause) = cause.and_then(&find) else {
            return;
        };
        event = cause;
    }
}

/// Returns the event at which the module last left a state without a scheduled action.
fn chain_start(recent: &[Event]) -> u64 {
    let left = recent.iter().rfind(|event| {
        event.kind == EventKind::ModuleStateChanged
            && !is_adoption(event)
            && matches!(
                event.payload.get("from").and_then(|from| from.as_str()),
                Some("running" | "stopped" | "not_started" | "failed")
            )
    });
    let Some(left) = left else {
        return 0;
    };
    // The exit that caused it comes just before.
    left.cause_seq.map_or(left.seq, |cause| cause.min(left.seq))
}

/// Kinds that explain a state.
fn explains_state(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::ModuleAdded
            | EventKind::ModuleRemoved
            | EventKind::ModuleRenamed
            | EventKind::ModuleStateChanged
            | EventKind::ModuleReady
            | EventKind::ModuleExited
            | EventKind::ModuleFilesChanged
            | EventKind::ModuleSuspended
            | EventKind::ModuleContinued
            | EventKind::ModuleHealthChanged
            | EventKind::ModuleDegraded
            | EventKind::RecoveryStarted
            | EventKind::RecoveryCompleted
            | EventKind::RecoveryFailed
            | EventKind::GroupExceeded
            | EventKind::ForensicsWritten
            | EventKind::ChaosInjected
    )
}
