//! Scores from samples: focus, load and steadiness over one and five minutes.
//! Owns the window of samples and the arithmetic.
//! Never reads a clock: the newest sample is now.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::sample::Sample;

const MINUTE_MS: u64 = 60_000;
/// The window holds five minutes, and never more samples than this.
const MOST_SAMPLES: usize = 3000;

/// Three scores, 0 to 100 each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// How much of the time was spent active, less what was lost by switching.
    pub focus: f64,
    /// How busy the machine was.
    pub load: f64,
    /// How even the work was.
    pub steadiness: f64,
}

/// Payload of `scores.current`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Current {
    /// Milliseconds since 1970, of the newest sample.
    pub at_ms: u64,
    /// Over one minute.
    pub one_minute: Scores,
    /// Over five minutes.
    pub five_minutes: Scores,
    /// How many samples the five minutes hold.
    pub samples: usize,
}

/// The last five minutes.
#[derive(Debug, Default)]
pub struct Window(VecDeque<Sample>);

impl Window {
    /// Adds a sample; one that is not newer than the newest is ignored (a message may come
    /// twice), unless the clock was set back by more than the window.
    pub fn add(&mut self, sample: Sample) {
        if let Some(newest) = self.0.back() {
            if sample.at_ms + 5 * MINUTE_MS < newest.at_ms {
                self.0.clear();
            } else if sample.at_ms <= newest.at_ms {
                return;
            }
        }
        self.0.push_back(sample);
        let oldest = sample.at_ms.saturating_sub(5 * MINUTE_MS);
        while self.0.len() > MOST_SAMPLES || self.0.front().is_some_and(|s| s.at_ms < oldest) {
            self.0.pop_front();
        }
    }

    /// The scores now; None before the first sample.
    #[must_use]
    pub fn current(&self) -> Option<Current> {
        let at_ms = self.0.back()?.at_ms;
        let minute: Vec<Sample> = self.since(at_ms.saturating_sub(MINUTE_MS));
        let five: Vec<Sample> = self.since(0);
        Some(Current {
            at_ms,
            one_minute: scores(&minute),
            five_minutes: scores(&five),
            samples: five.len(),
        })
    }

    fn since(&self, at_ms: u64) -> Vec<Sample> {
        self.0
            .iter()
            .filter(|s| s.at_ms >= at_ms)
            .copied()
            .collect()
    }
}

/// Scores of a stretch of samples; of none they are zero.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "counts and times far below 2^52"
)]
pub fn scores(samples: &[Sample]) -> Scores {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
        return Scores::default();
    };
    let count = samples.len() as f64;
    let mean = samples.iter().map(|s| s.cpu_percent).sum::<f64>() / count;
    let variance = samples
        .iter()
        .map(|s| (s.cpu_percent - mean).powi(2))
        .sum::<f64>()
        / count;
    let active = samples.iter().filter(|s| s.active).count() as f64 / count;
    let switches = samples
        .windows(2)
        .filter(|pair| pair[0].active != pair[1].active)
        .count() as f64;
    let minutes = (last.at_ms.saturating_sub(first.at_ms) as f64 / MINUTE_MS as f64).max(1.0);
    let bounded = |score: f64| (score.clamp(0.0, 100.0) * 10.0).round() / 10.0;
    Scores {
        focus: bounded(active * 100.0 - 5.0 * switches / minutes),
        load: bounded(mean),
        steadiness: bounded(100.0 - 2.0 * variance.sqrt()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(second: u64, cpu_percent: f64) -> Sample {
        Sample {
            at_ms: 1_000_000 + second * 1000,
            cpu_percent,
            memory_percent: 50.0,
            load: 1.0,
            processes: 100,
            active: cpu_percent >= 10.0,
        }
    }

    #[test]
    fn even_work_is_focused_and_steady() {
        let samples: Vec<Sample> = (0..60).map(|second| sample(second, 40.0)).collect();
        let expected = Scores {
            focus: 100.0,
            load: 40.0,
            steadiness: 100.0,
        };
        assert_eq!(scores(&samples), expected);
        assert_eq!(scores(&[]), Scores::default());
    }

    #[test]
    fn switching_costs_focus_and_steadiness() {
        let samples: Vec<Sample> = (0..60)
            .map(|second| sample(second, if second % 2 == 0 { 0.0 } else { 40.0 }))
            .collect();
        let scores = scores(&samples);
        assert_eq!(
            (scores.focus, scores.load, scores.steadiness),
            (0.0, 20.0, 60.0)
        );
    }

    #[test]
    fn the_window_rolls_and_ignores_repetition() {
        let mut window = Window::default();
        assert_eq!(window.current(), None);
        for second in 0..400 {
            window.add(sample(second, if second < 340 { 80.0 } else { 0.0 }));
            window.add(sample(second, 99.0));
        }
        let current = window.current().expect("samples were added");
        assert_eq!(current.samples, 301);
        // The minute includes its first second, which still was busy.
        assert!(current.one_minute.load < 2.0, "{current:?}");
        assert!(current.five_minutes.load > 60.0, "{current:?}");
    }

    #[test]
    fn a_clock_that_was_set_back_starts_a_new_window() {
        let mut window = Window::default();
        window.add(sample(10_000, 50.0));
        window.add(sample(0, 10.0));
        assert_eq!(window.current().map(|current| current.samples), Some(1));
    }
}
