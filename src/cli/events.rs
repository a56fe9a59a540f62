//! `events`: prints past events, one per line, and new ones with `-f`.
//! Owns the transition from past to new events, without a gap, and which of them are shown.
//! Never prints an event twice.

use mainstay_client::Error as ClientError;
use mainstay_client::blocking::Client;
use mainstay_protocol::enums::CliExitCode;
use mainstay_protocol::method::EventsParams;
use mainstay_protocol::{ErrorCode, Event};

use super::args::{EventsArgs, EventsSince, GlobalArgs};
use super::error::CliError;
use super::history::OfflineHistory;
use super::system_locator::SystemLocator;
use super::terminal::Terminal;
use super::wrapping::wrap_line;
use super::{event_line, format, terminal};

/// Past events that are shown by default, and when new ones are followed.
const USUAL: usize = 100;
const LEAD_IN: usize = 10;
/// As many events are read for each one that is shown.
const BRIEF_SHARE: usize = 8;
/// Events that are read at most.
const EVENTS_MAX: usize = 10_000;

pub(crate) fn run(args: &EventsArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let instance = SystemLocator::find(global)?;
    let mut shown = Shown::new(args);
    let params = asked(args)?;
    match instance.connect_to_show(&[]) {
        Ok(client) => {
            watch(&instance, client, args.follow, params, &mut |events| {
                shown.print(events)
            })?;
            Ok(CliExitCode::Ok)
        }
        Err(failure) => {
            let history = OfflineHistory::fallback_for(failure, global)?;
            past(&history, args, &params, &mut shown)
        }
    }
}

/// Prints the events of a system that is not running.
fn past(
    history: &OfflineHistory,
    args: &EventsArgs,
    params: &EventsParams,
    shown: &mut Shown,
) -> Result<CliExitCode, CliError> {
    shown.print(&history.events(params)?)?;
    if args.follow {
        let text = "cannot follow events: the system is not running; start it with `mainstay up`";
        return Err(CliError::new(CliExitCode::NotRunning, text));
    }
    Ok(CliExitCode::Ok)
}

fn asked(args: &EventsArgs) -> Result<EventsParams, CliError> {
    let (since, since_time) = match args.since {
        None => (None, None),
        Some(EventsSince::Seq(seq)) => (Some(seq), None),
        Some(EventsSince::Time(time)) => {
            let at = time.resolve(&format::zoned_now()).map_err(|error| {
                let text = format!("cannot use this time: {error}; name a later one");
                CliError::new(CliExitCode::Usage, text)
            })?;
            (None, Some(at))
        }
    };
    let wanted = wanted(args);
    Ok(EventsParams {
        since,
        since_time,
        kinds: args.kinds.clone(),
        module: args.module.clone(),
        administrative: false,
        // Some of them are not shown.
        limit: match is_brief(args) {
            true => Some((wanted * BRIEF_SHARE).min(EVENTS_MAX)),
            false => Some(wanted),
        },
    })
}

/// How many past events are to be shown.
fn wanted(args: &EventsArgs) -> usize {
    args.limit.unwrap_or(match (args.since, args.follow) {
        (Some(_), _) => EVENTS_MAX,
        (None, true) => LEAD_IN,
        (None, false) => USUAL,
    })
}

/// Whether events that only repeat or prepare another one are left out.
fn is_brief(args: &EventsArgs) -> bool {
    !args.full && !args.json && args.kinds.is_empty()
}

/// How events are printed.
struct Shown {
    json: bool,
    brief: bool,
    /// Past events that may still be printed; they come first.
    past: Option<usize>,
}

impl Shown {
    fn new(args: &EventsArgs) -> Shown {
        Shown {
            json: args.json,
            brief: is_brief(args),
            past: Some(wanted(args)),
        }
    }

    fn print(&mut self, events: &[Event]) -> Result<(), CliError> {
        if self.json {
            return events.iter().try_for_each(terminal::print_json_line);
        }
        let events = events.iter();
        let mut events: Vec<&Event> = events
            .filter(|event| !self.brief || event_line::is_essential(event))
            .collect();
        if let Some(past) = self.past.take() {
            events.drain(..events.len().saturating_sub(past));
        }
        let (mut out, screen) = (String::new(), Terminal::of_stdout());
        for event in events {
            let (line, indent) = match self.brief {
                true => event_line::brief(event, terminal::now()),
                false => event_line::line(event),
            };
            wrap_line(&mut out, &line, screen.width.unwrap_or(usize::MAX), indent);
        }
        terminal::print(&out)
    }
}

type Show<'a> = dyn FnMut(&[Event]) -> Result<(), CliError> + 'a;

fn watch(
    instance: &SystemLocator,
    mut client: Client,
    is_following: bool,
    mut params: EventsParams,
    show: &mut Show<'_>,
) -> Result<(), CliError> {
    // With `since` no list is needed: the subscription replays the events.
    if !is_following || params.since.is_none() {
        let past = client.events(&params)?;
        show(&past)?;
        params.since = past.last().map(|event| event.seq).or(params.since);
    }
    (params.limit, params.since_time) = (None, None);
    if !is_following {
        return Ok(());
    }
    loop {
        follow(client, &mut params, show)?;
        client = match instance.connect_again() {
            Err(CliError::NotRunning { .. }) if instance.is_leaving() => {
                terminal::print_error(&format!("mainstay '{}' was stopped", instance.name));
                return Ok(());
            }
            connected => connected?,
        };
    }
}

/// Prints events until the connection is lost; `since` is then the last one printed.
fn follow(client: Client, params: &mut EventsParams, show: &mut Show<'_>) -> Result<(), CliError> {
    let (subscribed, events) = match client.subscribe(params) {
        Err(ClientError::Closed { .. }) => return Ok(()),
        subscribed => subscribed?,
    };
    params.since.get_or_insert(subscribed.seq);
    for event in events {
        match event {
            Ok(event) => {
                params.since = Some(event.seq);
                show(&[event])?;
            }
            Err(ClientError::Closed { .. }) => break,
            Err(ClientError::Refused(refusal)) if resumes(refusal.data.code) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Returns whether a new subscription can continue after the last event.
fn resumes(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::Timeout | ErrorCode::ShuttingDown)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::cli::fake::{FakePeer, FakeServer};
    use mainstay_protocol::method::name;
    use serde_json::{Value, json};

    fn event(seq: u64) -> Value {
        json!({"seq": seq, "at": "2026-11-20T12:00:00.000Z", "kind": "module.ready"})
    }

    /// The numbers that were shown, and how it ended.
    fn watched(fake: &FakeServer, args: &EventsArgs) -> (Vec<u64>, Result<(), CliError>) {
        let mut seen = Vec::new();
        let instance = fake.instance();
        let client = instance.connect().expect("the fake answers");
        let params = asked(args).expect("no time");
        let ended = watch(&instance, client, args.follow, params, &mut |events| {
            seen.extend(events.iter().map(|event| event.seq));
            Ok(())
        });
        (seen, ended)
    }

    fn args(follow: bool, since: Option<u64>) -> EventsArgs {
        let (kinds, module, limit) = (Vec::new(), Some("storage".to_owned()), None);
        EventsArgs {
            follow,
            since: since.map(EventsSince::Seq),
            kinds,
            module,
            limit,
            full: true,
            json: false,
        }
    }

    #[test]
    fn the_past_alone_is_listed() {
        let fake = FakeServer::start(vec![Box::new(|peer: &mut FakePeer| {
            let asked = peer.answers(name::EVENTS_LIST, json!({"events": [event(3), event(5)]}));
            assert_eq!(
                asked,
                json!({"since": 2, "module": "storage", "limit": 10_000})
            );
        })]);
        let (seen, ended) = watched(&fake, &args(false, Some(2)));
        assert!(ended.is_ok());
        assert_eq!(seen, [3, 5]);
        fake.ends();
    }

    #[test]
    fn following_goes_on_where_a_lost_connection_left_off() {
        let first = |peer: &mut FakePeer| {
            let asked = peer.answers(name::EVENTS_LIST, json!({"events": [event(3)]}));
            assert_eq!(asked, json!({"limit": 10, "module": "storage"}));
            let asked = peer.answers(name::EVENTS_SUBSCRIBE, json!({"seq": 9}));
            assert_eq!(asked, json!({"since": 3, "module": "storage"}));
            peer.notifies(name::EVENT, event(10));
        };
        let second = |peer: &mut FakePeer| {
            let asked = peer.answers(name::EVENTS_SUBSCRIBE, json!({"seq": 12}));
            assert_eq!(asked["since"], 10);
            peer.notifies(name::EVENT, event(12));
        };
        let fake = FakeServer::start(vec![Box::new(first), Box::new(second)]);
        let (seen, ended) = watched(&fake, &args(true, None));
        assert_eq!(seen, [3, 10, 12]);
        assert!(ended.is_ok(), "then it is down, and left nothing behind");
        fake.ends();
    }

    #[test]
    fn a_holder_that_died_is_no_ordinary_end() {
        let fake = FakeServer::start(vec![Box::new(|peer: &mut FakePeer| {
            peer.answers(name::EVENTS_LIST, json!({"events": []}));
        })]);
        let holder = fake.instance().socket.with_file_name("holder.json");
        std::fs::write(holder, r#"{"pid": 0, "state": "running"}"#).expect("a file");
        let ended = watched(&fake, &args(true, None)).1;
        assert!(
            matches!(ended, Err(CliError::NotRunning { .. })),
            "{ended:?}"
        );
        fake.ends();
    }

    #[test]
    fn a_subscription_that_saw_nothing_resumes_from_its_beginning() {
        let first = |peer: &mut FakePeer| {
            peer.answers(name::EVENTS_LIST, json!({"events": []}));
            let asked = peer.answers(name::EVENTS_SUBSCRIBE, json!({"seq": 9}));
            assert_eq!(asked.get("since"), None);
        };
        let second = |peer: &mut FakePeer| {
            let asked = peer.answers(name::EVENTS_SUBSCRIBE, json!({"seq": 11}));
            assert_eq!(asked["since"], 9);
        };
        let fake = FakeServer::start(vec![Box::new(first), Box::new(second)]);
        assert!(watched(&fake, &args(true, None)).0.is_empty());
        fake.ends();
    }
}
