//! Points, levels, streaks and achievements from scores.
//! Owns the rules of the game; the same scores give the same progress.
//! Never reads a clock and never keeps anything but its argument.

use serde::{Deserialize, Serialize};

use crate::scoring::Current;

/// Scores of this focus or more continue a streak.
const STREAK_FOCUS: f64 = 60.0;

/// What a player has reached.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Points of all time.
    pub points: u64,
    /// Focused scores in a row.
    pub streak: u32,
    /// The longest such row.
    pub best_streak: u32,
    /// Names of achievements, in the order they were earned.
    pub achievements: Vec<String>,
    /// The newest scores that were counted, in milliseconds since 1970.
    pub at_ms: u64,
}

/// Something to be glad about; payload of `rewards.*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reward", rename_all = "snake_case")]
pub enum Reward {
    /// Points were earned.
    Points {
        /// How many.
        gained: u64,
        /// Of all time.
        total: u64,
        /// The level they make.
        level: u32,
        /// Focused scores in a row.
        streak: u32,
    },
    /// A level was reached.
    LevelUp {
        /// Which.
        level: u32,
    },
    /// An achievement was earned.
    Achievement {
        /// Its name.
        name: String,
        /// What it was for.
        text: String,
    },
}

impl Reward {
    /// The subject it is published under.
    #[must_use]
    pub fn subject(&self) -> &'static str {
        match self {
            Reward::Points { .. } => "rewards.points",
            Reward::LevelUp { .. } => "rewards.level_up",
            Reward::Achievement { .. } => "rewards.achievement",
        }
    }
}

type Earned = fn(&Progress, &Current) -> bool;

const ACHIEVEMENTS: &[(&str, &str, Earned)] = &[
    ("first_steps", "the first points", |p, _| p.points > 0),
    ("century", "a hundred points", |p, _| p.points >= 100),
    ("collector", "a thousand points", |p, _| p.points >= 1000),
    ("warmed_up", "ten focused scores in a row", |p, _| {
        p.best_streak >= 10
    }),
    ("deep_focus", "sixty focused scores in a row", |p, _| {
        p.best_streak >= 60
    }),
    ("steady_hands", "five steady minutes", |_, s| {
        s.samples >= 300 && s.five_minutes.steadiness >= 90.0
    }),
    ("calm_sea", "five minutes under light load", |_, s| {
        s.samples >= 300 && s.five_minutes.load < 5.0
    }),
];

/// The level of a number of points: 1 at 0, 2 at 100, 3 at 400, 4 at 900.
#[must_use]
pub fn level(points: u64) -> u32 {
    u32::try_from((points / 100).isqrt()).unwrap_or(u32::MAX - 1) + 1
}

/// Counts the scores in; returns what was earned, points first. Scores that were counted
/// already (a message may come twice) earn nothing.
pub fn count(progress: &mut Progress, scores: &Current) -> Vec<Reward> {
    if scores.at_ms <= progress.at_ms {
        return Vec::new();
    }
    progress.at_ms = scores.at_ms;
    let before = level(progress.points);
    let minute = &scores.one_minute;
    if minute.focus >= STREAK_FOCUS {
        progress.streak += 1;
        progress.best_streak = progress.best_streak.max(progress.streak);
    } else {
        progress.streak = 0;
    }
    // 0 to 10, half of it for focus and half for steadiness, and one for a streak.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "both scores are between 0 and 100"
    )]
    let worked = ((minute.focus + minute.steadiness) / 20.0).round() as u64;
    let gained = if minute.focus > 0.0 {
        worked + u64::from(progress.streak >= 10)
    } else {
        0
    };
    progress.points += gained;
    let mut rewards = Vec::new();
    let now = level(progress.points);
    if gained > 0 {
        rewards.push(Reward::Points {
            gained,
            total: progress.points,
            level: now,
            streak: progress.streak,
        });
    }
    if now > before {
        rewards.push(Reward::LevelUp { level: now });
    }
    for (name, text, earned) in ACHIEVEMENTS {
        if !progress.achievements.iter().any(|have| have == name) && earned(progress, scores) {
            progress.achievements.push((*name).to_owned());
            rewards.push(Reward::Achievement {
                name: (*name).to_owned(),
                text: (*text).to_owned(),
            });
        }
    }
    rewards
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoring::Scores;

    fn current(at_ms: u64, focus: f64) -> Current {
        let scores = Scores {
            focus,
            load: 30.0,
            steadiness: 80.0,
        };
        Current {
            at_ms,
            one_minute: scores,
            five_minutes: scores,
            samples: 60,
        }
    }

    #[test]
    fn levels_get_further_apart() {
        for (points, expected) in [(0, 1), (99, 1), (100, 2), (399, 2), (400, 3), (10_000, 11)] {
            assert_eq!(level(points), expected, "{points}");
        }
    }

    #[test]
    fn focus_earns_points_once_and_idleness_ends_a_streak() {
        let mut progress = Progress::default();
        let rewards = count(&mut progress, &current(1, 100.0));
        assert_eq!(progress.points, 9);
        assert_eq!(rewards.len(), 2, "points and first_steps: {rewards:?}");
        assert_eq!(count(&mut progress, &current(1, 100.0)), []);
        assert_eq!((progress.points, progress.streak), (9, 1));
        assert_eq!(count(&mut progress, &current(2, 0.0)), []);
        assert_eq!(
            (progress.points, progress.streak, progress.best_streak),
            (9, 0, 1)
        );
    }

    #[test]
    fn a_level_and_each_achievement_come_once() {
        let mut progress = Progress::default();
        let mut rewards = Vec::new();
        for at in 1..=70 {
            rewards.extend(count(&mut progress, &current(at, 100.0)));
        }
        let levels: Vec<&Reward> = rewards
            .iter()
            .filter(|reward| reward.subject() == "rewards.level_up")
            .collect();
        assert_eq!(
            levels,
            [&Reward::LevelUp { level: 2 }, &Reward::LevelUp { level: 3 }]
        );
        assert_eq!(
            progress.achievements,
            ["first_steps", "warmed_up", "century", "deep_focus"]
        );
    }
}
