//! The journal's events, folded, are the live state.

use std::collections::BTreeMap;

use mainstay_protocol::{ModuleState, StateCause};

use super::telling::{moved, told};
use super::*;
use crate::journal::{ReplayedModule, replay};

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(12))]

    /// What the journal tells is what a live model of the modules says, whatever happened.
    #[test]
    fn replay_of_the_journal_is_the_live_state(
        steps in proptest::collection::vec((0..4_usize, 0..ModuleState::ALL.len(), 0..6_i32), 1..300)
    ) {
        let directory = tempfile::tempdir().unwrap();
        let journal = open(directory.path());
        let mut live: BTreeMap<String, ReplayedModule> = BTreeMap::new();
        for (at, (module, to, exit)) in (1..).zip(steps) {
            let name = format!("m{module}");
            let state = live.entry(name.clone()).or_default();
            if exit == 0 {
                state.generation += 1;
            }
            // The end of the run before may be told behind the start of the next.
            let of = match exit {
                1 => Some(state.generation),
                3 => state.generation.checked_sub(1),
                _ => None,
            };
            if let Some(of) = of {
                let event = told(EventKind::ModuleExited, &name, at, json!({ "code": to }));
                journal.append(event.module(name.clone(), of));
            }
            if let Some(of) = of.filter(|of| *of >= state.ended) {
                state.ended = of;
                state.last_exit = Some(mainstay_protocol::view::LastExit {
                    code: i32::try_from(to).ok(),
                    signal: None,
                    at: Timestamp(NOW + at),
                    ran_ms: None,
                    text: format!("exit code {to}"),
                });
            }
            if exit == 2 && state.generation > 0 {
                // Other late news of an older run changes nothing.
                let late = moved(&name, at, ModuleState::Running, ModuleState::Failed, StateCause::Exit);
                journal.append(late.module(name.clone(), state.generation - 1));
                continue;
            }
            let to = ModuleState::ALL[to];
            let step = moved(&name, at, state.state, to, StateCause::Requested);
            journal.append(step.module(name.clone(), state.generation));
            state.state = to;
        }
        proptest::prop_assert!(journal.close(PATIENCE));
        let events = all(&open(directory.path()));
        proptest::prop_assert_eq!(replay(&events), live);
    }
}
