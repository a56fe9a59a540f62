//! `audit`: lists administrative actions with their results, and verifies their history.
//! Owns the output of both verbs.
//! Never writes; `verify` needs no running system.

use std::borrow::Cow;
use std::fmt::Write;
use std::path::Path;

use mainstay_protocol::enums::CliExitCode;
use mainstay_protocol::method::EventsParams;
use serde_json::json;

use super::args::{AuditArgs, AuditVerb, GlobalArgs};
use super::error::CliError;
use super::format;
use super::history::{self, OfflineHistory};
use super::progress::Progress;
use super::system_locator::SystemLocator;
use super::table::TextTable;
use super::terminal::{self, AnsiColour, Terminal};
use crate::journal::{self, AdminAction, ChainVerified, admin_actions};

/// Actions that are listed by default.
const LISTED: u32 = 20;

pub(crate) fn run(args: &AuditArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    match &args.verb {
        AuditVerb::List { limit, json } => list(limit.unwrap_or(LISTED), *json, global),
        AuditVerb::Verify { journal, json } => verify(journal.as_deref(), *json, global),
    }
}

fn list(limit: u32, json: bool, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let count = usize::try_from(limit).unwrap_or(usize::MAX);
    let params = EventsParams {
        administrative: true,
        // Each action has up to two rows; the newest rows may hold results of older requests.
        limit: Some(count.saturating_mul(3)),
        ..EventsParams::default()
    };
    let rows = match SystemLocator::find(global)?.connect() {
        Ok(mut client) => client.events(&params)?,
        Err(failure) => OfflineHistory::fallback_for(failure, global)?.events(&params)?,
    };
    let actions = admin_actions(&rows, count);
    if json {
        actions.iter().try_for_each(terminal::print_json_line)?;
    } else {
        terminal::print_text(&table(&actions, Terminal::of_stdout()))?;
    }
    Ok(CliExitCode::Ok)
}

/// Formats one line per action: time, operation, result, requester.
fn table(actions: &[AdminAction], screen: Terminal) -> String {
    let mut table = TextTable::new(actions.len(), [false; 4]);
    for action in actions {
        let operation = action.operation.as_deref();
        let what = match (operation, &action.module) {
            (Some(operation), Some(module)) => format!("{operation} {module}"),
            (Some(operation), None) => format!("{operation} (system)"),
            (None, _) => "gap".to_owned(),
        };
        let colour = match action.result.as_deref() {
            Some("failed" | "refused") => Some(AnsiColour::Red),
            None if operation.is_none() => Some(AnsiColour::Red),
            None => Some(AnsiColour::Yellow),
            Some(_) => None,
        };
        let result = match action.text.as_str() {
            "" => Cow::Borrowed("pending"),
            text => format::single_line(text),
        };
        let who = action.actor.as_deref().unwrap_or("");
        table.row([
            (
                Cow::Owned(format::local_time(action.at)),
                Some(AnsiColour::Grey),
            ),
            (Cow::Owned(format::single_line(&what).into_owned()), None),
            (result, colour),
            (format::single_line(who), None),
        ]);
    }
    let mut out = String::new();
    table.render(&mut out, 0, screen);
    out
}

fn verify(
    journal: Option<&Path>,
    json: bool,
    global: &GlobalArgs,
) -> Result<CliExitCode, CliError> {
    let path = match journal {
        Some(path) => path.to_owned(),
        None => {
            let system = history::configuration(global)?.system;
            system.state_dir.join(journal::DATABASE)
        }
    };
    let progress = Progress::start(format!("verifying {}", path.display()));
    let verified = journal::verify(&path);
    drop(progress);
    let verified = match verified {
        Ok(verified) => verified,
        Err(broken) if json => {
            let reason = &broken.reason;
            terminal::print_json(&json!({ "ok": false, "seq": broken.seq, "reason": reason }))?;
            return Ok(CliExitCode::Failed);
        }
        Err(broken) => {
            let at = broken
                .seq
                .map_or_else(String::new, |seq| format!(" (first at event {seq})"));
            return Err(CliError::new(CliExitCode::Failed, format!("{broken}{at}")));
        }
    };
    // A copy may lack audit.head; the journal of a system has it.
    let ended = journal.is_some() || verified.end_checked || verified.links == 0;
    let ok = verified.is_complete() && ended;
    if json {
        terminal::print_json(&json!({
            "ok": ok, "count": verified.count, "links": verified.links,
            "pruned": verified.pruned, "missing": verified.missing,
            "end_checked": verified.end_checked, "head": verified.head,
        }))?;
    } else {
        terminal::print_text(&summary(&verified))?;
    }
    Ok(if ok {
        CliExitCode::Ok
    } else {
        CliExitCode::Failed
    })
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
        let text = format::single_line(&gap.text);
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
            Terminal::default(),
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
