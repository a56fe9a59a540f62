//! `events`: what happened, a line each, and what happens from now on.
//! Owns how the past and the present are joined without a gap.
//! Never shows an event twice.

use mainstay_client::blocking::Client;
use mainstay_protocol::Event;
use mainstay_protocol::method::EventsParams;
use mainstay_protocol::words::ExitCode;

use super::args::{Events, Global};
use super::failure::Failure;
use super::instance::Instance;
use super::{screen, sentence};

/// How much of the past following begins with, unless it is said.
const LEAD_IN: usize = 10;

pub(crate) fn run(args: &Events, global: &Global) -> Result<ExitCode, Failure> {
    let mut client = Instance::find(global)?.connect()?;
    let mut params = EventsParams {
        since: args.since,
        kinds: args.kinds.clone(),
        module: args.module.clone(),
        limit: args.limit.or(args.follow.then_some(LEAD_IN)),
    };
    // Following from a number on needs no list: the subscription replays all of them.
    if !args.follow || args.since.is_none() {
        let past = client.events(&params)?;
        show(&past, args)?;
        params.since = past.last().map(|event| event.seq).or(params.since);
    }
    if args.follow {
        params.limit = None;
        follow(client, &params, args)?;
    }
    Ok(ExitCode::Ok)
}

fn follow(client: Client, params: &EventsParams, args: &Events) -> Result<(), Failure> {
    let (_, events) = client.subscribe(params)?;
    for event in events {
        show(&[event?], args)?;
    }
    Ok(())
}

fn show(events: &[Event], args: &Events) -> Result<(), Failure> {
    if args.json {
        return events.iter().try_for_each(screen::print_json_line);
    }
    screen::print(&events.iter().map(sentence::line).collect::<String>())
}
