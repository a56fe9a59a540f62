//! Whether a recovery worked: the newer run of a module proves itself, or ends.
//! Owns what was seen of that run. Never starts one: a failed trial is judged like any failure.

use core::time::Duration;

use crate::mono_time::MonoTime;

/// A run that is ready has to last this long before recovery has succeeded: of one that nothing is
/// looked for, being ready says no more than that it was started.
pub const MIN_READY_TIME: Duration = Duration::from_secs(1);

/// How a trial ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValidationOutcome {
    /// The newer run is ready, has lasted, and is healthy where it is looked at.
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

/// The trial of one module, from the verdict to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveryValidation {
    /// The run that failed; a newer one proves itself or ends.
    failed: u64,
    /// The newer run once it is ready, and when it will have lasted.
    ready: Option<(u64, MonoTime)>,
    healthy: bool,
    has_probes: bool,
}

impl RecoveryValidation {
    /// After the failure of run `failed` of a module that is looked at, or not.
    #[must_use]
    pub fn new(failed: u64, has_probes: bool) -> RecoveryValidation {
        RecoveryValidation {
            failed,
            ready: None,
            healthy: false,
            has_probes,
        }
    }

    /// A run is ready. Returns when it is to be looked at again.
    pub fn ready(&mut self, now: MonoTime, generation: u64) -> Option<MonoTime> {
        if generation <= self.failed {
            return None;
        }
        let lasted = now.after(MIN_READY_TIME);
        self.ready = Some((generation, lasted));
        Some(lasted)
    }

    /// The health of a run changed.
    pub fn health_changed(&mut self, generation: u64, healthy: bool) {
        if generation > self.failed {
            self.healthy = healthy;
        }
    }

    /// Whether it has ended, and with which run.
    #[must_use]
    pub fn outcome(&self, now: MonoTime) -> Option<(u64, ValidationOutcome)> {
        let (generation, lasted) = self.ready?;
        let well = self.healthy || !self.has_probes;
        let healthy = self.healthy;
        (now >= lasted && well).then_some((generation, ValidationOutcome::Passed { healthy }))
    }

    /// A run ended.
    #[must_use]
    pub fn ended(&self, generation: u64) -> Option<ValidationOutcome> {
        let ready = self.ready.is_some();
        (generation > self.failed).then_some(ValidationOutcome::Ended { ready })
    }
}
