//! `events`: prints past events, one per line, and new ones with `-f`.
//! Owns the transition from past to new events, without a gap.
//! Never prints an event twice.

use mainstay_client::Error as ClientError;
use mainstay_client::blocking::Client;
use mainstay_protocol::method::EventsParams;
use mainstay_protocol::words::ExitCode;
use mainstay_protocol::{Event, RefusalCode};

use super::args::{Events, Global};
use super::failure::Failure;
use super::history::History;
use super::instance::Instance;
use super::{screen, sentence};

/// Past events that `-f` prints first by default.
const LEAD_IN: usize = 10;

pub(crate) fn run(args: &Events, global: &Global) -> Result<ExitCode, Failure> {
    let instance = Instance::find(global)?;
    match instance.connect() {
        Ok(client) => {
            watch(&instance, client, args, &mut |events| {
                show(events, args.json)
            })?;
            Ok(ExitCode::Ok)
        }
        Err(failure) => past(&History::instead(failure, global)?, args),
    }
}

/// Prints the events of a system that is not running.
fn past(history: &History, args: &Events) -> Result<ExitCode, Failure> {
    show(&history.events(&asked(args))?, args.json)?;
    if args.follow {
        let text = "cannot follow events: the system is not running; start it with `mainstay up`";
        return Err(Failure::new(ExitCode::NotRunning, text));
    }
    Ok(ExitCode::Ok)
}

fn asked(args: &Events) -> EventsParams {
    EventsParams {
        since: args.since,
        kinds: args.kinds.clone(),
        module: args.module.clone(),
        administrative: false,
        limit: args.limit.or(args.follow.then_some(LEAD_IN)),
    }
}

type Show<'a> = dyn FnMut(&[Event]) -> Result<(), Failure> + 'a;

fn watch(
    instance: &Instance,
    mut client: Client,
    args: &Events,
    show: &mut Show<'_>,
) -> Result<(), Failure> {
    let mut params = asked(args);
    // With `since` no list is needed: the subscription replays the events.
    if !args.follow || args.since.is_none() {
        let past = client.events(&params)?;
        show(&past)?;
        params.since = past.last().map(|event| event.seq).or(params.since);
    }
    params.limit = None;
    if !args.follow {
        return Ok(());
    }
    loop {
        follow(client, &mut params, show)?;
        client = match instance.connect_again() {
            Err(Failure::NotRunning { .. }) if instance.is_leaving() => {
                screen::complain(&format!("mainstay '{}' was stopped", instance.name));
                return Ok(());
            }
            connected => connected?,
        };
    }
}

/// Prints events until the connection is lost; `since` is then the last one printed.
fn follow(client: Client, params: &mut EventsParams, show: &mut Show<'_>) -> Result<(), Failure> {
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
fn resumes(code: RefusalCode) -> bool {
    matches!(code, RefusalCode::Timeout | RefusalCode::ShuttingDown)
}

fn show(events: &[Event], json: bool) -> Result<(), Failure> {
    if json {
        return events.iter().try_for_each(screen::print_json_line);
    }
    screen::print(&events.iter().map(sentence::line).collect::<String>())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::cli::fake::{Fake, Peer};
    use mainstay_protocol::method::name;
    use serde_json::{Value, json};

    fn event(seq: u64) -> Value {
        json!({"seq": seq, "at": "2026-11-20T12:00:00.000Z", "kind": "module.ready"})
    }

    /// The numbers that were shown, and how it ended.
    fn watched(fake: &Fake, args: &Events) -> (Vec<u64>, Result<(), Failure>) {
        let mut seen = Vec::new();
        let instance = fake.instance();
        let client = instance.connect().expect("the fake answers");
        let ended = watch(&instance, client, args, &mut |events| {
            seen.extend(events.iter().map(|event| event.seq));
            Ok(())
        });
        (seen, ended)
    }

    fn args(follow: bool, since: Option<u64>) -> Events {
        let (kinds, module, limit) = (Vec::new(), Some("storage".to_owned()), None);
        Events {
            follow,
            since,
            kinds,
            module,
            limit,
            json: false,
        }
    }

    #[test]
    fn the_past_alone_is_listed() {
        let fake = Fake::plays(vec![Box::new(|peer: &mut Peer| {
            let asked = peer.answers(name::EVENTS_LIST, json!({"events": [event(3), event(5)]}));
            assert_eq!(asked, json!({"since": 2, "module": "storage"}));
        })]);
        let (seen, ended) = watched(&fake, &args(false, Some(2)));
        assert!(ended.is_ok());
        assert_eq!(seen, [3, 5]);
        fake.ends();
    }

    #[test]
    fn following_goes_on_where_a_lost_connection_left_off() {
        let first = |peer: &mut Peer| {
            let asked = peer.answers(name::EVENTS_LIST, json!({"events": [event(3)]}));
            assert_eq!(asked, json!({"limit": 10, "module": "storage"}));
            let asked = peer.answers(name::EVENTS_SUBSCRIBE, json!({"seq": 9}));
            assert_eq!(asked, json!({"since": 3, "module": "storage"}));
            peer.notifies(name::EVENT, event(10));
        };
        let second = |peer: &mut Peer| {
            let asked = peer.answers(name::EVENTS_SUBSCRIBE, json!({"seq": 12}));
            assert_eq!(asked["since"], 10);
            peer.notifies(name::EVENT, event(12));
        };
        let fake = Fake::plays(vec![Box::new(first), Box::new(second)]);
        let (seen, ended) = watched(&fake, &args(true, None));
        assert_eq!(seen, [3, 10, 12]);
        assert!(ended.is_ok(), "then it is down, and left nothing behind");
        fake.ends();
    }

    #[test]
    fn a_holder_that_died_is_no_ordinary_end() {
        let fake = Fake::plays(vec![Box::new(|peer: &mut Peer| {
            peer.answers(name::EVENTS_LIST, json!({"events": []}));
        })]);
        let holder = fake.instance().socket.with_file_name("holder.json");
        std::fs::write(holder, r#"{"pid": 0, "state": "running"}"#).expect("a file");
        let ended = watched(&fake, &args(true, None)).1;
        assert!(
            matches!(ended, Err(Failure::NotRunning { .. })),
            "{ended:?}"
        );
        fake.ends();
    }

    #[test]
    fn a_subscription_that_saw_nothing_resumes_from_its_beginning() {
        let first = |peer: &mut Peer| {
            peer.answers(name::EVENTS_LIST, json!({"events": []}));
            let asked = peer.answers(name::EVENTS_SUBSCRIBE, json!({"seq": 9}));
            assert_eq!(asked.get("since"), None);
        };
        let second = |peer: &mut Peer| {
            let asked = peer.answers(name::EVENTS_SUBSCRIBE, json!({"seq": 11}));
            assert_eq!(asked["since"], 9);
        };
        let fake = Fake::plays(vec![Box::new(first), Box::new(second)]);
        assert!(watched(&fake, &args(true, None)).0.is_empty());
        fake.ends();
    }
}
