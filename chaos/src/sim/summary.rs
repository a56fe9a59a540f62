//! What a history, or a campaign of many, had in it.
//! Owns the counts. Never judges them: tests ask for enough of each.

use std::ops::AddAssign;

use crate::coverage::Coverage;

/// What a history had in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Events applied, with the effects that follow, of the lifecycle and of the modules.
    pub steps: u64,
    /// Processes made.
    pub spawns: u64,
    /// Kills ordered.
    pub kills: u64,
    /// Processes that two kills did not end.
    pub stuck: u64,
    /// Times the runtime died and returned.
    pub returns: u64,
    /// Records that were in flight when it did, and were lost.
    pub lost_records: u64,
    /// Times all of it was asleep.
    pub sleeps: u64,
    /// Times everything was stopped.
    pub stops: u64,
    /// Times the plan was changed.
    pub plans: u64,
    /// Failures that concerned more than their module.
    pub shared: u64,
    /// Resets, and resets that were taken back.
    pub procedures: u64,
    /// Degraded runs that were stable.
    pub restored: u64,
    /// Cascades.
    pub cascades: u64,
    /// Virtual nanoseconds.
    pub lasted: u64,
    /// What was reached.
    pub coverage: Coverage,
    /// Of all that happened, in its order; of many histories, of all of them.
    pub fingerprint: u64,
}

impl AddAssign for Summary {
    fn add_assign(&mut self, other: Summary) {
        let counts = [
            (&mut self.steps, other.steps),
            (&mut self.spawns, other.spawns),
            (&mut self.kills, other.kills),
            (&mut self.stuck, other.stuck),
            (&mut self.returns, other.returns),
            (&mut self.lost_records, other.lost_records),
            (&mut self.sleeps, other.sleeps),
            (&mut self.stops, other.stops),
            (&mut self.plans, other.plans),
            (&mut self.shared, other.shared),
            (&mut self.procedures, other.procedures),
            (&mut self.restored, other.restored),
            (&mut self.cascades, other.cascades),
            (&mut self.lasted, other.lasted),
        ];
        for (count, more) in counts {
            *count += more;
        }
        self.coverage += other.coverage;
        self.fingerprint = self.fingerprint.rotate_left(1) ^ other.fingerprint;
    }
}
