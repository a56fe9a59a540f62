//! Derives the state of each module from its events.
//! Owns the fold over events. Never reads a live module: tests check that both agree.

use std::collections::BTreeMap;

use mainstay_process::{Exit, Signal};
use mainstay_protocol::view::LastExit;
use mainstay_protocol::{Event, EventKind, ModuleState};

use crate::os_text::exit_text;

/// A module as its events describe it.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplayedModule {
    /// Its state; `not_started` before the first change.
    pub state: ModuleState,
    /// The newest run of any event; 0 before the first.
    pub generation: u64,
    /// The newest run whose exit is recorded; 0 before the first.
    pub ended: u64,
    /// How that run ended.
    pub last_exit: Option<LastExit>,
}

impl Default for ReplayedModule {
    fn default() -> ReplayedModule {
        ReplayedModule {
            state: ModuleState::NotStarted,
            generation: 0,
            ended: 0,
            last_exit: None,
        }
    }
}

/// Folds events, oldest first, into the state of their modules. An event of an older run changes
/// nothing but the last exit, which may be recorded after the start of the next run. An initial
/// startup clears everything.
pub fn replay<'a>(events: impl IntoIterator<Item = &'a Event>) -> BTreeMap<String, ReplayedModule> {
    let mut modules: BTreeMap<String, ReplayedModule> = BTreeMap::new();
    for event in events {
        // A runtime that returned is recorded as `runtime.returned` and clears nothing.
        if event.kind == EventKind::RuntimeStarted {
            modules.clear();
        }
        let Some(name) = &event.module else {
            continue;
        };
        if event.kind == EventKind::ModuleRenamed {
            let from = event.payload.get("from").and_then(|from| from.as_str());
            if let Some(module) = from.and_then(|from| modules.remove(from)) {
                modules.insert(name.clone(), module);
            }
        }
        let module = modules.entry(name.clone()).or_default();
        let generation = event.generation.unwrap_or(module.generation);
        if event.kind == EventKind::ModuleExited && generation >= module.ended {
            module.ended = generation;
            module.last_exit = Some(exit(event));
        }
        if generation >= module.generation {
            module.generation = generation;
            apply(module, event);
        }
    }
    modules
}

fn apply(module: &mut ReplayedModule, event: &Event) {
    if event.kind == EventKind::ModuleStateChanged {
        let to = event.payload.get("to").and_then(|to| to.as_str());
        if let Some(state) = to.and_then(|to| to.parse().ok()) {
            module.state = state;
        }
    }
}

fn exit(event: &Event) -> LastExit {
    let number = |name: &str| {
        let number = event.payload.get(name)?.as_i64()?;
        i32::try_from(number).ok()
    };
    let (code, signal) = (number("code"), number("signal"));
    let exit = match (code, signal.map(Signal)) {
        (_, Some(signal)) => Exit::Signal {
            signal,
            core: event.payload["core_dumped"] == true,
        },
        (Some(code), None) => Exit::Code(code),
        (None, None) => Exit::Unknown,
    };
    let text = event.payload["text"].as_str().map(str::to_owned);
    LastExit {
        code,
        signal,
        at: event.at,
        ran_ms: event.payload.get("ran_ms").and_then(|ran| ran.as_u64()),
        text: text.unwrap_or_else(|| exit_text(exit)),
    }
}
