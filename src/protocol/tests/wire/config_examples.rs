//! Examples of the methods about the configuration.
//! Owns their parameters and results.
//! Never leaves a field out.

use mainstay_protocol::Timestamp;
use mainstay_protocol::config_change::{
    ConfigChangeOptions, ConfigChanged, ConfigDiffParams, ConfigHistory, ConfigRollbackParams,
    ConfigSetParams, ConfigUnsetParams, PlanOutcome, PlanRecord,
};
use mainstay_protocol::config_plan::{
    ApplyResult, ConfigApplied, ConfigPlan, KeyChange, KeyClass, ModuleChange, PlanChange,
};
use mainstay_protocol::config_values::{ConfigLayer, ConfigOrigin};
use mainstay_protocol::method::{self as m, ChangeAction, Empty, name};
use serde_json::{Value, json};

use super::examples::{Example, example};

pub(crate) fn plan() -> ConfigPlan {
    let key = |path: &str, class, before, after, hidden| KeyChange {
        path: path.to_owned(),
        class,
        before,
        after,
        hidden,
        origin: ConfigOrigin {
            layer: ConfigLayer::File,
            name: "config/mainstay.toml".to_owned(),
            line: Some(12),
        },
    };
    let live = KeyClass::Live;
    let keys = vec![
        key(
            "module.storage.shutdown_timeout",
            live,
            json!("10s"),
            json!("5s"),
            false,
        ),
        key(
            "module.storage.env",
            KeyClass::Restart,
            Value::Null,
            Value::Null,
            true,
        ),
    ];
    let changed = ModuleChange {
        module: "storage".to_owned(),
        change: PlanChange::Changed,
        renamed_from: Some("store".to_owned()),
        class: Some(KeyClass::Restart),
        because: None,
        stays_stopped: true,
        keys,
    };
    let along = ModuleChange {
        module: "analysis-engine".to_owned(),
        change: PlanChange::TakenAlong,
        renamed_from: None,
        class: Some(KeyClass::RestartDependents),
        because: Some("storage".to_owned()),
        stays_stopped: false,
        keys: Vec::new(),
    };
    let step = m::ChangeStep {
        module: "storage".to_owned(),
        action: ChangeAction::Restart,
        reason: "its definition changed".to_owned(),
    };
    ConfigPlan {
        plan: 7,
        unchanged: false,
        system: vec![key("logs.keep", live, json!(5), json!(7), false)],
        modules: vec![changed, along],
        steps: vec![step],
        waiting: vec!["mainstay.name".to_owned()],
    }
}

fn history() -> ConfigHistory {
    ConfigHistory {
        plans: vec![PlanRecord {
            plan: 6,
            at: Timestamp(1_764_000_000_000),
            requester: "cli (uid 1000, pid 4811)".to_owned(),
            changes: vec!["storage changed (command)".to_owned()],
            outcome: PlanOutcome::Dropped,
            text: Some("rolled back: storage failed: exit code 3".to_owned()),
            in_force: true,
        }],
    }
}

pub(crate) fn all() -> Vec<Example> {
    let options = ConfigChangeOptions {
        dry_run: true,
        expected_plan: Some(7),
        wait: true,
    };
    let path = || "health.interval".to_owned();
    let changed = ConfigChanged {
        applied: Some(ConfigApplied {
            plan: 8,
            result: ApplyResult::Applied,
            text: None,
            watch_ms: Some(30_000),
        }),
        again: history().plans.pop(),
        preview: Some(plan()),
    };
    vec![
        example(name::CONFIG_HISTORY, Empty {}, history()),
        example(
            name::CONFIG_DIFF,
            ConfigDiffParams {
                from: Some(5),
                to: Some(7),
            },
            plan(),
        ),
        example(
            name::CONFIG_SET,
            ConfigSetParams {
                path: path(),
                value: "10s".to_owned(),
                persist: true,
                options,
            },
            changed.clone(),
        ),
        example(
            name::CONFIG_UNSET,
            ConfigUnsetParams {
                path: path(),
                persist: true,
                options,
            },
            changed.clone(),
        ),
        example(
            name::CONFIG_ROLLBACK,
            ConfigRollbackParams {
                plan: Some(5),
                options,
            },
            changed,
        ),
    ]
}
