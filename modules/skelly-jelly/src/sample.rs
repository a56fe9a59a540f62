//! One look at the machine, and whether somebody seems to be at work.
//! Owns the shape of a sample and the switching between active and idle.
//! Never measures: that is the program's part.

use serde::{Deserialize, Serialize};

/// The machine at one moment; payload of `samples.machine`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Percent of the whole machine.
    pub cpu_percent: f64,
    /// Percent of the memory in use.
    pub memory_percent: f64,
    /// Load average over one minute.
    pub load: f64,
    /// How many processes there are.
    pub processes: u32,
    /// Whether the machine seems to be in use.
    pub active: bool,
}

/// Between active and idle lies a gap, so that a machine at the edge does not flicker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Activity {
    active_above: f64,
    idle_below: f64,
    active: bool,
}

impl Activity {
    /// Active above the one, idle below the other, in percent of CPU; in between as before.
    #[must_use]
    pub fn new(active_above: f64, idle_below: f64) -> Activity {
        Activity {
            active_above,
            idle_below: idle_below.min(active_above),
            active: false,
        }
    }

    /// What the newest CPU figure makes of it.
    pub fn judge(&mut self, cpu_percent: f64) -> bool {
        if cpu_percent >= self.active_above {
            self.active = true;
        } else if cpu_percent < self.idle_below {
            self.active = false;
        }
        self.active
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activity_does_not_flicker_between_its_bounds() {
        let mut activity = Activity::new(10.0, 5.0);
        let judged: Vec<bool> = [7.0, 12.0, 7.0, 9.9, 4.9, 7.0, 10.0]
            .map(|cpu| activity.judge(cpu))
            .into();
        assert_eq!(judged, [false, true, true, true, false, false, true]);
    }
}
