//! The health that a module reports: a status, metrics and issues.
//! Owns how a report is built.
//! Never evaluates a report: mainstay does.

use mainstay_protocol::HealthStatus;
use mainstay_protocol::method;

/// The health of a module, as it reports it.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthReport(method::HealthReportParams);

impl HealthReport {
    /// Returns a report of a module that works.
    #[must_use]
    pub fn healthy() -> HealthReport {
        HealthReport::of(HealthStatus::Healthy, None)
    }

    /// Returns a report of a module that works in part; `issue` names the fault.
    #[must_use]
    pub fn degraded(issue: impl Into<String>) -> HealthReport {
        HealthReport::of(HealthStatus::Degraded, Some(issue.into()))
    }

    /// Returns a report of a module that does not work; `issue` names the fault.
    #[must_use]
    pub fn unhealthy(issue: impl Into<String>) -> HealthReport {
        HealthReport::of(HealthStatus::Unhealthy, Some(issue.into()))
    }

    /// Adds a metric, for instance `queue_depth`, `error_rate`, `response_time_ms`. A value that
    /// JSON cannot express (NaN, infinite) is ignored.
    #[must_use]
    pub fn metric(mut self, name: impl Into<String>, value: f64) -> HealthReport {
        if value.is_finite() {
            self.0.metrics.insert(name.into(), value);
        }
        self
    }

    /// Adds an issue as text.
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

    /// Returns the reported status.
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
