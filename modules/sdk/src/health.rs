//! How a module says it is: a word, numbers, and what is wrong.
//! Owns the building of a report.
//! Never judges: mainstay does.

use mainstay_protocol::HealthStatus;
use mainstay_protocol::method;

/// A module's own account of its health.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthReport(method::HealthReportParams);

impl HealthReport {
    /// All is well.
    #[must_use]
    pub fn healthy() -> HealthReport {
        HealthReport::of(HealthStatus::Healthy, None)
    }

    /// It works, not fully; `issue` says what is wrong.
    #[must_use]
    pub fn degraded(issue: impl Into<String>) -> HealthReport {
        HealthReport::of(HealthStatus::Degraded, Some(issue.into()))
    }

    /// It does not work; `issue` says what is wrong.
    #[must_use]
    pub fn unhealthy(issue: impl Into<String>) -> HealthReport {
        HealthReport::of(HealthStatus::Unhealthy, Some(issue.into()))
    }

    /// Adds a number, for instance `queue_depth`, `error_rate`, `response_time_ms`.
    /// A number JSON cannot express (not a number, infinite) is left out.
    #[must_use]
    pub fn metric(mut self, name: impl Into<String>, value: f64) -> HealthReport {
        if value.is_finite() {
            self.0.metrics.insert(name.into(), value);
        }
        self
    }

    /// Adds something that is wrong, in words.
    #[must_use]
    pub fn issue(mut self, text: impl Into<String>) -> HealthReport {
        self.0.issues.push(text.into());
        self
    }

    fn of(status: HealthStatus, issue: Option<String>) -> HealthReport {
        HealthReport(method::HealthReportParams {
            status,
            metrics: std::collections::BTreeMap::new(),
            issues: issue.into_iter().collect(),
        })
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> HealthStatus {
        self.0.status
    }
}

impl From<method::HealthReportParams> for HealthReport {
    fn from(report: method::HealthReportParams) -> HealthReport {
        HealthReport(report)
    }
}

impl From<HealthReport> for method::HealthReportParams {
    fn from(report: HealthReport) -> method::HealthReportParams {
        report.0
    }
}
