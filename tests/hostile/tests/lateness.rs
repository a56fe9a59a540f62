//! How long a restart and a status took, before an attack and during it.
//! Owns what was measured and the one comparison of both.
//! Never takes a machine that is busy for a mainstay that is late: what the test itself needs to
//! start a process is measured at the same moments, and allowed for.

use std::fmt;
use std::time::Duration;

/// Nobody else may be late by more than this, usually.
const LATE_MAX: Duration = Duration::from_millis(100);
/// And by this never: on a busy machine a single measurement may wait for its turn.
const ONCE_LATE_MAX: Duration = Duration::from_millis(1500);

/// A restart goes through the holder, the runtime and the holder again, a status through the
/// runtime and back: each may wait for its turn as often as a process that the test starts.
const TURNS: u32 = 4;

/// What was measured in one phase.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// From the kill of a module to the first instruction of its next run.
    restarts: Vec<Duration>,
    /// From the question to the answer, connecting included.
    statuses: Vec<Duration>,
    /// What the test itself needed to start a process and to have it end: the longest during each
    /// restart.
    starts: Vec<Duration>,
    /// What of each restart and of each status is not explained by the start of that moment.
    late_restarts: Vec<Duration>,
    late_statuses: Vec<Duration>,
}

fn sorted(all: &[Duration]) -> Vec<Duration> {
    let mut all = all.to_vec();
    all.sort();
    assert!(!all.is_empty(), "nothing was measured");
    all
}

fn median(all: &[Duration]) -> Duration {
    let all = sorted(all);
    all[all.len() / 2]
}

fn worst(all: &[Duration]) -> Duration {
    *sorted(all).last().expect("not empty")
}

impl Measured {
    /// Adds a restart, the statuses asked for meanwhile, and the slowest start of that time.
    pub(crate) fn push(&mut self, restart: Duration, statuses: [Duration; 2], start: Duration) {
        let beyond = |all: Duration| all.saturating_sub(start * TURNS);
        self.late_restarts.push(beyond(restart));
        self.late_statuses.extend(statuses.map(beyond));
        self.restarts.push(restart);
        self.statuses.extend(statuses);
        self.starts.push(start);
    }

    /// How many restarts were measured.
    pub(crate) fn count(&self) -> usize {
        self.restarts.len()
    }

    /// What was measured during an attack that is later than before by too much, in words.
    pub(crate) fn later_than(&self, before: &Measured) -> Option<String> {
        let all = [
            ("restart", &self.late_restarts, &before.restarts),
            ("status", &self.late_statuses, &before.statuses),
        ];
        all.into_iter().find_map(|(what, late, earlier)| {
            let by = |of: fn(&[Duration]) -> Duration| of(late).saturating_sub(of(earlier));
            let is_late = by(median) > LATE_MAX || by(worst) > ONCE_LATE_MAX;
            is_late.then(|| format!("{what} is late: {self}"))
        })
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            ("restart", &self.restarts),
            ("status", &self.statuses),
            ("start by the test", &self.starts),
        ];
        for (what, all) in all {
            let all = sorted(all);
            let at = |percent| all[(all.len() - 1) * percent / 100];
            let (median, most, worst) = (at(50), at(99), at(100));
            write!(
                f,
                "{what} {median:.1?} (99 %: {most:.1?}, worst {worst:.1?}) "
            )?;
        }
        Ok(())
    }
}
