//! `hold` and `release`: a module is not started for a time, so that its program can be replaced.
//! Owns the line that says so.
//! Never stops or starts anything.

use mainstay_protocol::Timestamp;
use mainstay_protocol::enums::CliExitCode;
use mainstay_protocol::method::{HoldParams, HoldResult, ModuleParams, name};

use super::args::{GlobalArgs, HoldArgs, ReleaseArgs};
use super::error::CliError;
use super::system_locator::SystemLocator;
use super::{format, terminal};

pub(crate) fn run(args: &HoldArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let mut client = SystemLocator::find(global)?.connect_to_change()?;
    let params = HoldParams {
        module: args.module.clone(),
        for_ms: u64::try_from(args.time.as_millis()).unwrap_or(u64::MAX),
    };
    let held: HoldResult = client.call(name::MODULE_HOLD, params)?;
    print(&args.module, &held, args.json)
}

pub(crate) fn release(args: &ReleaseArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let mut client = SystemLocator::find(global)?.connect_to_change()?;
    let module = args.module.clone();
    let held: HoldResult = client.call(name::MODULE_RELEASE, ModuleParams { module })?;
    print(&args.module, &held, args.json)
}

fn print(module: &str, held: &HoldResult, json: bool) -> Result<CliExitCode, CliError> {
    if json {
        terminal::print_json(held)?;
    } else {
        let now = terminal::now();
        terminal::print_text(&text(module, held.held_until, now))?;
    }
    Ok(CliExitCode::Ok)
}

fn text(module: &str, until: Option<Timestamp>, now: Timestamp) -> String {
    let module = format::single_line(module);
    match until {
        Some(at) => format!(
            "{module} is held until {}: no run of it starts; `mainstay release {module}` ends \
             that\n",
            format::local_clock(at, now)
        ),
        None => format!("{module} is released\n"),
    }
}
