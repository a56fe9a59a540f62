//! `chaos`: injects faults into modules of the running system, one after the other.
//! Owns the order and the pace of a campaign.
//! Never decides whether that is permitted: the runtime does.

use std::time::Duration;

use mainstay_protocol::chaos::{ChaosAction, ChaosParams, ChaosResult};
use mainstay_protocol::enums::CliExitCode;
use mainstay_protocol::method::name;
use serde_json::json;

use super::args::{ChaosArgs, GlobalArgs};
use super::error::CliError;
use super::system_locator::SystemLocator;
use super::{format, terminal};

pub(crate) fn run(args: &ChaosArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let mut client = SystemLocator::find(global)?.connect_to_change()?;
    let action = action(&args.action);
    // One wrong name and nothing happens to the others.
    for module in &args.modules {
        client.module(module)?;
    }
    for number in 0..args.count {
        let turn = usize::try_from(number).unwrap_or(0) % args.modules.len();
        let module = &args.modules[turn];
        let params = ChaosParams {
            action,
            module: module.clone(),
            for_ms: args
                .r#for
                .map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
        };
        let fault: ChaosResult = client.call(name::CHAOS_INJECT, params)?;
        if args.json {
            let action = action.as_str();
            let line = json!({ "action": action, "module": module, "pid": fault.pid });
            terminal::print(&format!("{line}\n"))?;
        } else {
            let (module, pid) = (format::single_line(module), fault.pid);
            terminal::print(&format!("{} of {module} (pid {pid})\n", action.as_str()))?;
        }
        if number + 1 < args.count {
            pause(args.every);
        }
    }
    Ok(CliExitCode::Ok)
}

fn action(word: &str) -> ChaosAction {
    word.parse().unwrap_or(ChaosAction::Kill)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the pace that a person asked for"
)]
fn pause(span: Duration) {
    std::thread::sleep(span);
}
