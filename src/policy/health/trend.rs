//! Whether a measured value grows, how fast, and when it reaches a limit.
//! Owns the newest values of one metric of one run. Never reads a clock.
//!
//! The slope is the median of the slopes of all pairs (Theil and Sen): a third of the values may be
//! outliers. Growth counts from a minimum effect on, and only where most pairs rise.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use crate::mono_time::MonoTime;

/// Values kept; the pairs of so many are compared with each new one.
const POINTS_MAX: usize = 32;
/// With fewer values nothing is said.
const POINTS_MIN: usize = 6;
/// Growth over all values below this share of the level is none.
const EFFECT_MIN: f64 = 0.05;
/// The share of pairs that rise.
const RISING_MIN: f64 = 0.8;

/// The newest values of a metric, each with its time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    points: VecDeque<Point>,
}

type Point = (MonoTime, f64);

/// A metric that grows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Growth {
    /// Its value now, outliers aside.
    pub level: f64,
    /// By how much it grows in a second.
    pub per_second: f64,
}

impl Growth {
    /// How long until it reaches `limit`; zero when it has.
    #[must_use]
    pub fn time_to(&self, limit: f64) -> Duration {
        let seconds = (limit - self.level).max(0.0) / self.per_second;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

impl Series {
    /// Adds a value; the oldest is dropped when there are many. What is no number is left out.
    pub fn push(&mut self, at: MonoTime, value: f64) {
        if !value.is_finite() || self.points.back().is_some_and(|(last, _)| *last >= at) {
            return;
        }
        if self.points.len() == POINTS_MAX {
            self.points.pop_front();
        }
        self.points.push_back((at, value));
    }

    /// The growth, if there is one.
    #[must_use]
    pub fn growth(&self) -> Option<Growth> {
        if self.points.len() < POINTS_MIN {
            return None;
        }
        let (first, now) = (self.points.front()?.0, self.points.back()?.0);
        // Most values do not grow, and that they do not is seen without a slope.
        let rising = self.pairs().filter(|((_, value), (_, next))| next > value);
        let all = self.points.len() * (self.points.len() - 1) / 2;
        if (rising.count() as f64) < all as f64 * RISING_MIN {
            return None;
        }
        let mut slopes = Vec::with_capacity(all);
        let slope = |((at, value), (later, next)): (Point, Point)| {
            (next - value) / later.since(at).as_secs_f64()
        };
        slopes.extend(self.pairs().map(slope));
        let per_second = median(&mut slopes)?;
        let mut levels: Vec<f64> = self
            .points
            .iter()
            .map(|(at, value)| value + per_second * now.since(*at).as_secs_f64())
            .collect();
        let level = median(&mut levels)?;
        let effect = per_second * now.since(first).as_secs_f64();
        (effect > level.abs() * EFFECT_MIN).then_some(Growth { level, per_second })
    }

    /// Each value with each later one.
    fn pairs(&self) -> impl Iterator<Item = (Point, Point)> {
        let points = self.points.iter().copied().enumerate();
        points.flat_map(|(index, one)| {
            let later = self.points.range(index + 1..).copied();
            later.map(move |next| (one, next))
        })
    }
}

fn median(values: &mut [f64]) -> Option<f64> {
    let middle = values.len() / 2;
    let (_, median, _) =
        (!values.is_empty()).then(|| values.select_nth_unstable_by(middle, f64::total_cmp))?;
    Some(*median)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backoff::splitmix64;

    /// A value each 10 s, with noise of this size.
    fn series(count: u64, value: impl Fn(f64) -> f64, noise: f64, seed: u64) -> Series {
        let mut series = Series::default();
        for number in 0..count {
            let drawn = (splitmix64(seed ^ (number << 32)) >> 11) as f64 / (1_u64 << 53) as f64;
            let at = number as f64 * 10.0;
            let now = MonoTime(number * 10_000_000_000 + 1);
            series.push(now, value(at) + (drawn - 0.5) * 2.0 * noise);
        }
        series
    }

    #[test]
    fn a_leak_is_found_and_its_time_to_the_limit_is_within_a_fifth() {
        for per_second in [0.05, 0.5, 5.0] {
            for seed in 0..50 {
                let leak = |at: f64| 50.0 + per_second * at;
                let noise = per_second * 15.0; // one and a half intervals of growth
                let growth = series(32, leak, noise, seed).growth().expect("it grows");
                let now = 310.0;
                let limit = leak(now) + per_second * 600.0;
                let seconds = growth.time_to(limit).as_secs_f64();
                assert!(
                    (480.0..=720.0).contains(&seconds),
                    "{per_second}: {seconds}"
                );
            }
        }
    }

    #[test]
    fn noise_steps_plateaus_and_shrinking_are_no_growth() {
        for seed in 0..200 {
            assert_eq!(series(32, |_| 100.0, 20.0, seed).growth(), None, "{seed}");
        }
        type Values = fn(f64) -> f64;
        let cases: [(&str, Values); 4] = [
            ("constant", |_| 100.0),
            ("shrinking", |at| 500.0 - at),
            ("a sawtooth, as of a garbage collector", |at| {
                100.0 + at % 70.0
            }),
            ("a start that is over", |at| 100.0 + at.min(60.0)),
        ];
        for (name, value) in cases {
            assert_eq!(series(32, value, 0.0, 1).growth(), None, "{name}");
        }
        assert_eq!(series(5, |at| at, 0.0, 1).growth(), None, "too few");
        assert_eq!(Series::default().growth(), None);
    }

    #[test]
    fn outliers_and_what_is_no_number_change_little() {
        let mut leak = series(30, |at| 50.0 + at, 0.0, 1);
        leak.push(MonoTime(299_000_000_000), f64::NAN);
        leak.push(MonoTime(300_000_000_001), 5000.0);
        leak.push(MonoTime(300_000_000_001), 1.0);
        let growth = leak.growth().expect("it grows");
        assert!((growth.per_second - 1.0).abs() < 0.01, "{growth:?}");
        assert_eq!(growth.time_to(0.0), Duration::ZERO);
    }
}
