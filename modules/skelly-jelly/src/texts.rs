//! What the companion says: a sentence or two from scores and rewards, by rule, offline.
//! Owns the moods and the wording.
//! Never chooses by chance: the same inputs give the same words.

use serde::{Deserialize, Serialize};

use crate::points::Reward;
use crate::scoring::Current;

/// The figure's mood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mood {
    /// Nothing known yet, or nothing going on.
    Sleepy,
    /// All is well.
    Content,
    /// Working well.
    Happy,
    /// Something was earned just now.
    Proud,
    /// The machine works very hard.
    Worried,
}

/// Payload of `companion.message` and content of `companion.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// How the companion feels.
    pub mood: Mood,
    /// What it says.
    pub text: String,
    /// Points of all time.
    pub points: u64,
    /// The level they make.
    pub level: u32,
    /// Milliseconds since 1970, of the scores it is about.
    pub at_ms: u64,
}

/// What the companion thinks of the newest scores and of what was earned since it last spoke.
#[must_use]
pub fn compose(scores: Option<&Current>, rewards: &[Reward]) -> (Mood, String) {
    if let Some(praise) = praise(rewards) {
        return (Mood::Proud, praise);
    }
    let Some(current) = scores else {
        return (
            Mood::Sleepy,
            "Hello! I am still rubbing my eyes.".to_owned(),
        );
    };
    let (minute, five) = (&current.one_minute, &current.five_minutes);
    if minute.load >= 90.0 {
        let text = "The machine is working very hard. A good moment to stretch your legs.";
        return (Mood::Worried, text.to_owned());
    }
    if minute.focus >= 60.0 {
        let text = if minute.steadiness >= 80.0 {
            "Steady and focused: lovely to watch. Keep going."
        } else if minute.focus > five.focus {
            "You are finding your rhythm. Each minute counts."
        } else {
            "Plenty going on! One thing after the other."
        };
        return (Mood::Happy, text.to_owned());
    }
    if minute.focus > 0.0 {
        let text = if five.focus >= 60.0 {
            "A little pause after good work. Well deserved."
        } else {
            "A bit here, a bit there. I keep you company."
        };
        return (Mood::Content, text.to_owned());
    }
    (
        Mood::Sleepy,
        "All quiet. I doze until you are back.".to_owned(),
    )
}

/// The greatest thing earned, in words; points alone are no reason to interrupt.
fn praise(rewards: &[Reward]) -> Option<String> {
    let level = rewards.iter().rev().find_map(|reward| match reward {
        Reward::LevelUp { level } => Some(format!("Level {level}! You have earned it.")),
        _ => None,
    });
    let achievement = rewards.iter().rev().find_map(|reward| match reward {
        Reward::Achievement { text, .. } => Some(format!("A new achievement: {text}. Hooray!")),
        _ => None,
    });
    match (level, achievement) {
        (Some(level), Some(achievement)) => Some(format!("{level} {achievement}")),
        (level, achievement) => level.or(achievement),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoring::Scores;

    fn current(focus: f64, load: f64, steadiness: f64) -> Current {
        let scores = Scores {
            focus,
            load,
            steadiness,
        };
        Current {
            at_ms: 1,
            one_minute: scores,
            five_minutes: scores,
            samples: 60,
        }
    }

    #[test]
    fn the_mood_follows_the_scores() {
        for (scores, expected) in [
            (None, Mood::Sleepy),
            (Some(current(0.0, 1.0, 99.0)), Mood::Sleepy),
            (Some(current(20.0, 10.0, 90.0)), Mood::Content),
            (Some(current(80.0, 40.0, 90.0)), Mood::Happy),
            (Some(current(80.0, 40.0, 20.0)), Mood::Happy),
            (Some(current(100.0, 95.0, 99.0)), Mood::Worried),
        ] {
            let (mood, text) = compose(scores.as_ref(), &[]);
            assert_eq!(mood, expected, "{scores:?}");
            assert!(!text.is_empty());
        }
    }

    #[test]
    fn achievements_and_levels_come_before_everything_and_points_do_not() {
        let points = Reward::Points {
            gained: 5,
            total: 5,
            level: 1,
            streak: 1,
        };
        let busy = current(100.0, 95.0, 99.0);
        assert_eq!(compose(Some(&busy), &[points]).0, Mood::Worried);
        let earned = [
            Reward::LevelUp { level: 2 },
            Reward::Achievement {
                name: "century".to_owned(),
                text: "a hundred points".to_owned(),
            },
        ];
        let (mood, text) = compose(Some(&busy), &earned);
        assert_eq!(mood, Mood::Proud);
        assert_eq!(
            text,
            "Level 2! You have earned it. A new achievement: a hundred points. Hooray!"
        );
    }
}
