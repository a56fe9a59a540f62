//! `start`, `stop`, `restart`: ask, wait, say what came along and how it ended.
//! Owns when a change counts as failed.
//! Never tries again by itself: recovery is mainstay's business.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use mainstay_client::Error as ClientError;
use mainstay_client::blocking::Client;
use mainstay_protocol::ModuleView;
use mainstay_protocol::method::{ChangeAction, ChangeParams, ChangeResult, name};
use mainstay_protocol::words::{ExitCode, State};

use super::args::{Changed, Global};
use super::failure::Failure;
use super::instance::Instance;
use super::progress::Progress;
use super::screen::{self, Screen};
use super::status::state_colour;
use super::table::Table;
use super::{block, human};

/// Which of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Start,
    Stop,
    Restart,
}

impl Change {
    fn method(self) -> &'static str {
        match self {
            Change::Start => name::MODULE_START,
            Change::Stop => name::MODULE_STOP,
            Change::Restart => name::MODULE_RESTART,
        }
    }

    fn doing(self) -> &'static str {
        match self {
            Change::Start => "starting",
            Change::Stop => "stopping",
            Change::Restart => "restarting",
        }
    }
}

/// One module after the other. One that fails does not hold the others; the first code counts.
#[expect(clippy::disallowed_methods, reason = "how long a person waited")]
pub(crate) fn run(change: Change, args: &Changed, global: &Global) -> Result<ExitCode, Failure> {
    let instance = Instance::find(global)?;
    let mut client = instance.connect()?;
    let screen = Screen::of_stdout();
    let mut code = ExitCode::Ok;
    let mut results = Vec::new();
    for module in &args.modules {
        let begun = Instant::now();
        let ended = match ask(&mut client, change, module, args) {
            Ok(result) => {
                if !args.json {
                    let took = begun.elapsed();
                    screen::print(&render(&result, args, took, screen))?;
                }
                let failed = !args.dry_run && !args.no_wait && has_failed(&result.module);
                results.push(result);
                if failed {
                    ExitCode::Failed
                } else {
                    ExitCode::Ok
                }
            }
            Err(failure @ Failure::Client(ClientError::Refused(_))) => failure.tell(),
            Err(Failure::Client(ClientError::Closed { .. })) => {
                client = instance.connect_again()?;
                lost(&mut client, change, module)?.tell()
            }
            Err(failure) => return Err(failure),
        };
        if code == ExitCode::Ok {
            code = ended;
        }
    }
    match (&results[..], args.json) {
        (_, false) | ([], _) => {}
        ([only], true) if args.modules.len() == 1 => screen::print_json(only)?,
        (all, true) => screen::print_json(&all)?,
    }
    Ok(code)
}

fn ask(
    client: &mut Client,
    change: Change,
    module: &str,
    args: &Changed,
) -> Result<ChangeResult, Failure> {
    let wait = !args.no_wait && !args.dry_run;
    let params = ChangeParams {
        module: module.to_owned(),
        dry_run: args.dry_run,
        wait,
    };
    let _progress = Progress::start(format!("{} {}", change.doing(), human::clean(module)));
    Ok(client.change(change.method(), &params)?)
}

/// The connection was lost before the answer, and is back. Whether the wish was taken nobody knows
/// then: it is not repeated.
fn lost(client: &mut Client, change: Change, module: &str) -> Result<Failure, Failure> {
    let module = client.module(module)?;
    let (name, state) = (human::clean(&module.module), module.state);
    let text = format!(
        "cannot say how {} {name} ended: the runtime was replaced meanwhile; {name} is {state} \
         now, and `mainstay why {name}` tells more",
        change.doing()
    );
    Ok(Failure::new(ExitCode::Failed, text))
}

fn has_failed(module: &ModuleView) -> bool {
    matches!(module.state, State::Failed | State::Backoff)
}

fn render(result: &ChangeResult, args: &Changed, took: Duration, screen: Screen) -> String {
    let mut out = String::new();
    let mut table = Table::new(result.steps.len(), [false; 3]);
    for step in &result.steps {
        let action = action(step.action, args.dry_run);
        let cells = [
            Cow::Owned(action),
            human::clean(&step.module),
            human::clean(&step.reason),
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
    let module = &result.module;
    out.push_str(&human::clean(&module.module));
    out.push_str(" is ");
    screen.paint(&mut out, state_colour(module.state), module.state.as_str());
    if let Some(pid) = module.pid {
        out.push_str(&format!(" (pid {pid})"));
    }
    if !args.no_wait {
        out.push_str(&format!(" after {}", human::span(took)));
    }
    if let Some(text) = block::failure_text(module) {
        out.push_str(&format!(": {text}"));
        out.push_str(&format!(
            "; `mainstay why {}` tells more",
            human::clean(&module.module)
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
    use crate::cli::block::tests::golden;

    fn result() -> ChangeResult {
        let reply = golden("module.restart")["reply"]["result"].clone();
        serde_json::from_value(reply).expect("a result")
    }

    fn changed(dry_run: bool, no_wait: bool) -> Changed {
        Changed {
            modules: vec!["storage".to_owned()],
            dry_run,
            no_wait,
            json: false,
        }
    }

    fn said(args: &Changed) -> String {
        render(
            &result(),
            args,
            Duration::from_millis(2500),
            Screen::default(),
        )
    }

    #[test]
    fn steps_and_outcome_are_told() {
        let expected = "  stop     analysis-engine  it requires storage
  restart  storage          asked for
  start    analysis-engine  it is wanted up
  tell     metrics          it wants storage
storage is backoff (pid 4711) after 2s: exit code 1; `mainstay why storage` tells more
";
        assert_eq!(said(&changed(false, false)), expected);
        assert!(said(&changed(false, true)).contains("storage is backoff (pid 4711): exit"));
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
            &nothing,
            &changed(true, false),
            Duration::ZERO,
            Screen::default(),
        );
        assert_eq!(text, "nothing would happen\n");
    }

    #[test]
    fn only_given_up_or_backing_off_counts_as_failed() {
        let mut module = result().module;
        for state in State::ALL {
            module.state = *state;
            let failed = matches!(state.as_str(), "failed" | "backoff");
            assert_eq!(has_failed(&module), failed, "{state}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_wish_whose_answer_was_lost_is_not_repeated_and_not_called_well() {
        use crate::cli::fake::{Fake, Peer};
        use serde_json::json;

        let asked = |peer: &mut Peer| {
            peer.hears(name::MODULE_RESTART);
        };
        let back = |peer: &mut Peer| {
            peer.answers(name::MODULE_GET, json!(result().module));
        };
        let fake = Fake::plays(vec![Box::new(asked), Box::new(back)]);
        let instance = fake.instance();
        let mut client = instance.connect().expect("connected");
        let args = changed(false, false);
        let gone = ask(&mut client, Change::Restart, "storage", &args).expect_err("lost");
        assert!(
            matches!(gone, Failure::Client(ClientError::Closed { .. })),
            "{gone}"
        );
        let mut client = instance.connect_again().expect("back");
        let told = lost(&mut client, Change::Restart, "storage").expect("told");
        assert_eq!(told.code(), ExitCode::Failed);
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
        use crate::cli::fake::{Fake, Peer};
        use serde_json::json;

        let fake = Fake::plays(vec![Box::new(|peer: &mut Peer| {
            let reply = json!(result());
            let asked = peer.answers(name::MODULE_STOP, reply.clone());
            assert_eq!(asked, json!({"module": "storage", "wait": true}));
            let asked = peer.answers(name::MODULE_START, reply.clone());
            assert_eq!(asked, json!({"module": "storage", "dry_run": true}));
            let asked = peer.answers(name::MODULE_RESTART, reply);
            assert_eq!(asked, json!({"module": "storage"}));
        })]);
        let mut client = fake.instance().connect().expect("connected");
        for (change, args) in [
            (Change::Stop, changed(false, false)),
            (Change::Start, changed(true, false)),
            (Change::Restart, changed(false, true)),
        ] {
            let told = ask(&mut client, change, "storage", &args).expect("answered");
            assert_eq!(told, result());
        }
        fake.ends();
    }
}
