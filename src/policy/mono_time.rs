//! Time as policy sees it: a monotonic point, always an argument.
//! Owns the arithmetic. Never reads a clock.

use core::time::Duration;

/// Nanoseconds on the machine's monotonic clock (time asleep not counted).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MonoTime(pub u64);

impl MonoTime {
    /// A point that is never reached.
    pub const NEVER: MonoTime = MonoTime(u64::MAX);

    /// The point `span` later; saturates at [`MonoTime::NEVER`].
    #[must_use]
    pub fn after(self, span: Duration) -> MonoTime {
        MonoTime(
            self.0
                .saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)),
        )
    }

    /// How long since `earlier`; zero when it is later.
    #[must_use]
    pub fn since(self, earlier: MonoTime) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
