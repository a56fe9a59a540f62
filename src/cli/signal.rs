//! `signal`: sends a signal to the main process of a module.
//! Owns the line that says so.
//! Never signals a process itself: the holder does, which knows that it is the right one.

use mainstay_protocol::enums::CliExitCode;
use mainstay_protocol::method::{SignalParams, SignalResult, name};

use super::args::{GlobalArgs, SignalArgs};
use super::error::CliError;
use super::system_locator::SystemLocator;
use super::{format, terminal};

pub(crate) fn run(args: &SignalArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let mut client = SystemLocator::find(global)?.connect_to_change()?;
    let params = SignalParams {
        module: args.module.clone(),
        signal: args.signal.clone(),
    };
    let sent: SignalResult = client.call(name::MODULE_SIGNAL, params)?;
    if args.json {
        terminal::print_json(&sent)?;
    } else {
        let (module, pid) = (format::single_line(&args.module), sent.pid);
        terminal::print_text(&format!("{} sent to {module} (pid {pid})\n", sent.signal))?;
    }
    Ok(CliExitCode::Ok)
}
