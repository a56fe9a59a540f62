//! The delay before the next attempt.
//! Owns its growth and its jitter. Never draws a random number: the seed is an argument.

use core::time::Duration;

use crate::spec::Backoff;

/// A number that looks random for every seed (splitmix64).
#[must_use]
pub fn splitmix64(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `initial × factor^steps`, at most `max`. A factor below 1 counts as 1.
#[must_use]
pub fn exponential(initial: Duration, factor: f64, steps: u32, max: Duration) -> Duration {
    let mut delay = initial.min(max);
    if delay.is_zero() || factor <= 1.0 {
        return delay;
    }
    for _ in 0..steps {
        if delay >= max {
            return max;
        }
        delay = scaled(delay, factor).min(max);
    }
    delay
}

/// The delay before attempt `attempt` (the first is 1).
///
/// The first may be immediate. From the second on it is at least `floor`, and `floor` itself
/// grows with each attempt, so that an `initial` of zero does not make a tight loop.
#[must_use]
pub fn delay(backoff: &Backoff, attempt: u32, seed: u64) -> Duration {
    let steps = attempt.saturating_sub(1);
    let from_initial = exponential(backoff.initial, backoff.factor, steps, backoff.max);
    let Some(steps) = steps.checked_sub(1) else {
        return jittered(from_initial, backoff.jitter, backoff.max, seed);
    };
    let floor = backoff.floor.min(backoff.max);
    let from_floor = exponential(floor, backoff.factor, steps, backoff.max);
    jittered(
        from_initial.max(from_floor),
        backoff.jitter,
        backoff.max,
        seed,
    )
    .max(floor)
}

/// The first attempt whose delay no longer grows: attempts beyond it need not be paid back.
#[must_use]
pub fn saturation(backoff: &Backoff) -> u32 {
    let undisturbed = Backoff {
        jitter: 0.0,
        ..*backoff
    };
    // 64 doublings of a nanosecond exceed every duration; a slower growth ends here too.
    (1..64)
        .find(|&attempt| delay(&undisturbed, attempt, 0) >= backoff.max)
        .unwrap_or(64)
}

fn jittered(delay: Duration, share: f64, max: Duration, seed: u64) -> Duration {
    if delay.is_zero() || share <= 0.0 {
        return delay;
    }
    // 53 bits fill a float's fraction: uniform in [-1, 1).
    let unit = (splitmix64(seed) >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
    let moved = scaled(delay, 1.0 + share.min(1.0) * unit);
    // Reflected, not clamped, at the maximum: clamped delays would restart modules in step.
    if moved > max {
        max.saturating_sub(moved - max)
    } else {
        moved
    }
}

fn scaled(delay: Duration, by: f64) -> Duration {
    // A float to integer cast saturates, so a huge product is a long delay, not a panic.
    let nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos((nanos as f64 * by) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn backoff(initial: u64, floor: u64, jitter: f64) -> Backoff {
        Backoff {
            initial: MS(initial),
            factor: 2.0,
            max: MS(10_000),
            jitter,
            floor: MS(floor),
        }
    }

    #[test]
    fn the_generator_is_the_published_one() {
        let published = [
            (0, 0xe220_a839_7b1d_cdaf),
            (0x9e37_79b9_7f4a_7c15, 0x6e78_9e6a_a1b9_65f4),
        ];
        for (seed, number) in published {
            assert_eq!(splitmix64(seed), number);
        }
    }

    #[test]
    fn delays_grow_to_their_maximum() {
        let delays = |initial, floor| {
            [1, 2, 3, 4, 7, 60, u32::MAX].map(|n| delay(&backoff(initial, floor, 0.0), n, 7))
        };
        assert_eq!(
            delays(200, 50),
            [200, 400, 800, 1600, 10_000, 10_000, 10_000].map(MS)
        );
        assert_eq!(
            delays(0, 50),
            [0, 50, 100, 200, 1600, 10_000, 10_000].map(MS)
        );
        assert_eq!(delays(0, 0), [0; 7].map(MS));
        assert_eq!(delays(20_000, 0), [10_000; 7].map(MS));
    }

    #[test]
    fn jitter_stays_in_its_share_and_spreads() {
        let spec = backoff(1000, 50, 0.1);
        let (mut low, mut high) = (Duration::MAX, Duration::ZERO);
        for seed in 0..10_000 {
            let delay = delay(&spec, 1, seed);
            (low, high) = (low.min(delay), high.max(delay));
        }
        assert!(low >= MS(900) && low < MS(905), "{low:?}");
        assert!(high <= MS(1100) && high > MS(1095), "{high:?}");
        let at_max = (0..1000).map(|seed| delay(&spec, 40, seed));
        assert!(
            at_max
                .clone()
                .all(|delay| delay <= MS(10_000) && delay >= MS(9000))
        );
        assert!(
            at_max.filter(|&delay| delay == MS(10_000)).count() < 10,
            "no herd at the maximum"
        );
    }

    #[test]
    fn jitter_never_goes_below_the_floor() {
        let spec = backoff(0, 50, 1.0);
        assert!((0..1000).all(|seed| delay(&spec, 2, seed) >= MS(50)));
    }

    #[test]
    fn growth_ends() {
        assert_eq!(saturation(&backoff(200, 50, 0.5)), 7);
        assert_eq!(saturation(&backoff(0, 0, 0.0)), 64);
        let flat = Backoff {
            factor: 1.0,
            ..backoff(200, 0, 0.0)
        };
        assert_eq!(saturation(&flat), 64);
    }
}
