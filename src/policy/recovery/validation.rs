//! Whether a recovery worked: the newer run of a module proves itself, or ends.
//! Owns what was seen of that run. Never starts one: a failed trial is judged like any failure.

use core::time::Duration;

use crate::mono_time::MonoTime;

/// Time for which a run has to be ready before what was reset for it is dropped: of a run without
/// probes, being ready proves no more than that it was started.
pub const MIN_READY_TIME: Duration = Duration::from_secs(1);

/// How a trial ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValidationOutcome {
    /// The newer run was well for `stable_after`.
    Passed {
        /// Whether its probes found it healthy; false: it has none.
        healthy: bool,
    },
    /// The newer run ended before that.
    Ended {
        /// Whether it was ready.
        ready: bool,
    },
}

/// The trial of one module, from the verdict to try again. The newer run is well while it is ready
/// and, if it has probes, healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveryValidation {
    /// The run that failed; a newer one proves itself or ends.
    failed: u64,
    /// The newer run once it is ready, and since when.
    ready: Option<(u64, MonoTime)>,
    /// Since when the newer run is healthy.
    healthy: Option<MonoTime>,
    has_probes: bool,
    stable_after: Duration,
}

impl RecoveryValidation {
    /// After the failure of run `failed` of a module with or without probes.
    #[must_use]
    pub fn new(failed: u64, has_probes: bool, stable_after: Duration) -> RecoveryValidation {
        RecoveryValidation {
            failed,
            ready: None,
            healthy: None,
            has_probes,
            stable_after: stable_after.max(MIN_READY_TIME),
        }
    }

    /// A run is ready.
    pub fn ready(&mut self, now: MonoTime, generation: u64) {
        if generation > self.failed {
            self.ready = Some((generation, now));
        }
    }

    /// The health of a run changed.
    pub fn health_changed(&mut self, now: MonoTime, generation: u64, healthy: bool) {
        if generation > self.failed {
            self.healthy = healthy.then(|| self.healthy.unwrap_or(now));
        }
    }

    /// Whether the newer run is well, and lasted long enough to keep what was reset for it.
    #[must_use]
    pub fn keeps_reset(&self, now: MonoTime) -> bool {
        let lasted = |(_, since): (u64, MonoTime)| since.after(MIN_READY_TIME) <= now;
        self.ready.is_some_and(lasted) && self.stable_at().is_some()
    }

    /// Whether the trial has been passed, and by which run.
    #[must_use]
    pub fn outcome(&self, now: MonoTime) -> Option<(u64, ValidationOutcome)> {
        let (generation, _) = self.ready?;
        let healthy = self.has_probes;
        let passed = self.stable_at()? <= now;
        passed.then_some((generation, ValidationOutcome::Passed { healthy }))
    }

    /// When the trial is to be looked at again.
    #[must_use]
    pub fn deadline(&self, now: MonoTime) -> Option<MonoTime> {
        let (_, ready) = self.ready?;
        let stable = self.stable_at()?;
        let lasted = ready.after(MIN_READY_TIME);
        Some(if now < lasted {
            lasted.min(stable)
        } else {
            stable
        })
    }

    /// When the run will have been well for `stable_after`; none while it is not well.
    fn stable_at(&self) -> Option<MonoTime> {
        let (_, ready) = self.ready?;
        let well = match self.has_probes {
            true => ready.max(self.healthy?),
            false => ready,
        };
        Some(well.after(self.stable_after))
    }

    /// A run ended.
    #[must_use]
    pub fn ended(&self, generation: u64) -> Option<ValidationOutcome> {
        let ready = self.ready.is_some();
        (generation > self.failed).then_some(ValidationOutcome::Ended { ready })
    }
}
