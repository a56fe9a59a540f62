//! What a person is told of a broken invariant: the sentence, the plan, and why a module is where
//! it is.
//! Owns the words. Never decides what is broken.

use std::fmt::Write as _;

use mainstay_policy::group::GroupMember;
use mainstay_policy::spec::{Edge, RecoverySpec, StartMode};
use mainstay_policy::{Desired, Lifecycle, ModuleId, MonoTime, Plan, State};

use crate::violation::Violation;

/// The module in words.
#[must_use]
pub fn name(module: ModuleId) -> String {
    format!("m{}", module.0)
}

fn names(modules: &[ModuleId]) -> String {
    let names: Vec<String> = modules.iter().map(|module| name(*module)).collect();
    names.join(", ")
}

/// A time for a person.
#[must_use]
pub fn seconds(at: MonoTime) -> String {
    format!("{:.6} s", at.0 as f64 / 1e9)
}

/// What is broken, as one sentence.
#[must_use]
pub fn sentence(violation: &Violation) -> String {
    let m = violation.module().map(name).unwrap_or_default();
    match violation {
        Violation::TwoProcesses(_) => {
            format!("{m} got a second process while one runs, or a run with an old number")
        }
        Violation::StartedTooEarly(_, need) => format!(
            "{m} was started although {} is not yet what {m} has to wait for: the line of {m} in \
             the plan below says for what",
            name(*need)
        ),
        Violation::StartedThoughDown(_) => {
            format!("{m} was started although it is desired down, or nobody desired it up")
        }
        Violation::RunTwice(_) => format!("{m} was started before its last run had ended"),
        Violation::BudgetExceeded(_) => {
            format!("{m} was restarted more often, or sooner, than its restart budget allows")
        }
        Violation::TooManyRestarts(_) => {
            format!("{m} was restarted although every restart token was taken")
        }
        Violation::StopOrder(_, dependent) => format!(
            "{m} was stopped before {}, which depends on it",
            name(*dependent)
        ),
        Violation::StopHangs(_) => format!("the stop of {m} took longer than it may"),
        Violation::StopTooLong => {
            "the stop of everything took longer than its budget, or left a process".to_owned()
        }
        Violation::NotStopped => {
            "everything was reported as stopped, but was not, or was reported twice".to_owned()
        }
        Violation::NotQuiet(Some(_)) => {
            format!("nothing is left to do, and yet {m} has a deadline or a run that is not known")
        }
        Violation::NotQuiet(None) => {
            "nothing is left to do, and yet there is a deadline, or a start or change goes on"
                .to_owned()
        }
        Violation::WishNotReached(_, state) => format!(
            "long after the last fault {m} is {state:?}, which is not what was requested last"
        ),
        Violation::WishLost(_) => {
            format!("the last request for {m} is not what the policy desires of it")
        }
        Violation::LeftBehind(_, need) => format!(
            "{m} is to restart with {}, and still runs under an older run of it",
            name(*need)
        ),
        _ => rest(violation, &m),
    }
}

/// The second half of the list.
fn rest(violation: &Violation, m: &str) -> String {
    match violation {
        Violation::OldRun(_) => format!("{m} still runs by a specification that a plan replaced"),
        Violation::RemovedTooEarly(_) => {
            format!("{m} was forgotten while it ran, or although the plan has it")
        }
        Violation::GroupExceeded(_) => {
            format!("the group of {m} restarted its members more often than it may")
        }
        Violation::RestartShared(_) => format!(
            "{m} did not end, or not before the others started, with the restart that it shares"
        ),
        Violation::StartedUnprepared(_) => {
            format!("{m} was started before the procedure before that start was over")
        }
        Violation::GaveUpTooEarly(_) => format!("{m} was given up although it had attempts left"),
        Violation::WrongVerdict(_) => {
            format!("the verdict on a failure of {m} is none that its specification allows")
        }
        Violation::NoProbation(_) => {
            format!("{m} was given up without the try on probation that its specification asks for")
        }
        Violation::StartedTooSoon(_) => {
            format!("{m} was started before its backoff, or its turn, was over")
        }
        Violation::StartNotFailed(_) => format!(
            "the required {m} was given up during the initial startup, which went on regardless"
        ),
        Violation::FalseStatus(_) => {
            format!("the status of the system is better than the required {m} is")
        }
        Violation::TokenHeld(_) => format!("{m} kept its restart token although its start hangs"),
        Violation::WatchdogSleeps(_) => {
            format!("{m} does not feed its watchdog, and its run goes on")
        }
        Violation::NeedGone(_, need) => {
            format!(
                "{m} goes on although {}, which it needs, was given up",
                name(*need)
            )
        }
        Violation::AttemptsKept(_) => {
            format!("{m} has run well for long, and its attempts are not paid back")
        }
        Violation::Endless => {
            "the policy returns effects, or takes steps, without end: who and what \
                               is repeated at the end of the timeline, as a deadline that stays due"
                .to_owned()
        }
        Violation::NotDeterministic => {
            "the same seed gave two different histories: something is not an argument".to_owned()
        }
        _ => format!("{violation:?}"),
    }
}

/// The modules of a plan, one a line.
#[must_use]
pub fn plan(plan: &Plan) -> String {
    let mut text = String::new();
    for module in plan.modules() {
        let kind = format!("{:?}", module.kind).to_lowercase();
        let lazy = if module.start == StartMode::Lazy {
            " lazy"
        } else {
            ""
        };
        let required = if module.required { " required" } else { "" };
        let needs: Vec<String> = module.edges.iter().map(edge).collect();
        let needs = match needs.is_empty() {
            true => String::new(),
            false => format!("  {}", needs.join(", ")),
        };
        let _infallible = writeln!(
            text,
            "  {:<4} {kind}{lazy}{required}{needs}  {}",
            name(module.id),
            recovery(&module.recovery)
        );
    }
    let groups = &plan.system().groups;
    for group in groups.iter().filter(|group| !group.members.is_empty()) {
        let members = group.members.iter().map(|member| match member {
            GroupMember::Module(module) => name(*module),
            GroupMember::Group(group) => groups[group.0 as usize].name.clone(),
        });
        let members: Vec<String> = members.collect();
        let _infallible = writeln!(
            text,
            "  {:<4} group of {}: {:?}, {} restarts in {:?}, then {:?}",
            group.name,
            members.join(" "),
            group.strategy,
            group.max_restarts,
            group.within,
            group.on_exceeded
        );
    }
    text
}

fn edge(edge: &Edge) -> String {
    let verb = if edge.hard { "requires" } else { "wants" };
    let until = format!("{:?}", edge.until).to_lowercase();
    format!("{verb} {} ({until})", name(edge.to))
}

fn recovery(recovery: &RecoverySpec) -> String {
    let attempts = match recovery.max_attempts {
        0 => "unlimited attempts".to_owned(),
        1 => format!("1 attempt in {:?}", recovery.window),
        n => format!("{n} attempts in {:?}", recovery.window),
    };
    let probation = match &recovery.probation {
        Some(probation) => format!("probation after {:?}", probation.initial),
        None => "no probation".to_owned(),
    };
    let auto = if recovery.auto { "" } else { ", by hand" };
    format!(
        "restart {:?}, {attempts}, ladder {:?}, {probation}{auto}",
        recovery.restart, recovery.on_failure
    )
}

/// Why a module is where it is, as the policy tells it.
#[must_use]
pub fn why(lifecycle: &Lifecycle, module: ModuleId) -> String {
    let view = lifecycle.view(module);
    let m = name(module);
    let by = view
        .by
        .map_or_else(String::new, |by| format!(" by {}", name(by)));
    let state = format!("{:?}", view.state).to_lowercase();
    let cause = format!("{:?}", view.cause).to_lowercase();
    let mut text = format!(
        "  {m} is {state} since {} (cause {cause}{by}), run {}, desired {}.\n",
        seconds(view.since),
        view.generation,
        format!("{:?}", view.desired).to_lowercase(),
    );
    let mut say = |line: String| {
        let _infallible = writeln!(text, "  {line}");
    };
    if let Some(last) = view.last_ending {
        say(format!("Its last run ended: {last:?}."));
    }
    if view.attempts > 0 {
        say(format!("Attempts that count: {}.", view.attempts));
    }
    if view.on_trial {
        say("It is on probation.".to_owned());
    }
    if !view.waiting_on.is_empty() {
        say(format!("It waits for {}.", names(&view.waiting_on)));
    }
    if let Some(failed) = view.held_by_failed {
        say(format!("It is held by {}, which has failed.", name(failed)));
    }
    if !view.token_holders.is_empty() {
        say(format!(
            "Restart tokens are held by {}.",
            names(&view.token_holders)
        ));
    }
    match (view.retry_at, view.state) {
        (Some(at), _) => say(format!("Next: one more try at {}.", seconds(at))),
        (None, State::Failed) if view.desired == Desired::Up => {
            say("Next: nothing, until it is requested.".to_owned());
        }
        _ => {}
    }
    let spec = lifecycle.spec(module);
    for edge in spec.iter().flat_map(|(spec, _)| &spec.edges) {
        let need = lifecycle.view(edge.to);
        let state = format!("{:?}", need.state).to_lowercase();
        let verb = if edge.hard { "requires" } else { "wants" };
        say(format!("It {verb} {}, which is {state}.", name(edge.to)));
    }
    say(format!("The system is {:?}.", lifecycle.status()));
    text
}

/// Where the system is, if a violation names no module.
#[must_use]
pub fn system(lifecycle: &Lifecycle) -> String {
    let system = lifecycle.system();
    let mut text = format!("  The system is {:?}.\n", system.status);
    let all = [
        ("Failed", &system.failing),
        ("Not well", &system.degraded),
        ("Not running", &system.missing),
        ("Stopped on request", &system.stopped),
    ];
    for (what, modules) in all.iter().filter(|(_, modules)| !modules.is_empty()) {
        let _infallible = writeln!(text, "  {what}: {}.", names(modules));
    }
    if let Some(at) = lifecycle.deadline() {
        let _infallible = writeln!(text, "  Its next deadline is {}.", seconds(at));
    }
    text
}
