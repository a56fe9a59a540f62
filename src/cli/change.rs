//! `start`, `stop`, `restart`, `recover`: requests the change, waits for it, prints its result.
//! Owns the rule when a change counts as failed.
//! Never retries: recovery belongs to the runtime.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use mainstay_client::Error as ClientError;
use mainstay_client::blocking::Client;
use mainstay_protocol::enums::{CliExitCode, ModuleKind, ModuleState};
use mainstay_protocol::method::{ChangeAction, ChangeParams, ChangeResult, name};
use mainstay_protocol::{ModuleView, RequestError, Timestamp};

use super::args::{ChangeArgs, GlobalArgs, StartArgs};
use super::error::CliError;
use super::progress::Progress;
use super::run::after_a_moment;
use super::status::state_colour;
use super::system_locator::SystemLocator;
use super::table::TextTable;
use super::terminal::{self, Terminal};
use super::{format, module_details, warnings};

/// One of the four verbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeVerb {
    Start,
    Stop,
    Restart,
    Recover,
}

impl ChangeVerb {
    fn method(self) -> &'static str {
        match self {
            ChangeVerb::Start => name::MODULE_START,
            ChangeVerb::Stop => name::MODULE_STOP,
            ChangeVerb::Restart => name::MODULE_RESTART,
            ChangeVerb::Recover => name::RECOVERY_ACCEPT,
        }
    }

    fn doing(self) -> &'static str {
        match self {
            ChangeVerb::Start => "starting",
            ChangeVerb::Stop => "stopping",
            ChangeVerb::Restart => "restarting",
            ChangeVerb::Recover => "recovering",
        }
    }
}

/// Modules that are changed at a time; the runtime works on 64 requests of a connection at once.
const TOGETHER_MAX: usize = 32;

/// Starts modules; with `wait`, returns when the tasks among them are done.
pub(crate) fn start(args: &StartArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let instance = SystemLocator::find(global)?;
    let begun = begin();
    let (code, results) = change(&instance, ChangeVerb::Start, &args.change)?;
    let mut code = code;
    if !args.wait {
        return Ok(code);
    }
    let mut client = instance.connect()?;
    let tasks = results.into_iter().map(|result| result.module);
    for task in tasks.filter(|module| module.kind == ModuleKind::Task) {
        let end = super::run::wait_for_end(&instance, &mut client, &task)?;
        if !end.is_done() {
            code = CliExitCode::Failed;
        }
        // It was over when its change was printed.
        let was_over = super::run::is_over(&task, task.generation.saturating_sub(1));
        if !args.change.json && !was_over {
            let took = begun.elapsed();
            terminal::print_text(&outcome(&end, Some(took), Terminal::of_stdout()))?;
        }
    }
    Ok(code)
}

pub(crate) fn run(
    verb: ChangeVerb,
    args: &ChangeArgs,
    global: &GlobalArgs,
) -> Result<CliExitCode, CliError> {
    let instance = SystemLocator::find(global)?;
    change(&instance, verb, args).map(|(code, _)| code)
}

/// Changes all modules together, after every name was checked: one wrong name and none is touched.
/// A module that fails does not hold up the others; the first code that is not 0 counts.
fn change(
    instance: &SystemLocator,
    change: ChangeVerb,
    args: &ChangeArgs,
) -> Result<(CliExitCode, Vec<ChangeResult>), CliError> {
    let (mut client, since) = (instance.connect_to_change()?, terminal::now());
    if args.modules.len() > 1 {
        let refused = check_all(&mut client, change, args)?;
        if refused != CliExitCode::Ok {
            return Ok((refused, Vec::new()));
        }
    }
    let mut results: Vec<Option<ChangeResult>> = vec![None; args.modules.len()];
    let mut code = CliExitCode::Ok;
    for (batch, modules) in args.modules.chunks(TOGETHER_MAX).enumerate() {
        let first = batch * TOGETHER_MAX;
        let mut unanswered: Vec<bool> = vec![true; modules.len()];
        let sent = send(
            (&mut client, instance),
            change,
            modules,
            args,
            |index, result| {
                unanswered[index] = false;
                match result {
                    Ok((result, shown)) => {
                        results[first + index] = Some(result);
                        shown
                    }
                    Err(refusal) => Ok(CliError::Client(refusal.into()).print()),
                }
            },
        );
        let ended = match sent {
            Err(CliError::Client(ClientError::Closed { .. })) => {
                client = instance.connect_again()?;
                let names = modules.iter().zip(&unanswered).filter(|(_, is)| **is);
                let mut ended = CliExitCode::Ok;
                for (module, _) in names {
                    ended = reconnected_error(&mut client, change, module)?.print();
                }
                ended
            }
            sent => sent?,
        };
        if code == CliExitCode::Ok {
            code = ended;
        }
    }
    let results: Vec<ChangeResult> = results.into_iter().flatten().collect();
    warn(&mut client, change, args, (since, &results));
    match (&results[..], args.json) {
        (_, false) | ([], _) => {}
        ([only], true) if args.modules.len() == 1 => terminal::print_json(only)?,
        (all, true) => terminal::print_json(&all)?,
    }
    Ok((code, results))
}

/// Says on stderr what the results do not.
fn warn(
    client: &mut Client,
    change: ChangeVerb,
    args: &ChangeArgs,
    (since, results): (Timestamp, &[ChangeResult]),
) {
    if args.dry_run {
        return;
    }
    if matches!(change, ChangeVerb::Stop | ChangeVerb::Restart) && !args.no_wait {
        warnings::tell_of_kills(client, since, results);
    }
    if matches!(change, ChangeVerb::Start | ChangeVerb::Restart) {
        warnings::tell_of_files(client);
    }
}

/// Prints an error for each name that cannot be changed; `Ok`: there is none.
fn check_all(
    client: &mut Client,
    change: ChangeVerb,
    args: &ChangeArgs,
) -> Result<CliExitCode, CliError> {
    let known = client.modules()?;
    let can_be_changed = |name: &String| {
        let mut all = known.iter();
        all.any(|it| {
            it.module == *name && (change == ChangeVerb::Start || it.kind != ModuleKind::Builtin)
        })
    };
    let mut code = CliExitCode::Ok;
    for module in args.modules.iter().filter(|name| !can_be_changed(name)) {
        let params = params(module, args, true);
        if let Err(error) = client.change(change.method(), &params) {
            code = CliError::Client(error).print();
        }
    }
    if code != CliExitCode::Ok && !args.dry_run {
        terminal::print_error("nothing was changed");
    }
    Ok(code)
}

/// A result, and the exit code after it was printed.
type Shown = (ChangeResult, Result<CliExitCode, CliError>);

/// Requests the changes and prints each result as it arrives; returns the first exit code of
/// `on_result` that is not 0.
fn send(
    (client, instance): (&mut Client, &SystemLocator),
    change: ChangeVerb,
    modules: &[String],
    args: &ChangeArgs,
    mut on_result: impl FnMut(usize, Result<Shown, RequestError>) -> Result<CliExitCode, CliError>,
) -> Result<CliExitCode, CliError> {
    let params: Vec<ChangeParams> = modules
        .iter()
        .map(|module| params(module, args, args.dry_run))
        .collect();
    let (begun, screen) = (begin(), Terminal::of_stdout());
    let progress = Progress::start(format!("{} {}", change.doing(), names(modules)));
    let (mut code, mut failure) = (CliExitCode::Ok, None);
    client.change_all(change.method(), &params, |index, result| {
        progress.clear();
        let shown = result.map(|result| {
            let is_asked = change != ChangeVerb::Stop && !args.no_wait && !args.dry_run;
            let result = match is_asked {
                true => ChangeResult {
                    module: after_a_moment(instance, result.module),
                    ..result
                },
                false => result,
            };
            let shown = show(change, &result, args, begun.elapsed(), screen);
            (result, shown)
        });
        match on_result(index, shown) {
            Ok(next) if code == CliExitCode::Ok => code = next,
            Ok(_) => {}
            Err(error) => failure = Some(error),
        }
    })?;
    failure.map_or(Ok(code), Err)
}

#[expect(clippy::disallowed_methods, reason = "how long a person waited")]
fn begin() -> Instant {
    Instant::now()
}

fn names(modules: &[String]) -> Cow<'_, str> {
    match modules {
        [only] => format::single_line(only),
        all => Cow::Owned(format!("{} modules", all.len())),
    }
}

fn params(module: &str, args: &ChangeArgs, dry_run: bool) -> ChangeParams {
    ChangeParams {
        module: module.to_owned(),
        dry_run,
        wait: !args.no_wait && !dry_run,
    }
}

/// Prints a result; returns its exit code.
fn show(
    change: ChangeVerb,
    result: &ChangeResult,
    args: &ChangeArgs,
    took: Duration,
    screen: Terminal,
) -> Result<CliExitCode, CliError> {
    if !args.json {
        terminal::print_text(&render(change, result, args, took, screen))?;
    }
    let waited = !args.dry_run && !args.no_wait;
    let overtaken = result.overtaken_by.is_some();
    let failed = has_failed(&result.module) || overtaken || is_unfinished(&result.module);
    Ok(if waited && failed {
        CliExitCode::Failed
    } else {
        CliExitCode::Ok
    })
}

/// Returns the error after the connection was lost before the reply and came back: whether the
/// request was applied is unknown, and it is not repeated.
fn reconnected_error(
    client: &mut Client,
    change: ChangeVerb,
    module: &str,
) -> Result<CliError, CliError> {
    let module = client.module(module)?;
    let (name, state) = (format::single_line(&module.module), module.state);
    let text = format!(
        "cannot say how {} {name} ended: the runtime was replaced meanwhile; {name} is {state} \
         now, and `mainstay why {name}` tells more",
        change.doing()
    );
    Ok(CliError::new(CliExitCode::Failed, text))
}

/// Returns whether the module is still changing after the wait.
fn is_unfinished(module: &ModuleView) -> bool {
    matches!(
        module.state,
        ModuleState::Waiting | ModuleState::Starting | ModuleState::Stopping
    )
}

fn has_failed(module: &ModuleView) -> bool {
    matches!(module.state, ModuleState::Failed | ModuleState::Backoff)
}

fn render(
    change: ChangeVerb,
    result: &ChangeResult,
    args: &ChangeArgs,
    took: Duration,
    screen: Terminal,
) -> String {
    let mut out = String::new();
    let mut table = TextTable::new(result.steps.len(), [false; 3]);
    for step in &result.steps {
        let action = action(step.action, args.dry_run);
        let cells = [
            Cow::Owned(action),
            format::single_line(&step.module),
            format::single_line(&step.reason),
        ];
        table.row(cells.map(|cell| (cell, None)));
    }
    table.render(&mut out, 2, screen);
    if args.dry_run {
        if result.steps.is_empty() {
            out.push_str("nothing would happen\n");
        }
        return out;
    }
    let took = (!args.no_wait).then_some(took);
    match &result.overtaken_by {
        Some(other) => {
            state(&mut out, &result.module, took, screen);
            out.push_str(&format!(": overtaken, {}\n", format::single_line(other)));
        }
        None if change == ChangeVerb::Stop && is_untouched(result) => {
            out.push_str(&module_details::was_down(&result.module));
        }
        None => out.push_str(&outcome(&result.module, took, screen)),
    }
    out
}

/// Whether a stop found its module down, after a run.
fn is_untouched(result: &ChangeResult) -> bool {
    let module = &result.module;
    let mut steps = result.steps.iter();
    let is_own = steps.any(|step| step.module == module.module);
    !is_own && module.state == ModuleState::Stopped && module.last_exit.is_some()
}

fn state(out: &mut String, module: &ModuleView, took: Option<Duration>, screen: Terminal) {
    out.push_str(&format::single_line(&module.module));
    let (verb, word) = match module.state {
        _ if module.is_done() => ("is", "done"),
        ModuleState::Failed => ("has", "failed"),
        ModuleState::Backoff => ("is", "in backoff"),
        ModuleState::NotStarted => ("is", "not started"),
        _ => ("is", module.state.as_str()),
    };
    out.push_str(&format!(" {verb} "));
    screen.paint(out, state_colour(module.state), word);
    if let Some(pid) = module.pid {
        out.push_str(&format!(" (pid {pid})"));
    }
    if let Some(took) = took {
        out.push_str(&format!(" after {}", format::compact_duration(took)));
    }
}

/// The state of a module, and why it is not up.
fn outcome(module: &ModuleView, took: Option<Duration>, screen: Terminal) -> String {
    let mut out = String::new();
    state(&mut out, module, took, screen);
    if module.kind == ModuleKind::Task && module.state == ModuleState::Running {
        out.push_str(", and not done yet");
    }
    let ended = module.attempts > 0 && module.state == ModuleState::Running;
    let ended = ended.then(|| module_details::reason_text(module)).flatten();
    if let Some(reason) = ended {
        out.push_str(&format!(" again; it ended before: {reason}"));
    }
    let waits = module.state == ModuleState::Waiting;
    let failure = match module.failed_need.as_ref().filter(|_| waits) {
        Some(_) => module_details::waits_for(module).map(|waits| format!("waits for {waits}")),
        None => module_details::failure_text(module),
    };
    if let Some(text) = failure {
        out.push_str(&format!(": {text}"));
        out.push_str(&format!(
            "; `mainstay why {}` tells more",
            format::single_line(&module.module)
        ));
    }
    out.push('\n');
    out
}

fn action(action: ChangeAction, dry_run: bool) -> String {
    let would = if dry_run { "would " } else { "" };
    format!("{would}{action}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::module_details::tests::golden;

    fn result() -> ChangeResult {
        let reply = golden("module.restart")["reply"]["result"].clone();
        serde_json::from_value(reply).expect("a result")
    }

    fn changed(dry_run: bool, no_wait: bool) -> ChangeArgs {
        ChangeArgs {
            modules: vec!["storage".to_owned()],
            dry_run,
            no_wait,
            json: false,
        }
    }

    fn said(args: &ChangeArgs) -> String {
        let reached = ChangeResult {
            overtaken_by: None,
            ..result()
        };
        render(
            ChangeVerb::Restart,
            &reached,
            args,
            Duration::from_millis(2500),
            Terminal::default(),
        )
    }

    #[test]
    fn steps_and_outcome_are_told() {
        let expected = "  stop     analysis-engine  it requires storage
  restart  storage          asked for
  start    analysis-engine  it is wanted up
  notify   metrics          it wants storage
storage is in backoff (pid 4711) after 2s: exit code 1; `mainstay why storage` tells more
";
        assert_eq!(said(&changed(false, false)), expected);
        assert!(said(&changed(false, true)).contains("storage is in backoff (pid 4711): exit"));
        let mut again = result().module;
        (again.state, again.attempts) = (ModuleState::Running, 1);
        let text = outcome(&again, None, Terminal::default());
        assert!(
            text.contains(" again; it ended before: exit code 1"),
            "{text}"
        );
    }

    #[test]
    fn an_overtaken_change_names_the_request_that_overtook_it() {
        let waited = Duration::from_secs(2);
        let text = render(
            ChangeVerb::Restart,
            &result(),
            &changed(false, false),
            waited,
            Terminal::default(),
        );
        assert!(
            text.contains("after 2s: overtaken, cli (uid 1000"),
            "{text}"
        );
    }

    #[test]
    fn a_dry_run_says_would_and_no_outcome() {
        let text = said(&changed(true, false));
        assert!(
            text.starts_with("  would stop     analysis-engine"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 4);
        let nothing = ChangeResult {
            steps: Vec::new(),
            ..result()
        };
        let text = render(
            ChangeVerb::Restart,
            &nothing,
            &changed(true, false),
            Duration::ZERO,
            Terminal::default(),
        );
        assert_eq!(text, "nothing would happen\n");
    }

    #[test]
    fn a_stop_of_what_has_failed_says_that_it_was_down() {
        let mut failed = result();
        (failed.steps, failed.overtaken_by) = (Vec::new(), None);
        failed.module.state = ModuleState::Stopped;
        failed.module.reason = Some("exit code 17".to_owned());
        let (args, took) = (changed(false, false), Duration::ZERO);
        let text = render(ChangeVerb::Stop, &failed, &args, took, Terminal::default());
        let expected = "storage was down already (exit code 17); it is not started again\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn only_given_up_or_backing_off_counts_as_failed() {
        let mut module = result().module;
        for state in ModuleState::ALL {
            module.state = *state;
            let failed = matches!(state.as_str(), "failed" | "backoff");
            assert_eq!(has_failed(&module), failed, "{state}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_wish_whose_answer_was_lost_is_not_repeated_and_not_called_well() {
        use crate::cli::fake::{FakePeer, FakeServer};
        use serde_json::json;

        let asked = |peer: &mut FakePeer| {
            peer.hears(name::MODULE_RESTART);
        };
        let back = |peer: &mut FakePeer| {
            peer.answers(name::MODULE_GET, json!(result().module));
        };
        let fake = FakeServer::start(vec![Box::new(asked), Box::new(back)]);
        let instance = fake.instance();
        let mut client = instance.connect().expect("connected");
        let args = changed(false, false);
        let storage = ["storage".to_owned()];
        let gone = send(
            (&mut client, &instance),
            ChangeVerb::Restart,
            &storage,
            &args,
            |_, _| Ok(CliExitCode::Ok),
        );
        let gone = gone.expect_err("lost");
        assert!(
            matches!(gone, CliError::Client(ClientError::Closed { .. })),
            "{gone}"
        );
        let mut client = instance.connect_again().expect("back");
        let told = reconnected_error(&mut client, ChangeVerb::Restart, "storage").expect("told");
        assert_eq!(told.code(), CliExitCode::Failed);
        let text = told.to_string();
        assert!(
            text.contains("was replaced meanwhile; storage is backoff now"),
            "{text}"
        );
        fake.ends();
    }

    #[cfg(unix)]
    #[test]
    fn it_waits_unless_told_otherwise() {
        use crate::cli::fake::{FakePeer, FakeServer};
        use serde_json::json;

        let fake = FakeServer::start(vec![Box::new(|peer: &mut FakePeer| {
            let reply = json!(result());
            let asked = peer.answers(name::MODULE_STOP, reply.clone());
            assert_eq!(asked, json!({"module": "storage", "wait": true}));
            let asked = peer.answers(name::MODULE_START, reply.clone());
            assert_eq!(asked, json!({"module": "storage", "dry_run": true}));
            let asked = peer.answers(name::MODULE_RESTART, reply);
            assert_eq!(asked, json!({"module": "storage"}));
        })]);
        let instance = fake.instance();
        let mut client = instance.connect().expect("connected");
        for (change, args) in [
            (ChangeVerb::Stop, changed(false, false)),
            (ChangeVerb::Start, changed(true, false)),
            (ChangeVerb::Restart, changed(false, true)),
        ] {
            let storage = ["storage".to_owned()];
            let mut told = None;
            let sent = send(
                (&mut client, &instance),
                change,
                &storage,
                &args,
                |_, result| {
                    let (result, shown) = result.expect("a result");
                    told = Some(result);
                    shown
                },
            );
            sent.expect("answered");
            assert_eq!(told, Some(result()));
        }
        fake.ends();
    }
}
