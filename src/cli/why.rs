//! `why`: prints the chain of causes, and what happens next.
//! Owns the output.
//! Never guesses: it prints what the journal says.

use std::borrow::Cow;
use std::fmt::Write;

use mainstay_protocol::Timestamp;
use mainstay_protocol::enums::CliExitCode;
use mainstay_protocol::method::WhyResult;

use super::args::{self, GlobalArgs};
use super::error::CliError;
use super::format;
use super::history::OfflineHistory;
use super::status::state_colour;
use super::system_locator::SystemLocator;
use super::table::TextTable;
use super::terminal::{self, AnsiColour, Terminal};

pub(crate) fn run(args: &args::WhyArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let (why, running) = match SystemLocator::find(global)?.connect() {
        Ok(mut client) => (client.why(&args.module)?, true),
        Err(failure) => (
            OfflineHistory::fallback_for(failure, global)?.why(&args.module)?,
            false,
        ),
    };
    if args.json {
        terminal::print_json(&why)?;
    } else {
        terminal::print(&render(
            &why,
            running,
            terminal::now(),
            Terminal::of_stdout(),
        ))?;
    }
    Ok(CliExitCode::Ok)
}

fn render(why: &WhyResult, running: bool, now: Timestamp, screen: Terminal) -> String {
    let verb = if running { "is" } else { "was" };
    let mut out = format!("{} {verb} ", format::single_line(&why.module));
    screen.paint(&mut out, state_colour(why.state), why.state.as_str());
    if why.chain.is_empty() {
        out.push_str("; nothing in the journal led there\n");
    } else {
        out.push_str(", and this led there:\n");
    }
    let mut table = TextTable::new(why.chain.len(), [true, false, false]);
    for link in &why.chain {
        let ago = format!("{} ago", format::since(link.at, now));
        table.row([
            (Cow::Owned(ago), None),
            (Cow::Owned(format::time(link.at)), Some(AnsiColour::Grey)),
            (format::single_line(&link.text), None),
        ]);
    }
    // A message longer than the terminal wraps: it is not cut.
    table.render(
        &mut out,
        2,
        Terminal {
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
                let _ = write!(out, "{}: ", format::time(at));
            }
            let _ = writeln!(out, "{}", format::single_line(&next.text));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::module_details::tests::golden;

    fn why() -> WhyResult {
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
        let text = render(
            &why,
            true,
            Timestamp(1_795_000_000_223),
            Terminal::default(),
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn without_a_chain_or_a_next_step_it_says_so() {
        let why = WhyResult {
            chain: Vec::new(),
            next: None,
            ..why()
        };
        let expected = "\
storage is backoff; nothing in the journal led there
next: no action is scheduled
";
        assert_eq!(
            render(&why, true, Timestamp(0), Terminal::default()),
            expected
        );
    }
}
