//! Examples of `why`, `why.not_started`, `what_if` and `chaos.inject`.
//! Owns their values.
//! Never compares with files.

use mainstay_protocol::chaos::{ChaosAction, ChaosParams, ChaosResult};
use mainstay_protocol::enums::{ModuleState, SystemStatus};
use mainstay_protocol::method as m;
use mainstay_protocol::{EventKind, Timestamp};

pub(crate) fn why_params() -> m::WhyParams {
    m::WhyParams {
        module: "storage".to_owned(),
        full: true,
    }
}

pub(crate) fn why() -> m::WhyResult {
    let link = m::WhyLink {
        seq: 812,
        at: Timestamp(1_795_000_000_123),
        kind: EventKind::ModuleExited,
        module: Some("storage".to_owned()),
        text: "storage exited with code 1".to_owned(),
    };
    let next = m::WhyNext {
        text: "it is started again".to_owned(),
        at: Some(Timestamp(1_795_000_000_523)),
        estimated: true,
    };
    let evidence = m::WhyEvidence {
        source: "its log ends with".to_owned(),
        at: Some(Timestamp(1_795_000_000_120)),
        lines: vec!["cannot open storage.db".to_owned()],
    };
    m::WhyResult {
        module: "storage".to_owned(),
        state: ModuleState::Backoff,
        summary: "storage waits for its next start: exit code 1".to_owned(),
        because: vec!["storage failed: exit code 1".to_owned()],
        evidence: vec![evidence],
        tried: Some("restart after 400 ms (1 of 3)".to_owned()),
        chain: vec![link],
        next: Some(next),
        affects: vec!["api".to_owned()],
        commands: vec!["mainstay start storage".to_owned()],
    }
}

pub(crate) fn not_started() -> m::NotStartedResult {
    m::NotStartedResult {
        groups: vec![m::NotStartedGroup {
            root: Some("storage".to_owned()),
            text: "storage has failed: exit code 1".to_owned(),
            commands: vec!["mainstay start storage".to_owned()],
            modules: vec![m::NotStartedModule {
                module: "api".to_owned(),
                state: ModuleState::Waiting,
                waits_for: Some("storage, which failed: exit code 1".to_owned()),
            }],
        }],
    }
}

pub(crate) fn what_if_params() -> m::WhatIfParams {
    m::WhatIfParams {
        action: m::WhatIfAction::Kill,
        module: "storage".to_owned(),
    }
}

pub(crate) fn what_if() -> m::WhatIfResult {
    m::WhatIfResult {
        steps: vec![m::ChangeStep {
            module: "storage".to_owned(),
            action: m::ChangeAction::Fail,
            reason: "supposed".to_owned(),
        }],
        recovery: Some("restart after 214 ms".to_owned()),
        worst: SystemStatus::Critical,
        status: SystemStatus::Degraded,
        reason: Some("not well: storage".to_owned()),
    }
}

pub(crate) fn chaos() -> (ChaosParams, ChaosResult) {
    let params = ChaosParams {
        action: ChaosAction::Hang,
        module: "storage".to_owned(),
        for_ms: Some(1000),
    };
    let result = ChaosResult {
        pid: 4711,
        generation: 4,
    };
    (params, result)
}
