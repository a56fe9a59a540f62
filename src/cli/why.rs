//! `why`: prints the chain of causes, and what happens next.
//! Owns the output.
//! Never guesses: it prints what the journal says.

use std::borrow::Cow;
use std::fmt::Write;

use mainstay_protocol::Timestamp;
use mainstay_protocol::method::Why;
use mainstay_protocol::words::ExitCode;

use super::args::{self, Global};
use super::failure::Failure;
use super::history::History;
use super::human;
use super::instance::Instance;
use super::screen::{self, Colour, Screen};
use super::status::state_colour;
use super::table::Table;

pub(crate) fn run(args: &args::Why, global: &Global) -> Result<ExitCode, Failure> {
    let (why, running) = match Instance::find(global)?.connect() {
        Ok(mut client) => (client.why(&args.module)?, true),
        Err(failure) => (History::instead(failure, global)?.why(&args.module)?, false),
    };
    if args.json {
        screen::print_json(&why)?;
    } else {
        screen::print(&render(&why, running, screen::now(), Screen::of_stdout()))?;
    }
    Ok(ExitCode::Ok)
}

fn render(why: &Why, running: bool, now: Timestamp, screen: Screen) -> String {
    let verb = if running { "is" } else { "was" };
    let mut out = format!("{} {verb} ", human::clean(&why.module));
    screen.paint(&mut out, state_colour(why.state), why.state.as_str());
    if why.chain.is_empty() {
        out.push_str("; nothing in the journal led there\n");
    } else {
        out.push_str(", and this led there:\n");
    }
    let mut table = Table::new(why.chain.len(), [true, false, false]);
    for link in &why.chain {
        let ago = format!("{} ago", human::since(link.at, now));
        table.row([
            (Cow::Owned(ago), None),
            (Cow::Owned(human::time(link.at)), Some(Colour::Grey)),
            (human::clean(&link.text), None),
        ]);
    }
    // A message longer than the terminal wraps: it is not cut.
    table.render(
        &mut out,
        2,
        Screen {
            width: None,
            ..screen
        },
    );
    match &why.next {
        None if !running => {
            out.push_str("next: no action is scheduled; run `mainstay up` to start the system\n")
        }
        None => out.push_str("next: no action is scheduled\n"),
        Some(next) => {
            out.push_str("next: ");
            if let Some(at) = next.at {
                let _ = write!(out, "{}: ", human::time(at));
            }
            let _ = writeln!(out, "{}", human::clean(&next.text));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::block::tests::golden;

    fn why() -> Why {
        serde_json::from_value(golden("why")["reply"]["result"].clone()).expect("a why")
    }

    #[test]
    fn the_chain_reads_from_the_first_cause_to_the_next_step() {
        let mut why = why();
        let mut first = why.chain[0].clone();
        first.at = Timestamp(first.at.0 - 130_000);
        first.text = "event-bus became ready".to_owned();
        why.chain.insert(0, first);
        let expected = "\
storage is backoff, and this led there:
  2m 10s ago  2026-11-18 11:04:30.123Z  event-bus became ready
   100ms ago  2026-11-18 11:06:40.123Z  storage exited with code 1
next: 2026-11-18 11:06:40.523Z: it is started again
";
        let text = render(&why, true, Timestamp(1_795_000_000_223), Screen::default());
        assert_eq!(text, expected);
    }

    #[test]
    fn without_a_chain_or_a_next_step_it_says_so() {
        let why = Why {
            chain: Vec::new(),
            next: None,
            ..why()
        };
        let expected = "\
storage is backoff; nothing in the journal led there
next: no action is scheduled
";
        assert_eq!(
            render(&why, true, Timestamp(0), Screen::default()),
            expected
        );
    }
}
