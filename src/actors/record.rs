//! What must survive the runtime, of one module, as a short text the holder keeps.
//! Owns its form: `key=value` words, unknown ones skipped, so that an older or newer runtime can
//! read it. Never longer than the holder takes (512 bytes).

use std::collections::HashMap;
use std::fmt::Write;

use mainstay_policy::MonoTime;
use mainstay_policy::lifecycle::ModuleRecord;
use mainstay_policy::recovery::SavedRecovery;
use mainstay_policy::states::{Desired, State};
use mainstay_protocol::Timestamp;

/// The text of a record.
pub(super) fn encode(record: &ModuleRecord, since: Timestamp) -> String {
    let ModuleRecord {
        desired,
        desired_revision,
        state,
        generation,
        ready,
        completed,
        ready_deadline,
        stop_deadlines,
        initial_start_deadline,
        retry_at,
        held_until,
        recovery: remembered,
        restarts,
        requested_restarts,
        proposal,
        degraded,
        procedure,
        on_trial,
        ending,
    } = record;
    let SavedRecovery {
        attempts,
        rung,
        rung_used,
        probations,
        half_open,
        ready_since,
    } = remembered;
    let state = super::convert::state(*state);
    let up = u8::from(*desired == Desired::Up);
    let mut text = format!(
        "up={up} intent={desired_revision} state={state} gen={generation} ready={} done={} \
         restarts={restarts} asked={requested_restarts} attempts={attempts} rung={rung} used={} \
         probations={probations} half={} since={}",
        u8::from(*ready),
        u8::from(*completed),
        u8::from(*rung_used),
        u8::from(*half_open),
        since.0,
    );
    let (stop_by, stop_limit) = stop_deadlines.unzip();
    for (key, time) in [
        ("ready_by", ready_deadline),
        ("stop_by", &stop_by),
        ("stop_limit", &stop_limit),
        ("boot_by", initial_start_deadline),
        ("retry_at", retry_at),
        ("held", held_until),
        ("ready_since", ready_since),
    ] {
        if let Some(MonoTime(at)) = time {
            let _never_fails = write!(text, " {key}={at}");
        }
    }
    if let Some(strategy) = proposal {
        let _never_fails = write!(text, " proposed={}", super::convert::strategy(*strategy));
    }
    let flags = [
        ("degraded", *degraded),
        ("reset", *procedure == Some(true)),
        ("rollback", *procedure == Some(false)),
        ("trial", *on_trial),
        ("ending", *ending),
    ];
    for (key, _) in flags.iter().filter(|(_, is_set)| *is_set) {
        let _never_fails = write!(text, " {key}=1");
    }
    text
}

/// Whether a module had a process when this was written.
pub(crate) fn was_live(text: &str) -> bool {
    decode(text).is_some_and(|record| record.generation > 0 && record.state.is_live())
}

/// Since when it was in its state, if the text says so.
pub(super) fn since(text: &str) -> Option<Timestamp> {
    let word = text
        .split(' ')
        .find_map(|word| word.strip_prefix("since="))?;
    word.parse().ok().map(Timestamp)
}

/// The record of a text; None when it is not one.
pub(super) fn decode(text: &str) -> Option<ModuleRecord> {
    let words: HashMap<&str, &str> = text
        .split(' ')
        .filter_map(|word| word.split_once('='))
        .collect();
    let number = |key: &str| words.get(key).and_then(|word| word.parse::<u64>().ok());
    let small = |key: &str| number(key).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let yes = |key: &str| number(key) == Some(1);
    let time = |key: &str| number(key).map(MonoTime);
    let state = words.get("state")?;
    let state = State::ALL
        .iter()
        .find(|s| super::convert::state(**s).as_str() == *state)?;
    Some(ModuleRecord {
        desired: if yes("up") {
            Desired::Up
        } else {
            Desired::Down
        },
        desired_revision: number("intent")?,
        state: *state,
        generation: number("gen")?,
        ready: yes("ready"),
        completed: yes("done"),
        ready_deadline: time("ready_by"),
        stop_deadlines: time("stop_by").zip(time("stop_limit")),
        initial_start_deadline: time("boot_by"),
        retry_at: time("retry_at"),
        held_until: time("held"),
        recovery: SavedRecovery {
            attempts: small("attempts"),
            rung: u8::try_from(small("rung")).unwrap_or(u8::MAX),
            rung_used: yes("used"),
            probations: small("probations"),
            half_open: yes("half"),
            ready_since: time("ready_since"),
        },
        restarts: small("restarts"),
        requested_restarts: small("asked"),
        proposal: words
            .get("proposed")
            .and_then(|word| super::convert::strategy_from(word)),
        degraded: yes("degraded"),
        procedure: match (yes("reset"), yes("rollback")) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        },
        on_trial: yes("trial"),
        ending: yes("ending"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> ModuleRecord {
        ModuleRecord {
            desired: Desired::Up,
            desired_revision: 3,
            state: State::Backoff,
            generation: u64::MAX,
            ready: true,
            completed: false,
            ready_deadline: Some(MonoTime(u64::MAX - 1)),
            stop_deadlines: Some((MonoTime(u64::MAX - 3), MonoTime(u64::MAX - 4))),
            initial_start_deadline: Some(MonoTime(u64::MAX - 2)),
            retry_at: Some(MonoTime(7)),
            held_until: Some(MonoTime(u64::MAX - 5)),
            recovery: SavedRecovery {
                attempts: u32::MAX,
                rung: 1,
                rung_used: true,
                probations: 2,
                half_open: true,
                ready_since: None,
            },
            restarts: 9,
            requested_restarts: 2,
            proposal: Some(mainstay_policy::spec::Strategy::RestartWithReset),
            degraded: true,
            procedure: Some(false),
            on_trial: true,
            ending: true,
        }
    }

    #[test]
    fn a_record_survives_its_text_and_fits_what_the_holder_keeps() {
        let text = encode(&record(), Timestamp(u64::MAX));
        assert!(
            text.len() <= crate::os::MAX_RECORD_BYTES,
            "{} bytes",
            text.len()
        );
        assert_eq!(decode(&text), Some(record()));
        assert_eq!(since(&text), Some(Timestamp(u64::MAX)));
    }

    #[test]
    fn words_of_another_version_are_skipped_and_nonsense_is_no_record() {
        let text = format!("{} colour=green", encode(&record(), Timestamp(0)));
        assert_eq!(decode(&text), Some(record()));
        assert_eq!(decode("up=1 state=flying gen=1 intent=1"), None);
        assert_eq!(decode(""), None);
    }
}
