//! `call`: one request of the protocol, as JSON.
//! Owns nothing: methods, their descriptions and examples come from the table of the protocol.
//! Never follows a subscription: it prints the result and returns.

use clap::builder::{PossibleValue, PossibleValuesParser};
use mainstay_client::WAIT_TIMEOUT;
use mainstay_protocol::AccessLevel;
use mainstay_protocol::enums::CliExitCode;
use mainstay_protocol::methods::{self, METHODS};
use serde_json::{Value, json};

use super::args::{CallArgs, GlobalArgs};
use super::error::CliError;
use super::progress::Progress;
use super::system_locator::SystemLocator;
use super::terminal;

/// The methods that a user can request, with their descriptions.
pub(crate) fn methods() -> PossibleValuesParser {
    let of_users = METHODS
        .iter()
        .filter(|info| info.level > AccessLevel::Module);
    let values = of_users.map(|info| PossibleValue::new(info.name).help(info.summary()));
    PossibleValuesParser::new(values)
}

pub(crate) fn run(args: &CallArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let params = params(args)?;
    let mut client = SystemLocator::find(global)?.connect()?;
    let progress = Progress::start(format!("calling {}", args.method));
    let result: Value = client.call_within(&args.method, params, WAIT_TIMEOUT)?;
    drop(progress);
    terminal::print_json(&result)?;
    Ok(CliExitCode::Ok)
}

fn params(args: &CallArgs) -> Result<Value, CliError> {
    let Some(text) = &args.params else {
        return Ok(json!({}));
    };
    serde_json::from_str(text).map_err(|error| {
        let example = methods::find(&args.method).map_or("{}", |info| info.example);
        let text = format!("cannot read the parameters: {error}; write JSON, as in '{example}'");
        CliError::new(CliExitCode::Usage, text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_that_are_not_json_are_a_usage_error_with_an_example() {
        let args = |params: Option<&str>| CallArgs {
            method: "module.get".to_owned(),
            params: params.map(str::to_owned),
        };
        assert_eq!(params(&args(None)).ok(), Some(json!({})));
        let named = params(&args(Some(r#"{"module":"web"}"#)));
        assert_eq!(named.ok(), Some(json!({ "module": "web" })));
        let failure = params(&args(Some("web"))).expect_err("not JSON");
        assert_eq!(failure.code(), CliExitCode::Usage);
        assert!(
            failure.to_string().contains(r#"'{"module":"storage"}'"#),
            "{failure}"
        );
    }
}
