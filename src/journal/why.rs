//! Why a module is where it is: the chain of events that led there, and what comes next.
//! Owns which events belong to the story. Never guesses: every link is an event in the journal.

use std::collections::BTreeMap;

use mainstay_policy::recovery::EXIT_CONFIGURATION;
use mainstay_protocol::method::{Why, WhyLink, WhyNext};
use mainstay_protocol::{Cause, Event, EventKind, ModuleView, State, Timestamp, Wanted};

use super::Journal;
use super::describe::{describe, enumerate, span};

/// Most links of a chain.
const LINKS: usize = 20;
/// Events of the module that are looked at for its story.
pub(super) const RECENT: usize = 64;
/// A turn that came within this many milliseconds was not waited for.
const AT_ONCE: u64 = 10;
/// Newest events of the story that are shown beside the chain of causes.
const BESIDE: usize = 8;

/// Why `module` is in its state, oldest link first, and what happens next, seen at `now`. Blocks
/// for a few reads of the journal; what cannot be read is left out.
#[must_use]
pub fn why(journal: &Journal, module: &ModuleView, now: Timestamp) -> Why {
    Why {
        module: module.module.clone(),
        state: module.state,
        chain: chain(&journal.last(&module.module, RECENT), |seq| {
            journal.event(seq)
        }),
        next: next(module, now),
    }
}

/// What led to where the module of these events stands, oldest first; `find` knows the others.
pub(super) fn chain(recent: &[Event], find: impl Fn(u64) -> Option<Event>) -> Vec<WhyLink> {
    let mut links = BTreeMap::new();
    let newest = recent
        .iter()
        .rfind(|event| event.kind == EventKind::ModuleStateChanged);
    if let Some(newest) = newest {
        follow(newest, find, &mut links);
    }
    let begin = story_begin(recent);
    let beside = recent
        .iter()
        .filter(|event| event.seq >= begin && tells(event.kind));
    for event in beside.rev().take(BESIDE) {
        links.insert(event.seq, event.clone());
    }
    while links.len() > LINKS {
        links.pop_first();
    }
    let said_again = |link: &Event| links.values().any(|later| says_again(link, later));
    let told = links.values().filter(|link| !said_again(link)).cloned();
    tell(told.collect())
}

/// Whether `later` says what `link` says: who requested it, or that a runtime found it so.
fn says_again(link: &Event, later: &Event) -> bool {
    let follows = later.seq > link.seq && later.module == link.module;
    let same = match link.kind {
        EventKind::OperationRequested => {
            later.cause == Some(Cause::Requested) && later.actor == link.actor
        }
        _ => is_adoption(link) && is_adoption(later) && moved_to(link) == moved_to(later),
    };
    follows && same
}

fn is_adoption(event: &Event) -> bool {
    event.kind == EventKind::ModuleStateChanged && event.cause == Some(Cause::Adopted)
}

/// The links as sentences, without what the one before has just said.
fn tell(links: Vec<Event>) -> Vec<WhyLink> {
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
            seq: event.seq,
            at: event.at,
            kind: event.kind,
            module: event.module.clone(),
            text,
        });
        if event.kind == EventKind::ModuleStateChanged {
            moved = Some(event.clone());
        }
        before = Some(event);
    }
    told
}

/// Whether `before` says that a module waits for its turn, and `event` that it did not have to.
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

/// Whether the last change of state said already what `event` is about to say.
fn says_why(moved: &Event, event: &Event) -> bool {
    moved.module == event.module && moved.payload.get("text").is_some()
}

/// What failed and when it goes on: the change of state before says both.
fn without_reason(event: &Event) -> Event {
    let mut event = event.clone();
    if let Some(payload) = event.payload.as_object_mut() {
        for said in ["failure", "delay_ms", "text", "reason"] {
            payload.remove(said);
        }
    }
    event
}

/// Walks from `newest` to what led to it. A cause is always older, so the walk ends.
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

/// The story begins where the module last left a state in which nothing was about to happen.
fn story_begin(recent: &[Event]) -> u64 {
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
    // The exit that made it leave comes just before.
    left.cause_seq.map_or(left.seq, |cause| cause.min(left.seq))
}

/// Kinds that explain a state.
fn tells(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::ModuleStateChanged
            | EventKind::ModuleReady
            | EventKind::ModuleExited
            | EventKind::ModuleHealthChanged
            | EventKind::ModuleDegraded
            | EventKind::RecoveryStarted
            | EventKind::RecoveryCompleted
            | EventKind::RecoveryFailed
            | EventKind::GroupExceeded
    )
}

/// Whether it said by its exit code that its configuration is wrong.
fn is_configuration(module: &ModuleView) -> bool {
    let exit = module.last_exit.as_ref();
    exit.is_some_and(|exit| exit.code == Some(EXIT_CONFIGURATION))
}

fn next(module: &ModuleView, now: Timestamp) -> Option<WhyNext> {
    let name = &module.module;
    let at = module.next_attempt_at;
    let when = at.map_or_else(String::new, |at| match at.0.saturating_sub(now.0) {
        0 => " now".to_owned(),
        ms => format!(" in {}", span(ms)),
    });
    let say = |text: String| Some(WhyNext { text, at });
    match module.state {
        State::Backoff => say(format!("{name} starts again{when}")),
        State::Failed if at.is_some() => say(format!(
            "{name} gets one more try{when}; start it now with `mainstay start {name}`"
        )),
        State::Failed if is_configuration(module) => say(format!(
            "nothing by itself; correct the configuration of {name} and start it with \
             `mainstay start {name}`"
        )),
        State::Failed => say(format!(
            "nothing by itself; start it with `mainstay start {name}`"
        )),
        State::Waiting => say(match enumerate(&module.waiting_on) {
            Some(needs) => {
                let are = if module.waiting_on.len() > 1 {
                    "are"
                } else {
                    "is"
                };
                format!("{name} starts when {needs} {are} ready")
            }
            None => format!("{name} starts when it is its turn{when}"),
        }),
        State::Starting => say(format!("{name} runs once it is ready")),
        State::Stopping if module.wanted == Wanted::Up => {
            say(format!("{name} starts again once it has stopped"))
        }
        State::Stopping => say(format!("{name} stays stopped once its process has ended")),
        State::Stopped | State::NotStarted if module.wanted == Wanted::Down => say(format!(
            "nothing by itself; start it with `mainstay start {name}`"
        )),
        // A task that is done, or a module that does what it should.
        State::Stopped | State::NotStarted | State::Running | State::Other(_) => None,
    }
}
