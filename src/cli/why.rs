//! `why`: what a module does and why, the evidence, what follows, and what to type.
//! Owns the output.
//! Never guesses: it prints what policy and journal say.

use std::borrow::Cow;
use std::fmt::Write;

use mainstay_protocol::Timestamp;
use mainstay_protocol::enums::CliExitCode;
use mainstay_protocol::method::{
    Empty, NotStartedResult, WhyEvidence, WhyNext, WhyParams, WhyResult, name,
};

use super::args::{self, GlobalArgs};
use super::error::CliError;
use super::format;
use super::history::OfflineHistory;
use super::status::state_colour;
use super::system_locator::SystemLocator;
use super::table::TextTable;
use super::terminal::{self, AnsiColour, Terminal};

pub(crate) fn run(args: &args::WhyArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let Some(module) = args.module.clone() else {
        return not_started(args.json, global);
    };
    let full = args.full;
    let (why, running) = match SystemLocator::find(global)?.connect_to_show(&[]) {
        Ok(mut client) => (client.call(name::WHY, WhyParams { module, full })?, true),
        Err(failure) => (
            OfflineHistory::fallback_for(failure, global)?.why(&module, full)?,
            false,
        ),
    };
    if args.json {
        terminal::print_json(&why)?;
    } else {
        let (now, screen) = (terminal::now(), Terminal::of_stdout());
        terminal::print_text(&render(&why, running, now, screen))?;
    }
    Ok(CliExitCode::Ok)
}

fn not_started(json: bool, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let mut client = SystemLocator::find(global)?.connect_to_show(&[])?;
    let result: NotStartedResult = client.call(name::WHY_NOT_STARTED, Empty {})?;
    if json {
        terminal::print_json(&result)?;
    } else {
        terminal::print_text(&render_groups(&result, Terminal::of_stdout()))?;
    }
    Ok(CliExitCode::Ok)
}

fn render(why: &WhyResult, running: bool, now: Timestamp, screen: Terminal) -> String {
    let mut out = String::new();
    let summary = match why.summary.is_empty() {
        true => format!("{} is {}", why.module, why.state),
        false => why.summary.clone(),
    };
    screen.paint(
        &mut out,
        state_colour(why.state),
        &format::single_line(&summary),
    );
    out.push_str(".\n");
    for line in &why.because {
        let _ = writeln!(out, "  because {}.", format::single_line(line));
    }
    for evidence in &why.evidence {
        evidence_lines(&mut out, evidence, now);
    }
    if let Some(tried) = &why.tried {
        let _ = writeln!(out, "Tried: {}.", format::single_line(tried));
    }
    next_line(&mut out, why.next.as_ref(), now);
    for command in &why.commands {
        let _ = writeln!(out, "Do: {}", format::single_line(command));
    }
    match why.affects.is_empty() {
        true if running => out.push_str("Affects: no other module.\n"),
        true => {}
        false => {
            let names = format::list(&why.affects);
            let _ = writeln!(out, "Affects: {names}.");
        }
    }
    history(&mut out, why, now, screen);
    out
}

fn evidence_lines(out: &mut String, evidence: &WhyEvidence, now: Timestamp) {
    let at = evidence.at.map_or_else(String::new, |at| {
        format!(" ({})", format::local_clock(at, now))
    });
    let source = format::single_line(&evidence.source);
    match &evidence.lines[..] {
        [line] if line.len() < 60 => {
            let _ = writeln!(out, "Seen: {source}{at}: {}", format::single_line(line));
        }
        lines => {
            let _ = writeln!(out, "Seen: {source}{at}:");
            for line in lines {
                let _ = writeln!(out, "    {}", format::single_line(line));
            }
        }
    }
}

fn next_line(out: &mut String, next: Option<&WhyNext>, now: Timestamp) {
    let Some(next) = next else {
        out.push_str("Next: no action is scheduled.\n");
        return;
    };
    let _ = write!(out, "Next: {}", format::single_line(&next.text));
    if let Some(at) = next.at {
        let about = if next.estimated {
            " at about "
        } else {
            ", at "
        };
        let (time, left) = (format::local_clock(at, now), format::until(at, now));
        let _ = write!(out, "{about}{time} ({left})");
    }
    out.push_str(".\n");
}

fn history(out: &mut String, why: &WhyResult, now: Timestamp, screen: Terminal) {
    if why.chain.is_empty() {
        out.push_str("History: the journal has nothing about it.\n");
        return;
    }
    out.push_str("History:\n");
    let mut table = TextTable::new(why.chain.len(), [true, false, false]);
    for link in &why.chain {
        let ago = format!("{} ago", format::since(link.at, now));
        let time = format::local_clock(link.at, now);
        table.row([
            (Cow::Owned(ago), None),
            (Cow::Owned(time), Some(AnsiColour::Grey)),
            (format::single_line(&link.text), None),
        ]);
    }
    table.render(out, 2, screen);
}

fn render_groups(result: &NotStartedResult, screen: Terminal) -> String {
    let mut out = String::new();
    if result.groups.is_empty() {
        out.push_str("every module is up\n");
    }
    for group in &result.groups {
        let _ = writeln!(out, "{}:", format::single_line(&group.text));
        let mut table = TextTable::new(group.modules.len(), [false; 3]);
        for module in &group.modules {
            let waits = module.waits_for.as_deref().unwrap_or_default();
            table.row([
                (format::single_line(&module.module), None),
                (module.state.as_str().into(), state_colour(module.state)),
                (format::single_line(waits), None),
            ]);
        }
        table.render(&mut out, 2, screen);
        for command in &group.commands {
            let _ = writeln!(out, "  do: {}", format::single_line(command));
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

    fn text(why: &WhyResult) -> String {
        let now = Timestamp(1_795_000_000_223);
        render(why, true, now, Terminal::default())
    }

    #[test]
    fn it_reads_from_the_answer_to_the_history() {
        let text = text(&why());
        let parts = [
            "storage waits for its next start: exit code 1.\n",
            "  because storage failed: exit code 1.\n",
            "Seen: its log ends with (",
            "): cannot open storage.db\n",
            "Tried: restart after 400 ms (1 of 3).\n",
            "Next: it is started again at about ",
            " (in 300ms).\n",
            "Do: mainstay start storage\n",
            "Affects: api.\n",
            "History:\n  100ms ago  ",
            "storage exited with code 1\n",
        ];
        let mut at = 0;
        for part in parts {
            let found = text[at..].find(part);
            at += found.unwrap_or_else(|| panic!("no {part:?} after {at} in\n{text}"));
        }
    }

    #[test]
    fn without_a_history_or_a_next_step_it_says_so() {
        let why = WhyResult {
            chain: Vec::new(),
            next: None,
            summary: String::new(),
            because: Vec::new(),
            evidence: Vec::new(),
            tried: None,
            affects: Vec::new(),
            commands: Vec::new(),
            ..why()
        };
        let expected = "\
storage is backoff.
Next: no action is scheduled.
Affects: no other module.
History: the journal has nothing about it.
";
        assert_eq!(text(&why), expected);
    }

    #[test]
    fn groups_name_the_root_cause_first() {
        let golden = golden("why.not_started")["reply"]["result"].clone();
        let groups: NotStartedResult = serde_json::from_value(golden).expect("groups");
        let expected = "\
storage has failed: exit code 1:
  api  waiting  storage, which failed: exit code 1
  do: mainstay start storage
";
        assert_eq!(render_groups(&groups, Terminal::default()), expected);
    }
}
