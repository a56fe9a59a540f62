//! The monotonic clock that the state machines of the holder are given.

use std::time::Duration;

/// The time of the machines: that of the monotonic clock.
pub(crate) fn monotonic() -> Duration {
    Duration::from_nanos(nanos(libc::CLOCK_MONOTONIC))
}

/// Nanoseconds on a clock.
#[expect(unsafe_code, reason = "clock_gettime with the boot clock")]
pub(crate) fn nanos(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid place for the answer; these clocks always exist.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}
