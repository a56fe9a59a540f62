//! The table of methods: name, level, effect, parameters, result, a sentence and an example each.
//! Owns what can be requested of a running mainstay; dispatch, permission checks, the schema and
//! the documentation are made from it.
//! Never decides whether a request is granted.

use schemars::generate::SchemaGenerator;
use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::AccessLevel;
use crate::chaos as h;
use crate::config_change as g;
use crate::config_plan as p;
use crate::config_values as c;
use crate::doctor as d;
use crate::health as hr;
use crate::method as m;
use crate::view as v;

/// What a method does beyond returning its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MethodEffect {
    /// Nothing: it is not rate-limited, because a connection has one such request in flight.
    Reads,
    /// A module reports about itself or publishes. Not rate-limited: a refusal would lose data.
    Reports,
    /// Another module is called. Rate-limited.
    Calls,
    /// The system or a module changes. Rate-limited, and logged with the requester.
    Changes,
}

impl MethodEffect {
    /// The word in the schema and the documentation.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            MethodEffect::Reads => "reads",
            MethodEffect::Reports => "reports",
            MethodEffect::Calls => "calls",
            MethodEffect::Changes => "changes",
        }
    }

    /// Whether a request costs one of `ipc.requests_per_second`.
    #[must_use]
    pub const fn is_rate_limited(self) -> bool {
        matches!(self, MethodEffect::Calls | MethodEffect::Changes)
    }
}

/// A method with the types of its parameters and its result.
pub trait Method {
    /// Its row of the table.
    const INFO: &'static MethodInfo;
    /// Its parameters.
    type Params: DeserializeOwned + Serialize + JsonSchema + Send + 'static;
    /// Its result.
    type Result: DeserializeOwned + Serialize + JsonSchema + Send + 'static;
}

/// One row of the table.
#[derive(Debug)]
pub struct MethodInfo {
    /// The name in JSON, for instance `module.restart`.
    pub name: &'static str,
    /// The level that a connection needs. [`AccessLevel::Module`]: exactly that one, the method
    /// belongs to a module's own connection.
    pub level: AccessLevel,
    /// Whether it reads or changes.
    pub effect: MethodEffect,
    /// The parameters of one example, as JSON.
    pub example: &'static str,
    /// The schema of the parameters.
    pub params: fn(&mut SchemaGenerator) -> Schema,
    /// The schema of the result.
    pub result: fn(&mut SchemaGenerator) -> Schema,
    summary: &'static str,
}

impl MethodInfo {
    /// What it does, in one sentence.
    #[must_use]
    pub fn summary(&self) -> &'static str {
        self.summary.trim()
    }
}

/// Calls the macro `$callback` with the whole table. A row: the sentence, the type, the constant in
/// [`crate::method::name`], the name in JSON, the level, the effect, parameters, result, example.
#[macro_export]
macro_rules! method_table {
    ($callback:ident) => {
        $callback! {
            /// Identifies the client and agrees on the protocol; the first call of a connection.
            Hello HELLO "hello" Module Reads m::Hello => m::Welcome,
                r#"{"client":"status-window 1.2","protocol":1}"#;
            /// Returns the state of the system: status, reason, issues, counts and usage.
            SystemStatus SYSTEM_STATUS "system.status" Observe Reads m::Empty => v::SystemView,
                "{}";
            /// Stops all modules in reverse dependency order, then mainstay.
            SystemStop SYSTEM_STOP "system.stop" Admin Changes m::StopParams => m::Empty,
                r#"{"timeout_ms":30000}"#;
            /// Replaces the runtime by another program, or keeps the one that runs; modules run on.
            SystemUpgrade SYSTEM_UPGRADE "system.upgrade" Admin Changes
                m::UpgradeParams => m::UpgradeResult, r#"{"program":"/usr/bin/mainstay"}"#;
            /// Lists the modules with their state; in pages if a page is requested.
            ModuleList MODULE_LIST "module.list" Observe Reads
                m::PageParams => Vec<v::ModuleView>, "{}";
            /// Returns the state of one module.
            ModuleGet MODULE_GET "module.get" Observe Reads m::ModuleParams => v::ModuleView,
                r#"{"module":"storage"}"#;
            /// Starts a module and what it requires.
            ModuleStart MODULE_START "module.start" Operate Changes
                m::ChangeParams => m::ChangeResult, r#"{"module":"storage","wait":true}"#;
            /// Stops a module and what requires it.
            ModuleStop MODULE_STOP "module.stop" Operate Changes
                m::ChangeParams => m::ChangeResult, r#"{"module":"storage","dry_run":true}"#;
            /// Restarts a module; what requires it is restarted with it.
            ModuleRestart MODULE_RESTART "module.restart" Operate Changes
                m::ChangeParams => m::ChangeResult, r#"{"module":"storage","wait":true}"#;
            /// Sends a signal to the main process of a module.
            ModuleSignal MODULE_SIGNAL "module.signal" Operate Changes
                m::SignalParams => m::SignalResult, r#"{"module":"storage","signal":"SIGHUP"}"#;
            /// Keeps a module from being started until it is released, or the time has passed.
            ModuleHold MODULE_HOLD "module.hold" Operate Changes
                m::HoldParams => m::HoldResult, r#"{"module":"storage","for_ms":600000}"#;
            /// Ends the hold of a module: it is started if it is desired up.
            ModuleRelease MODULE_RELEASE "module.release" Operate Changes
                m::ModuleParams => m::HoldResult, r#"{"module":"storage"}"#;
            /// Accepts the recovery that is proposed for a failed module (`recovery.auto = false`).
            RecoveryAccept RECOVERY_ACCEPT "recovery.accept" Operate Changes
                m::ChangeParams => m::ChangeResult, r#"{"module":"storage","wait":true}"#;
            /// Lists events of the journal, oldest first.
            EventsList EVENTS_LIST "events.list" Observe Reads m::EventsParams => m::EventsResult,
                r#"{"module":"storage","kinds":["module.exited"],"limit":20}"#;
            /// Follows committed events; each arrives as a notification `event`.
            EventsSubscribe EVENTS_SUBSCRIBE "events.subscribe" Observe Reads
                m::EventsParams => m::SubscribeResult, r#"{"since":811}"#;
            /// Returns the newest output of a module; can follow it with `log` notifications.
            LogsRead LOGS_READ "logs.read" Observe Reads m::LogsParams => m::LogLines,
                r#"{"module":"storage","lines":10,"follow":true}"#;
            /// Explains the state of a module: the chain of events behind it, and what comes next.
            Why WHY "why" Observe Reads m::WhyParams => m::WhyResult, r#"{"module":"storage"}"#;
            /// Lists every module that is not up, by root cause.
            WhyNotStarted WHY_NOT_STARTED "why.not_started" Observe Reads
                m::Empty => m::NotStartedResult, "{}";
            /// Computes what would follow if a module were stopped, killed or failed.
            WhatIf WHAT_IF "what_if" Observe Reads m::WhatIfParams => m::WhatIfResult,
                r#"{"action":"stop","module":"storage"}"#;
            /// Returns the dependency graph in start order.
            Graph GRAPH "graph" Observe Reads m::PageParams => m::GraphView, "{}";
            /// Returns what enforces each limit here, what is missing and how to get it.
            Doctor DOCTOR "doctor" Observe Reads m::Empty => d::DoctorReport, "{}";
            /// Returns the health of the system and its modules: score, metrics, issues, trends.
            HealthReports HEALTH_REPORT "health.report" Observe Reads
                hr::HealthParams => hr::SystemHealth, r#"{"module":"storage"}"#;
            /// Returns the metrics of modules, machine and mainstay, as OpenMetrics text.
            Metrics METRICS "metrics" Observe Reads m::Empty => d::MetricsText, "{}";
            /// Returns configuration values in force, each with the place that set it.
            ConfigGet CONFIG_GET "config.get" Admin Reads
                c::ConfigGetParams => c::ConfigValues, r#"{"path":"health.interval"}"#;
            /// Returns what the configuration files would change, and applies nothing.
            ConfigPlan CONFIG_PLAN "config.plan" Admin Reads
                p::ConfigPlanParams => p::ConfigPlan, r#"{"path":"/tmp/mainstay.toml"}"#;
            /// Applies the configuration files: watched, then committed or rolled back.
            ConfigApply CONFIG_APPLY "config.apply" Admin Changes
                p::ConfigApplyParams => p::ConfigApplied, r#"{"expected_plan":7,"wait":true}"#;
            /// Injects a fault into a module; only with `chaos.allowed`.
            ChaosInject CHAOS_INJECT "chaos.inject" Admin Changes
                h::ChaosParams => h::ChaosResult, r#"{"action":"kill","module":"storage"}"#;
            /// Sets one value while it runs: watched, then committed or rolled back.
            ConfigSet CONFIG_SET "config.set" Admin Changes
                g::ConfigSetParams => g::ConfigChanged,
                r#"{"path":"health.interval","value":"10s","expected_plan":7}"#;
            /// Drops a value that was set while it runs, with `persist` from its file too.
            ConfigUnset CONFIG_UNSET "config.unset" Admin Changes
                g::ConfigUnsetParams => g::ConfigChanged, r#"{"path":"health.interval"}"#;
            /// Goes back to a plan that is kept: watched, then committed or rolled back.
            ConfigRollback CONFIG_ROLLBACK "config.rollback" Admin Changes
                g::ConfigRollbackParams => g::ConfigChanged, r#"{"plan":5,"wait":true}"#;
            /// Lists the plans that are kept: who applied each, when, and what became of it.
            ConfigHistory CONFIG_HISTORY "config.history" Admin Reads
                m::Empty => g::ConfigHistory, "{}";
            /// Returns the difference of two plans, or of the plan in force and the files.
            ConfigDiff CONFIG_DIFF "config.diff" Admin Reads
                g::ConfigDiffParams => p::ConfigPlan, r#"{"from":5,"to":7}"#;
            /// Follows what is published on the bus; each arrives as a notification `bus.event`.
            BusTap BUS_TAP "bus.tap" Admin Reads m::BusSubscribeParams => m::Empty,
                r#"{"subjects":["*"]}"#;
            /// Publishes an event on the bus for a user.
            BusSend BUS_SEND "bus.send" Admin Changes m::PublishParams => m::PublishResult,
                r#"{"subject":"samples.cpu","payload":{"percent":12.5}}"#;
            /// Calls a method of a module for a user and returns its result.
            BusRequest BUS_REQUEST "bus.request" Admin Changes
                m::BusCallParams => serde_json::Value,
                r#"{"module":"analysis-engine","method":"score","params":{"sample":1}}"#;
            /// Reports that the module is ready.
            ModuleReady MODULE_READY "module.ready" Module Reports m::Empty => m::Empty, "{}";
            /// Sets the status text of the module.
            ModuleStatus MODULE_STATUS "module.status" Module Reports
                m::StatusParams => m::Empty, r#"{"text":"compacting"}"#;
            /// Reports the health of the module.
            ModuleHealth MODULE_HEALTH "module.health" Module Reports
                m::HealthReportParams => m::Empty,
                r#"{"status":"degraded","issues":["queue is long"]}"#;
            /// Publishes an event on the bus.
            BusPublish BUS_PUBLISH "bus.publish" Module Reports
                m::PublishParams => m::PublishResult,
                r#"{"subject":"samples.cpu","payload":{"percent":12.5}}"#;
            /// Subscribes to subjects of the bus; each event arrives as a notification `event`.
            BusSubscribe BUS_SUBSCRIBE "bus.subscribe" Module Reports
                m::BusSubscribeParams => m::Empty, r#"{"subjects":["samples.*"]}"#;
            /// Calls a method of another module and returns its result.
            BusCall BUS_CALL "bus.call" Module Calls m::BusCallParams => serde_json::Value,
                r#"{"module":"analysis-engine","method":"score","params":{"sample":1}}"#;
        }
    };
}

macro_rules! define_methods {
    ($(
        #[doc = $summary:literal]
        $method:ident $constant:ident $name:literal $level:ident $effect:ident
        $params:ty => $result:ty, $example:literal;
    )+) => {
        $(
            #[doc = $summary]
            #[derive(Debug, Clone, Copy)]
            pub struct $method;

            impl Method for $method {
                const INFO: &'static MethodInfo = &MethodInfo {
                    name: $name,
                    level: AccessLevel::$level,
                    effect: MethodEffect::$effect,
                    example: $example,
                    params: SchemaGenerator::subschema_for::<$params>,
                    result: SchemaGenerator::subschema_for::<$result>,
                    summary: $summary,
                };
                type Params = $params;
                type Result = $result;
            }
        )+

        /// Every method, in the order of the documentation.
        pub const METHODS: &[&MethodInfo] = &[$($method::INFO),+];

        /// The names of the methods.
        pub mod name {
            $(#[doc = $summary] pub const $constant: &str = $name;)+
        }
    };
}
method_table!(define_methods);

/// The row of a method; None: there is no such method in this version.
#[must_use]
pub fn find(method: &str) -> Option<&'static MethodInfo> {
    METHODS.iter().copied().find(|info| info.name == method)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HealthStatus;

    fn reads_back<M: Method>() {
        let params: M::Params = serde_json::from_str(M::INFO.example).expect(M::INFO.name);
        serde_json::to_value(params).expect(M::INFO.name);
    }

    macro_rules! read_examples {
        ($(
            #[doc = $summary:literal]
            $method:ident $constant:ident $name:literal $level:ident $effect:ident
            $params:ty => $result:ty, $example:literal;
        )+) => { $(reads_back::<$method>();)+ };
    }

    #[test]
    fn every_example_is_read_by_its_method() {
        method_table!(read_examples);
    }

    #[test]
    fn names_are_distinct_and_sentences_are_sentences() {
        for (index, info) in METHODS.iter().enumerate() {
            assert_eq!(find(info.name).map(|found| found.name), Some(info.name));
            let earlier = METHODS[..index].iter().any(|other| other.name == info.name);
            assert!(!earlier, "{} stands twice", info.name);
            assert!(info.summary().ends_with('.'), "{}", info.name);
        }
        assert!(find("module.fly").is_none());
    }

    #[test]
    fn only_methods_of_modules_report_or_call() {
        for info in METHODS {
            let of_module = info.level == AccessLevel::Module && info.name != name::HELLO;
            let speaks = matches!(info.effect, MethodEffect::Reports | MethodEffect::Calls);
            assert_eq!(of_module, speaks, "{}", info.name);
            let changes = info.effect == MethodEffect::Changes;
            assert!(
                !changes || info.level >= AccessLevel::Operate,
                "{}",
                info.name
            );
        }
        let _used = HealthStatus::Unknown;
    }
}
