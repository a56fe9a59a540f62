//! Why a verb failed, and its exit code.
//! Owns the conversion of an error to a message on stderr and an exit code.
//! Never prints to a closed pipe.

use std::io::ErrorKind;

use mainstay_client::Error as ClientError;
use mainstay_protocol::ErrorCode;
use mainstay_protocol::enums::CliExitCode;
use serde_json::{Value, json};

use super::system_locator::LocateError;

/// The values of `CliExitCode`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  success
  1  the command failed
  2  the command line is invalid
  3  mainstay is not running
  4  mainstay refused the request
  5  the configuration is invalid

With --json a failure is an object on stderr:
  {\"error\": {\"code\", \"exit_code\", \"message\"}}";

/// The failure of a verb.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The system cannot be determined from the configuration.
    #[error(transparent)]
    Instance(#[from] LocateError),
    /// No process listens; `holder` is what its holder wrote last, and which other systems run.
    #[error(
        "cannot reach mainstay '{name}': nothing listens on {path}; start it with `mainstay up`\
         {holder}"
    )]
    NotRunning {
        name: String,
        path: String,
        holder: String,
    },
    /// A process listens and does not answer as mainstay does.
    #[error(
        "cannot use mainstay '{name}': {}{}{holder}",
        client_error_text(source),
        next_step(source)
    )]
    NotAnswering {
        name: String,
        source: ClientError,
        holder: String,
    },
    /// The connection or the call failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Writing to the terminal, pipe or file.
    #[error("cannot write the output: {0}")]
    Output(std::io::Error),
    /// Any other failure, with its own exit code.
    #[error("{message}")]
    Other { code: CliExitCode, message: String },
}

impl CliError {
    pub(crate) fn new(code: CliExitCode, message: impl Into<String>) -> CliError {
        CliError::Other {
            code,
            message: message.into(),
        }
    }

    pub(crate) fn code(&self) -> CliExitCode {
        match self {
            CliError::Instance(_) => CliExitCode::Configuration,
            CliError::NotRunning { .. } => CliExitCode::NotRunning,
            CliError::Client(error) | CliError::NotAnswering { source: error, .. } => {
                client_code(error)
            }
            CliError::Output(error) if error.kind() == ErrorKind::BrokenPipe => CliExitCode::Ok,
            CliError::Output(_) => CliExitCode::Failed,
            CliError::Other { code, .. } => *code,
        }
    }

    /// Prints it on stderr, as JSON if `--json` was given, and returns the exit code. A closed pipe
    /// (`| head`) is not a failure.
    pub(crate) fn print(&self) -> CliExitCode {
        let closed = |error: &std::io::Error| error.kind() == ErrorKind::BrokenPipe;
        let quiet = matches!(self, CliError::Output(error) if closed(error));
        if !quiet {
            match wants_json() {
                true => super::terminal::print_error_as_is(&self.json().to_string()),
                false => super::terminal::print_error(&self.to_string()),
            }
        }
        self.code()
    }
}

impl CliError {
    /// `{"error": {"code", "exit_code", "message"}}`: the code of a refusal is the protocol's.
    fn json(&self) -> Value {
        let (refusal, exit) = match self {
            CliError::Client(ClientError::Refused(refusal)) => {
                (Some(refusal.data.code.as_str().to_owned()), self.code())
            }
            _ => (None, self.code()),
        };
        let code = refusal.unwrap_or_else(|| exit_name(exit).to_owned());
        let message = self.to_string();
        json!({ "error": { "code": code, "exit_code": exit as u8, "message": message } })
    }
}

/// The name of an exit code.
fn exit_name(code: CliExitCode) -> &'static str {
    match code {
        CliExitCode::Ok => "ok",
        CliExitCode::Failed => "failed",
        CliExitCode::Usage => "usage",
        CliExitCode::NotRunning => "not_running",
        CliExitCode::Refused => "refused",
        CliExitCode::Configuration => "invalid_config",
    }
}

/// Whether this process was asked for JSON: its failures are JSON too.
pub(crate) fn wants_json() -> bool {
    let mut words = std::env::args_os().take_while(|word| word != "--");
    words.any(|word| word == "--json")
}

fn client_error_text(error: &ClientError) -> String {
    match error {
        ClientError::Timeout { after, .. } => format!("it did not answer within {after:?}"),
        other => other.to_string(),
    }
}

/// Completes the client's message for a person at a terminal.
fn next_step(error: &ClientError) -> &'static str {
    match error {
        ClientError::Timeout { .. } => {
            "; it is busy or stuck: try again, a stuck runtime is replaced within a minute"
        }
        ClientError::Connect { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
            "; it belongs to another user: ask as that user, or as root"
        }
        _ => "",
    }
}

fn client_code(error: &ClientError) -> CliExitCode {
    match error {
        ClientError::NotRunning { .. } | ClientError::Closed { .. } => CliExitCode::NotRunning,
        ClientError::Refused(refusal) => match refusal.data.code {
            ErrorCode::InvalidConfig => CliExitCode::Configuration,
            ErrorCode::Timeout | ErrorCode::Internal => CliExitCode::Failed,
            _ => CliExitCode::Refused,
        },
        _ => CliExitCode::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Verb};
    use clap::{CommandFactory, Parser};
    use mainstay_protocol::RequestError;

    #[test]
    fn the_help_has_the_exit_codes_and_status_the_names_that_others_use() {
        let help = Cli::command().render_help().to_string();
        assert!(help.contains("3  mainstay is not running"), "{help}");
        for name in ["ps", "ls"] {
            let verb = Cli::try_parse_from(["mainstay", name]).expect(name).verb;
            assert!(matches!(verb, Verb::Status(_)));
        }
    }

    #[test]
    fn a_silent_runtime_and_a_foreign_socket_come_with_a_next_step() {
        let not_answering = |source| {
            let (name, holder) = ("app".to_owned(), String::new());
            CliError::NotAnswering {
                name,
                source,
                holder,
            }
            .to_string()
        };
        let silent = not_answering(ClientError::Timeout {
            method: "hello".to_owned(),
            after: std::time::Duration::from_secs(5),
        });
        assert!(
            silent
                .starts_with("cannot use mainstay 'app': it did not answer within 5s; it is busy"),
            "{silent}"
        );
        assert!(silent.contains("try again"), "{silent}");
        let foreign = not_answering(ClientError::Connect {
            path: "x".into(),
            source: ErrorKind::PermissionDenied.into(),
        });
        assert!(foreign.contains("as that user"), "{foreign}");
    }

    #[test]
    fn a_failure_is_an_object_with_its_codes() {
        let refused = RequestError::new(ErrorCode::UnknownModule, "cannot find x");
        let failure = CliError::from(ClientError::from(refused));
        let expected = json!({
            "error": {"code": "unknown_module", "exit_code": 4, "message": "cannot find x"}
        });
        assert_eq!(failure.json(), expected);
        let failure = CliError::new(CliExitCode::Configuration, "cannot read it");
        assert_eq!(failure.json()["error"]["code"], "invalid_config");
    }

    #[test]
    fn each_failure_has_the_code_the_documents_name() {
        let refused = |code| {
            CliError::from(ClientError::from(RequestError::new(code, "cannot do this"))).code()
        };
        assert_eq!(refused(ErrorCode::UnknownModule), CliExitCode::Refused);
        assert_eq!(refused(ErrorCode::NotPermitted), CliExitCode::Refused);
        assert_eq!(
            refused(ErrorCode::InvalidConfig),
            CliExitCode::Configuration
        );
        assert_eq!(refused(ErrorCode::Timeout), CliExitCode::Failed);
        let closed = ClientError::Closed { path: "x".into() };
        assert_eq!(CliError::from(closed).code(), CliExitCode::NotRunning);
        let pipe = CliError::Output(ErrorKind::BrokenPipe.into());
        assert_eq!(
            (pipe.print(), pipe.code()),
            (CliExitCode::Ok, CliExitCode::Ok)
        );
        assert_eq!(
            CliError::Output(ErrorKind::StorageFull.into()).code(),
            CliExitCode::Failed
        );
    }
}
