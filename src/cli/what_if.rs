//! `what-if`: what would follow if a module were stopped, killed or failed.
//! Owns the output.
//! Never changes anything: policy plays it on a copy.

use std::borrow::Cow;
use std::fmt::Write;

use mainstay_protocol::enums::CliExitCode;
use mainstay_protocol::method::{ChangeAction, WhatIfAction, WhatIfParams, WhatIfResult, name};

use super::args::{GlobalArgs, WhatIfArgs};
use super::error::CliError;
use super::format;
use super::system_locator::SystemLocator;
use super::table::TextTable;
use super::terminal::{self, Terminal};

pub(crate) fn run(args: &WhatIfArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let action = args.action.parse().unwrap_or(WhatIfAction::Stop);
    let params = WhatIfParams {
        action,
        module: args.module.clone(),
    };
    let mut client = SystemLocator::find(global)?.connect()?;
    let result: WhatIfResult = client.call(name::WHAT_IF, &params)?;
    if args.json {
        terminal::print_json(&result)?;
    } else {
        terminal::print_text(&render(&params, &result, Terminal::of_stdout()))?;
    }
    Ok(CliExitCode::Ok)
}

fn render(params: &WhatIfParams, result: &WhatIfResult, screen: Terminal) -> String {
    let supposed = match params.action {
        WhatIfAction::Kill => "were killed",
        WhatIfAction::Fail => "failed from now on",
        _ => "were stopped",
    };
    let module = format::single_line(&params.module);
    let mut out = format!("If {module} {supposed} (nothing was changed):\n");
    if result.steps.is_empty() {
        out.push_str("  nothing would happen\n");
    }
    let mut table = TextTable::new(result.steps.len(), [false; 3]);
    for step in &result.steps {
        let action = match step.action {
            ChangeAction::Start => "starts",
            ChangeAction::Stop => "stops",
            ChangeAction::Restart => "restarts",
            ChangeAction::Notify => "keeps running and is notified",
            ChangeAction::Fail => "fails",
            ChangeAction::Wait => "goes on waiting",
            ChangeAction::Other(other) => other.as_str(),
        };
        table.row([
            (format::single_line(&step.module), None),
            (Cow::Borrowed(action), None),
            (format::single_line(&step.reason), None),
        ]);
    }
    table.render(&mut out, 2, screen);
    if let Some(recovery) = &result.recovery {
        let _ = writeln!(out, "Recovery: {}.", format::single_line(recovery));
    }
    let reason = result.reason.as_deref().map(format::single_line);
    let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    let worst = match result.worst == result.status {
        true => String::new(),
        false => format!(" (meanwhile {})", result.worst),
    };
    let _ = writeln!(out, "The system would be {}{worst}{reason}.", result.status);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::module_details::tests::golden;

    #[test]
    fn it_says_who_does_what_and_how_the_system_is_then() {
        let golden = golden("what_if");
        let params = serde_json::from_value(golden["request"]["params"].clone()).expect("params");
        let result = serde_json::from_value(golden["reply"]["result"].clone()).expect("a result");
        let expected = "\
If storage were killed (nothing was changed):
  storage  fails  supposed
Recovery: restart after 214 ms.
The system would be degraded (meanwhile critical): not well: storage.
";
        assert_eq!(render(&params, &result, Terminal::default()), expected);
    }
}
