//! `mainstay holder` (hidden): the holder goes on as this program, executed by the one before.
//! Never called by a person.

use mainstay_protocol::enums::CliExitCode;

use super::args::HolderArgs;
use super::error::CliError;
use crate::os::machine;

#[expect(
    clippy::disallowed_methods,
    reason = "the exit code of the holder is passed on as it is"
)]
pub(super) fn run(args: &HolderArgs) -> Result<CliExitCode, CliError> {
    let failed = |problem: String| CliError::new(CliExitCode::Failed, problem);
    if args.succeed {
        machine::name_process(c"mainstay");
        let code = machine::succeed_holder().map_err(failed)?;
        std::process::exit(i32::from(code))
    }
    let Some(state) = args.state else {
        let checked = machine::check_holder_state();
        checked.map_err(|problem| failed(format!("cannot check a state: {problem}")))?;
        return Ok(CliExitCode::Ok);
    };
    machine::name_process(c"mainstay");
    let code = machine::resume_holder(state).map_err(failed)?;
    std::process::exit(i32::from(code))
}
