//! Why a verb failed, and its exit code.
//! Owns the conversion of an error to a message on stderr and an exit code.
//! Never prints to a closed pipe.

use std::io::ErrorKind;

use mainstay_client::Error as ClientError;
use mainstay_protocol::RefusalCode;
use mainstay_protocol::words::ExitCode;

use super::instance::Problem;

/// The failure of a verb.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The system cannot be determined from the configuration.
    #[error(transparent)]
    Instance(#[from] Problem),
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
        said(source),
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
    Other { code: ExitCode, message: String },
}

impl Failure {
    pub(crate) fn new(code: ExitCode, message: impl Into<String>) -> Failure {
        Failure::Other {
            code,
            message: message.into(),
        }
    }

    pub(crate) fn code(&self) -> ExitCode {
        match self {
            Failure::Instance(_) => ExitCode::Configuration,
            Failure::NotRunning { .. } => ExitCode::NotRunning,
            Failure::Client(error) | Failure::NotAnswering { source: error, .. } => {
                client_code(error)
            }
            Failure::Output(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::Ok,
            Failure::Output(_) => ExitCode::Failed,
            Failure::Other { code, .. } => *code,
        }
    }

    /// Prints it on stderr and returns the exit code. A closed pipe (`| head`) is not a failure.
    pub(crate) fn tell(&self) -> ExitCode {
        let closed = |error: &std::io::Error| error.kind() == ErrorKind::BrokenPipe;
        let quiet = matches!(self, Failure::Output(error) if closed(error));
        if !quiet {
            super::screen::complain(&self.to_string());
        }
        self.code()
    }
}

fn said(error: &ClientError) -> String {
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

fn client_code(error: &ClientError) -> ExitCode {
    match error {
        ClientError::NotRunning { .. } | ClientError::Closed { .. } => ExitCode::NotRunning,
        ClientError::Refused(refusal) => match refusal.data.code {
            RefusalCode::InvalidConfig => ExitCode::Configuration,
            RefusalCode::Timeout | RefusalCode::Internal => ExitCode::Failed,
            _ => ExitCode::Refused,
        },
        _ => ExitCode::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_protocol::Refusal;

    #[test]
    fn a_silent_runtime_and_a_foreign_socket_come_with_a_next_step() {
        let not_answering = |source| {
            let (name, holder) = ("app".to_owned(), String::new());
            Failure::NotAnswering {
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
    fn each_failure_has_the_code_the_documents_name() {
        let refused =
            |code| Failure::from(ClientError::from(Refusal::new(code, "cannot do this"))).code();
        assert_eq!(refused(RefusalCode::UnknownModule), ExitCode::Refused);
        assert_eq!(refused(RefusalCode::NotPermitted), ExitCode::Refused);
        assert_eq!(refused(RefusalCode::InvalidConfig), ExitCode::Configuration);
        assert_eq!(refused(RefusalCode::Timeout), ExitCode::Failed);
        let closed = ClientError::Closed { path: "x".into() };
        assert_eq!(Failure::from(closed).code(), ExitCode::NotRunning);
        let pipe = Failure::Output(ErrorKind::BrokenPipe.into());
        assert_eq!((pipe.tell(), pipe.code()), (ExitCode::Ok, ExitCode::Ok));
        assert_eq!(
            Failure::Output(ErrorKind::StorageFull.into()).code(),
            ExitCode::Failed
        );
    }
}
