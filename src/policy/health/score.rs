//! The score of a module: 100, less a number of points for each thing that is wrong.
//! Owns the formula. Never reads anything: what is known is an argument.

use alloc::vec::Vec;

use crate::resources::Rung;
use crate::states::Health;

/// What a score is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ScoreInput {
    /// It failed, and no restart is scheduled.
    pub failed: bool,
    /// By probes and its own report.
    pub health: Health,
    /// Failures that are not restored yet.
    pub attempts: u32,
    /// Its rung of the throttle ladder.
    pub rung: Rung,
    /// The share of its work that fails, as it reports, 0 to 1.
    pub error_rate: Option<f64>,
    /// A metric grows towards its limit.
    pub grows: bool,
}

/// Points lost, and for what.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deduction {
    /// How many.
    pub points: u8,
    /// For what.
    pub reason: DeductionReason,
}

/// For what points are lost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DeductionReason {
    /// It failed.
    Failed,
    /// It is degraded or unhealthy.
    Health(Health),
    /// Restarts after failures.
    Restarts(u32),
    /// It is throttled.
    Throttled(Rung),
    /// Errors that it reports, a share.
    Errors(f64),
    /// A metric grows towards its limit.
    Growth,
}

/// Every deduction; the score is what they leave of 100.
#[must_use]
pub fn deductions(input: &ScoreInput) -> Vec<Deduction> {
    use DeductionReason::{Errors, Failed, Growth, Restarts, Throttled};
    let of_health = match input.health {
        Health::Unknown | Health::Healthy => 0,
        Health::Degraded => 40,
        Health::Unhealthy => 70,
    };
    let of_rung = match input.rung {
        Rung::None => 0,
        Rung::Notice => 5,
        Rung::Priority => 10,
        Rung::Cap => 15,
        Rung::Restart | Rung::Stop => 20,
    };
    let errors = input.error_rate.unwrap_or(0.0).clamp(0.0, 1.0);
    let restarts = u8::try_from(input.attempts.min(3)).unwrap_or(3) * 10;
    let all = [
        (if input.failed { 100 } else { 0 }, Failed),
        (of_health, DeductionReason::Health(input.health)),
        (restarts, Restarts(input.attempts)),
        (of_rung, Throttled(input.rung)),
        ((errors * 30.0 + 0.5) as u8, Errors(errors)),
        (if input.grows { 10 } else { 0 }, Growth),
    ];
    all.into_iter()
        .filter(|(points, _)| *points > 0)
        .map(|(points, reason)| Deduction { points, reason })
        .collect()
}

/// The score, 0 to 100.
#[must_use]
pub fn score(input: &ScoreInput) -> u8 {
    let lost = deductions(input).into_iter().map(|one| one.points);
    lost.fold(100, u8::saturating_sub)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_is_a_hundred_less_what_is_wrong() {
        let well = ScoreInput {
            health: Health::Healthy,
            ..ScoreInput::default()
        };
        for (input, expected) in [
            (ScoreInput::default(), 100),
            (well, 100),
            (
                ScoreInput {
                    failed: true,
                    ..well
                },
                0,
            ),
            (
                ScoreInput {
                    health: Health::Degraded,
                    ..well
                },
                60,
            ),
            (
                ScoreInput {
                    health: Health::Unhealthy,
                    ..well
                },
                30,
            ),
            (
                ScoreInput {
                    attempts: 2,
                    ..well
                },
                80,
            ),
            (
                ScoreInput {
                    attempts: 99,
                    ..well
                },
                70,
            ),
            (
                ScoreInput {
                    rung: Rung::Cap,
                    ..well
                },
                85,
            ),
            (
                ScoreInput {
                    error_rate: Some(0.02),
                    ..well
                },
                99,
            ),
            (
                ScoreInput {
                    error_rate: Some(7.0),
                    ..well
                },
                70,
            ),
            (
                ScoreInput {
                    error_rate: Some(f64::NAN),
                    ..well
                },
                100,
            ),
            (
                ScoreInput {
                    error_rate: Some(-1.0),
                    ..well
                },
                100,
            ),
            (
                ScoreInput {
                    grows: true,
                    ..well
                },
                90,
            ),
        ] {
            assert_eq!(score(&input), expected, "{input:?}");
        }
        let worst = ScoreInput {
            health: Health::Unhealthy,
            attempts: 3,
            rung: Rung::Stop,
            error_rate: Some(1.0),
            ..well
        };
        assert_eq!(score(&worst), 0, "it never goes below");
        assert_eq!(deductions(&worst).len(), 4);
    }
}
