//! `audit`: lists administrative actions with their results, and verifies their history.
//! Owns the output of both verbs.
//! Never writes; `verify` needs no running system.

use std::borrow::Cow;
use std::fmt::Write;
use std::path::Path;

use mainstay_protocol::method::EventsParams;
use mainstay_protocol::words::ExitCode;
use serde_json::json;

use super::args::{Audit, AuditVerb, Global};
use super::failure::Failure;
use super::history::{self, History};
use super::human;
use super::instance::Instance;
use super::screen::{self, Colour, Screen};
use super::table::Table;
use crate::journal::{self, AdminAction, ChainVerified, admin_actions};

/// Actions that are listed by default.
const LISTED: u32 = 20;

pub(crate) fn run(args: &Audit, global: &Global) -> Result<ExitCode, Failure> {
    match &args.verb {
        AuditVerb::List { limit, json } => list(limit.unwrap_or(LISTED), *json, global),
        AuditVerb::Verify { journal, json } => verify(journal.as_deref(), *json, global),
    }
}

fn list(limit: u32, json: bool, global: &Global) -> Result<ExitCode, Failure> {
    let count = usize::try_from(limit).unwrap_or(usize::MAX);
    let params = EventsParams {
        administrative: true,
        // Each action has up to two rows; the newest rows may hold results of older requests.
        limit: Some(count.saturating_mul(3)),
        ..EventsParams::default()
    };
    let rows = match Instance::find(global)?.connect() {
        Ok(mut client) => client.events(&params)?,
        Err(failure) => History::instead(failure, global)?.events(&params)?,
    };
    let actions = admin_actions(&rows, count);
    if json {
        actions.iter().try_for_each(screen::print_json_line)?;
    } else {
        screen::print(&table(&actions, Screen::of_stdout()))?;
    }
    Ok(ExitCode::Ok)
}

/// Formats one line per action: time, operation, result, requester.
fn table(actions: &[AdminAction], screen: Screen) -> String {
    let mut table = Table::new(actions.len(), [false; 4]);
    for action in actions {
        let operation = action.operation.as_deref();
        let what = match (operation, &action.module) {
            (Some(operation), Some(module)) => format!("{operation} {module}"),
            (Some(operation), None) => format!("{operation} (system)"),
            (None, _) => "gap".to_owned(),
        };
        let colour = match action.result.as_deref() {
            Some("failed" | "refused") => Some(Colour::Red),
            None if operation.is_none() => Some(Colour::Red),
            None => Some(Colour::Yellow),
            Some(_) => None,
        };
        let result = match action.text.as_str() {
            "" => Cow::Borrowed("pending"),
            text => human::clean(text),
        };
        let who = action.actor.as_deref().unwrap_or("");
        table.row([
            (Cow::Owned(human::local_time(action.at)), Some(Colour::Grey)),
            (Cow::Owned(human::clean(&what).into_owned()), None),
            (result, colour),
            (human::clean(who), None),
        ]);
    }
    let mut out = String::new();
    // A reason longer than the terminal wraps: it is not cut.
    let width = None;
    table.render(&mut out, 0, Screen { width, ..screen });
    out
}

fn verify(journal: Option<&Path>, json: bool, global: &Global) -> Result<ExitCode, Failure> {
    let path = match journal {
        Some(path) => path.to_owned(),
        None => {
            let system = history::configuration(global)?.system;
            system.state_dir.join(journal::DATABASE)
        }
    };
    let verified = match journal::verify(&path) {
        Ok(verified) => verified,
        Err(broken) if json => {
            let reason = &broken.reason;
            screen::print_json(&json!({ "ok": false, "seq": broken.seq, "reason": reason }))?;
            return Ok(ExitCode::Failed);
        }
        Err(broken) => {
            let at = broken
                .seq
                .map_or_else(String::new, |seq| format!(" (first at event {seq})"));
            return Err(Failure::new(ExitCode::Failed, format!("{broken}{at}")));
        }
    };
    // A copy may lack audit.head; the journal of a system has it.
    let ended = journal.is_some() || verified.end_checked || verified.links == 0;
    let ok = verified.is_complete() && ended;
    if json {
        screen::print_json(&json!({
            "ok": ok, "count": verified.count, "links": verified.links,
            "pruned": verified.pruned, "missing": verified.missing,
            "end_checked": verified.end_checked, "head": verified.head,
        }))?;
    } else {
        screen::print(&summary(&verified))?;
    }
    Ok(if ok { ExitCode::Ok } else { ExitCode::Failed })
}

fn summary(verified: &ChainVerified) -> String {
    let rows = |count: u64| match count {
        1 => "1 administrative row".to_owned(),
        count => format!("{count} administrative rows"),
    };
    let actions = match verified.count {
        1 => "1 administrative action".to_owned(),
        count => format!("{count} administrative actions"),
    };
    let pruned = match verified.pruned {
        0 => String::new(),
        count => format!("; {} removed by age or size", rows(count)),
    };
    let mut out = format!("the chain holds: {actions}{pruned}\n");
    for gap in &verified.missing {
        let count = gap
            .count
            .map_or_else(|| "administrative rows".to_owned(), rows);
        let text = human::clean(&gap.text);
        // Writing to a string cannot fail.
        let _ = writeln!(out, "missing before event {}: {count}: {text}", gap.seq);
    }
    if !verified.end_checked {
        out.push_str("not checked: the end, because audit.head is missing beside the journal\n");
    }
    let _ = writeln!(out, "head {}", verified.head);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::MissingRows;
    use mainstay_protocol::Timestamp;

    fn verified() -> ChainVerified {
        ChainVerified {
            count: 1,
            links: 2,
            pruned: 0,
            missing: Vec::new(),
            end_checked: true,
            head: "00ff".to_owned(),
        }
    }

    #[test]
    fn one_is_not_many() {
        let text = summary(&verified());
        assert_eq!(
            text,
            "the chain holds: 1 administrative action\nhead 00ff\n"
        );
        let text = summary(&ChainVerified {
            count: 9,
            pruned: 1,
            end_checked: false,
            missing: vec![
                MissingRows {
                    seq: 12,
                    count: Some(2),
                    text: "the journal could not be written".to_owned(),
                },
                MissingRows {
                    seq: 20,
                    count: None,
                    text: "the journal was deleted".to_owned(),
                },
            ],
            ..verified()
        });
        let expected = "\
the chain holds: 9 administrative actions; 1 administrative row removed by age or size
missing before event 12: 2 administrative rows: the journal could not be written
missing before event 20: administrative rows: the journal was deleted
not checked: the end, because audit.head is missing beside the journal
head 00ff
";
        assert_eq!(text, expected);
    }

    #[test]
    fn an_action_is_a_line_with_its_result_before_its_requester() {
        let action = |seq, operation: Option<&str>, module: Option<&str>, text: &str| AdminAction {
            seq,
            at: Timestamp(1_795_000_000_000 + seq),
            actor: operation.map(|_| "ann\x1b[2J".to_owned()),
            module: module.map(str::to_owned),
            operation: operation.map(str::to_owned),
            result: None,
            result_seq: None,
            text: text.to_owned(),
        };
        let text = table(
            &[
                action(1, Some("restart"), Some("web"), "done after 214 ms"),
                action(2, Some("stop"), None, ""),
                action(
                    3,
                    None,
                    None,
                    "3 events between 5 and 9 are not in the journal",
                ),
            ],
            Screen::default(),
        );
        let lines: Vec<&str> = text.lines().map(|line| &line[21..]).collect();
        assert_eq!(
            lines,
            [
                "restart web    done after 214 ms                                ann [2J",
                "stop (system)  pending                                          ann [2J",
                "gap            3 events between 5 and 9 are not in the journal",
            ]
        );
    }
}
