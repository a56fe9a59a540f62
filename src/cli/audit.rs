//! `audit verify`: checks the chain of administrative actions in the journal.
//! Owns the form of that answer.
//! Never needs a running mainstay, never writes.

use mainstay_protocol::words::ExitCode;
use serde_json::json;

use super::args::{Audit, AuditVerb, Global};
use super::failure::Failure;
use super::{history, screen};
use crate::journal;

pub(crate) fn run(args: &Audit, global: &Global) -> Result<ExitCode, Failure> {
    let AuditVerb::Verify { journal, json } = &args.verb;
    let path = match journal {
        Some(path) => path.clone(),
        None => {
            let system = history::configuration(global)?.system;
            system.state_dir.join(journal::DATABASE)
        }
    };
    let result = journal::verify(&path);
    if *json {
        screen::print_json(&match &result {
            Ok(it) => {
                json!({ "ok": true, "count": it.count, "pruned": it.pruned, "head": it.head })
            }
            Err(it) => json!({ "ok": false, "seq": it.seq, "reason": it.reason }),
        })?;
    }
    match result {
        Ok(_) if *json => Ok(ExitCode::Ok),
        Ok(it) => {
            let pruned = match it.pruned {
                0 => String::new(),
                1 => ", 1 older one was removed with age".to_owned(),
                pruned => format!(", {pruned} older ones were removed with age"),
            };
            let actions = if it.count == 1 { "action" } else { "actions" };
            screen::print(&format!(
                "the chain holds: {} administrative {actions}{pruned}\nhead {}\n",
                it.count, it.head
            ))?;
            Ok(ExitCode::Ok)
        }
        Err(_) if *json => Ok(ExitCode::Failed),
        Err(broken) => {
            let at = broken
                .seq
                .map_or_else(String::new, |seq| format!(" (first at event {seq})"));
            Err(Failure::new(ExitCode::Failed, format!("{broken}{at}")))
        }
    }
}
