//! A point in wall-clock time as it is written in JSON: RFC 3339, UTC, milliseconds.
//! Owns the conversion and nothing else. Never reads a clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Milliseconds since the Unix epoch; in JSON `"2026-11-20T12:00:00.000Z"`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, schemars::JsonSchema,
)]
#[schemars(with = "String")]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The same instant as a `SystemTime`.
    #[must_use]
    pub fn to_system_time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0)
    }
}

impl From<SystemTime> for Timestamp {
    /// Times before 1970 become 1970: a clock that wrong is shown, not refused.
    fn from(at: SystemTime) -> Self {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        humantime::format_rfc3339_millis(self.to_system_time()).fmt(f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        humantime::parse_rfc3339_weak(&text)
            .map(Timestamp::from)
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_survives_the_wire() {
        let at = Timestamp(1_795_000_000_123);
        let text = serde_json::to_string(&at).expect("serialises");
        assert_eq!(text, "\"2026-11-18T11:06:40.123Z\"");
        assert_eq!(
            serde_json::from_str::<Timestamp>(&text).expect("parses"),
            at
        );
    }
}
