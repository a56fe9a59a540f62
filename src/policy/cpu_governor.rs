//! A ceiling on CPU time where the kernel enforces none: how long a run continues, then is stopped.
//! Owns the balance of one run: what it may use, less what it used. Never stops a process.
//!
//! A run that comes near its ceiling gets its share of every 100 ms at once and is stopped for the
//! rest of it. Whatever it used too much, because a look came late, the next stop is longer for.

use core::time::Duration;

use crate::mono_time::MonoTime;

/// One round of continuing and being stopped.
const PERIOD: Duration = Duration::from_millis(100);
/// Interval between two looks at a run that is far from its ceiling.
const FAR: Duration = Duration::from_secs(1);
/// Shortest time that a run continues; a shorter one is not kept precisely.
const RUN_MIN: Duration = Duration::from_millis(5);
/// Longest stop that is ordered at once: the lease of the holder.
const STOP_MAX: Duration = Duration::from_millis(300);
/// A longer stop is ordered again this long before it ends.
const RENEW: Duration = Duration::from_millis(100);
/// What an idle run saves for a burst, in time at its ceiling.
const BURST: Duration = Duration::from_millis(250);
/// What is held against a run at most, in time at its ceiling.
const DEBT: Duration = Duration::from_secs(2);
/// The same for what it used before it was found near its ceiling.
const FIRST_DEBT: Duration = Duration::from_millis(200);

/// The balance of one run.
#[derive(Debug, Clone, Copy)]
pub struct CpuGovernor {
    /// The ceiling in cores.
    ceiling: f64,
    /// The last look: when, and the CPU time used by then.
    last: Option<(MonoTime, u64)>,
    /// CPU nanoseconds that it may use; below zero: that it used too much.
    balance: f64,
    /// When the stop that was ordered last ends.
    stopped_until: MonoTime,
    /// Cores that it uses while it continues.
    rate: f64,
    is_near: bool,
}

/// What to do after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GovernorStep {
    /// Stop the run for this time; zero: let it continue.
    pub stop: Duration,
    /// Look again after this time.
    pub next: Duration,
}

impl CpuGovernor {
    /// A run that may use `limit` thousandths of a core.
    #[must_use]
    pub fn new(permille: u64) -> CpuGovernor {
        let ceiling = permille.max(1) as f64 / 1000.0;
        CpuGovernor {
            ceiling,
            last: None,
            balance: 0.0,
            stopped_until: MonoTime(0),
            rate: ceiling,
            is_near: false,
        }
    }

    /// Changes the ceiling; the balance is kept.
    pub fn set_ceiling(&mut self, permille: u64) {
        self.ceiling = permille.max(1) as f64 / 1000.0;
    }

    /// Takes in the CPU time, in nanoseconds, that the run has used by `now`.
    pub fn look(&mut self, now: MonoTime, cpu_ns: u64) -> GovernorStep {
        let Some((at, before)) = self.last.replace((now, cpu_ns)) else {
            return GovernorStep {
                stop: Duration::ZERO,
                next: PERIOD,
            };
        };
        let elapsed = now.since(at).as_nanos() as f64;
        let used = cpu_ns.saturating_sub(before) as f64;
        let stopped = self.stopped_until.min(now).since(at).as_nanos() as f64;
        let continued = elapsed - stopped;
        if continued >= RUN_MIN.as_nanos() as f64 / 2.0 {
            self.rate = f64::midpoint(self.rate, used / continued).max(self.ceiling / 10.0);
        }
        let was_near = core::mem::replace(
            &mut self.is_near,
            used > elapsed * self.ceiling / 2.0 || self.stopped_until.after(FAR) > now,
        );
        let debt = if was_near { DEBT } else { FIRST_DEBT };
        let span = |time: Duration| time.as_nanos() as f64 * self.ceiling;
        self.balance += elapsed * self.ceiling - used;
        self.balance = self.balance.clamp(-span(debt), span(BURST));
        if self.balance < 0.0 {
            self.stop(now)
        } else {
            self.let_continue()
        }
    }

    fn stop(&mut self, now: MonoTime) -> GovernorStep {
        let owed = nanos(-self.balance / self.ceiling);
        let stop = owed.min(STOP_MAX);
        self.stopped_until = now.after(stop);
        let next = if owed > STOP_MAX {
            STOP_MAX - RENEW
        } else {
            stop + self.share()
        };
        GovernorStep { stop, next }
    }

    fn let_continue(&self) -> GovernorStep {
        let next = if self.is_near { PERIOD } else { FAR };
        let surplus = self.rate - self.ceiling;
        let next = if surplus > 0.0 {
            // Until the balance is used up; then its share of a period.
            next.min(nanos(self.balance / surplus) + self.share())
        } else {
            next
        };
        GovernorStep {
            stop: Duration::ZERO,
            next: next.max(RUN_MIN),
        }
    }

    /// How long it continues within one period.
    fn share(&self) -> Duration {
        let share = PERIOD.as_nanos() as f64 * self.ceiling / self.rate;
        nanos(share).clamp(RUN_MIN, PERIOD)
    }
}

fn nanos(span: f64) -> Duration {
    Duration::from_nanos(span as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A run of `demand` threads that never wait, on `cores` cores; each look comes `late`, in
    /// milliseconds. Returns the share of a core that it got in each second.
    fn hold(
        permille: u64,
        demand: f64,
        cores: f64,
        late: &[u64],
        seconds: usize,
    ) -> std::vec::Vec<f64> {
        let mut governor = CpuGovernor::new(permille);
        let (mut now, mut used, mut stopped_until) = (1_u64, 0.0_f64, 0_u64);
        let mut marks = std::vec![0.0];
        for place in 0.. {
            let step = governor.look(MonoTime(now), used as u64);
            if step.stop > Duration::ZERO {
                stopped_until = now + step.stop.as_nanos() as u64;
            }
            let late = late[place % late.len()] * 1_000_000;
            let next = now + step.next.as_nanos() as u64 + late;
            while now < next {
                let to = (now + 1_000_000).min(next);
                let runs = to.saturating_sub(stopped_until.max(now));
                used += runs as f64 * demand.min(cores);
                now = to;
                if now / 1_000_000_000 >= marks.len() as u64 {
                    marks.push(used);
                    if marks.len() > seconds {
                        return marks
                            .windows(2)
                            .map(|two| (two[1] - two[0]) / 1e9)
                            .collect();
                    }
                }
            }
        }
        std::unreachable!()
    }

    fn windows_hold(permille: u64, shares: &[f64]) {
        let ceiling = permille as f64 / 1000.0;
        for window in shares[2..].windows(5) {
            let mean = window.iter().sum::<f64>() / 5.0;
            let error = (mean - ceiling).abs() / ceiling;
            assert!(error < 0.1, "{permille}: {mean} in {shares:?}");
        }
    }

    #[test]
    fn hogs_of_every_size_are_held_at_every_ceiling() {
        for permille in [100, 200, 500, 900, 1500] {
            for demand in [1.0_f64, 2.0, 4.0, 50.0] {
                for late in [&[0][..], &[1], &[0, 3, 9], &[0, 0, 0, 0, 20]] {
                    if demand.min(2.0) > permille as f64 / 1000.0 {
                        windows_hold(permille, &hold(permille, demand, 2.0, late, 12));
                    }
                }
            }
        }
    }

    #[test]
    fn what_stays_below_its_ceiling_is_never_stopped_and_rarely_looked_at() {
        let mut governor = CpuGovernor::new(200);
        let mut now = MonoTime(1);
        for second in 0..100_u64 {
            let step = governor.look(now, second * 50_000_000);
            assert_eq!(step.stop, Duration::ZERO);
            now = now.after(FAR);
            assert!(second < 2 || step.next == FAR, "{step:?}");
        }
    }

    #[test]
    fn a_short_burst_is_allowed() {
        let mut governor = CpuGovernor::new(200);
        let mut now = MonoTime(1);
        for _ in 0..10 {
            let _saved = governor.look(now, 0);
            now = now.after(PERIOD);
        }
        let step = governor.look(now, 40_000_000);
        assert_eq!(
            step.stop,
            Duration::ZERO,
            "40 ms at once, with 20 ms a period"
        );
    }

    proptest! {
        #[test]
        fn no_step_stops_longer_than_the_lease_or_looks_again_at_once(
            permille in 1_u64..4000,
            looks in proptest::collection::vec((0_u64..3_000_000_000, 0_u64..6_000_000_000), 1..200),
        ) {
            let mut governor = CpuGovernor::new(permille);
            let (mut now, mut used) = (MonoTime(1), 0_u64);
            for (elapsed, cpu) in looks {
                now = now.after(Duration::from_nanos(elapsed));
                used += cpu;
                let step = governor.look(now, used);
                prop_assert!(step.stop <= STOP_MAX);
                prop_assert!(step.next >= RUN_MIN && step.next <= FAR);
            }
        }

        #[test]
        fn whatever_the_delays_no_hog_gets_more(
            permille in 20_u64..1800,
            demand in 0.5_f64..60.0,
            late in proptest::collection::vec(0_u64..15, 1..20),
        ) {
            let shares = hold(permille, demand, 2.0, &late, 12);
            let mean = shares[2..].iter().sum::<f64>() / (shares.len() - 2) as f64;
            prop_assert!(mean < permille as f64 / 1000.0 * 1.1, "{mean} {shares:?}");
        }
    }
}
