//! Why a process did not start, in words, with what a person does about it.
//! Owns the messages of failed steps; the words of a refusal come from the holder.
//! Never executes anything. It reads files, which may take long: its caller waits with a deadline.

use std::path::Path;

use mainstay_process::{Limits, SpawnRequest, StartFailure, StartStep};

use super::{preflight, process_limit};
use crate::os_text::{errno_text, step_text};

/// What of a request says why it failed.
#[derive(Debug, Clone)]
pub(super) struct StartContext {
    program: String,
    directory: String,
    path: String,
    user: Option<String>,
    group: Option<String>,
    limits: Limits,
}

impl From<&SpawnRequest> for StartContext {
    fn from(spawn: &SpawnRequest) -> StartContext {
        StartContext {
            program: spawn.argv.first().cloned().unwrap_or_default(),
            directory: spawn.directory.clone(),
            path: preflight::search_path(&spawn.env, spawn.clear_env),
            user: spawn.user.clone(),
            group: spawn.group.clone(),
            limits: spawn.limits,
        }
    }
}

impl StartContext {
    /// What failed, without advice: reads nothing.
    pub(super) fn text(&self, failure: StartFailure) -> String {
        let about = match failure.step {
            StartStep::Directory => format!(" {}", self.directory),
            StartStep::Limits => format!(" ({})", self.limits),
            StartStep::Group => format!(" {}", self.group.as_deref().unwrap_or("of the user")),
            StartStep::User => format!(" {}", self.user.as_deref().unwrap_or("?")),
            StartStep::Exec => format!(" {}", self.program),
            _ => String::new(),
        };
        let what = step_text(failure.step);
        format!("{what}{about}: {}", errno_text(failure.errno))
    }
}

/// The message for a failure, with what a person does about it.
pub(super) fn explain(context: &StartContext, failure: StartFailure) -> String {
    let message = context.text(failure);
    match next_step(context, failure.step, failure.errno) {
        Some(advice) => format!("{message}; {advice}"),
        None => message,
    }
}

fn next_step(context: &StartContext, step: StartStep, errno: i32) -> Option<String> {
    let said = match (step, errno) {
        (StartStep::Exec, _) => {
            let directory = Path::new(&context.directory);
            return preflight::advice(&context.program, directory, &context.path, errno);
        }
        (StartStep::Fork, libc::EAGAIN) => return process_limit::reached(),
        (StartStep::Directory, libc::ENOENT) => "create it, or correct `directory`",
        (StartStep::Directory, libc::ENOTDIR) => "it is a file; correct `directory`",
        (StartStep::Directory, libc::EACCES) => "its user may not enter it, or a folder above it",
        (StartStep::User | StartStep::Group, libc::EPERM) => {
            "only root may start a module as another user, or who may change users and signal them \
             (CAP_SETUID, CAP_SETGID, CAP_KILL): run mainstay as root, or remove `user` and `group`"
        }
        (StartStep::Limits, libc::ENOTSUP) => {
            "this system has no `no_new_privileges` or no `oom_score_adj`; remove it"
        }
        (StartStep::Isolation, libc::EPERM) => {
            "this needs CAP_SYS_ADMIN and CAP_SETPCAP, which a container may lack; remove the key"
        }
        (StartStep::Isolation, libc::ENOENT) => "a path of `read_only` is missing; create it",
        (StartStep::Limits, libc::EPERM | libc::EACCES) => {
            "only root may raise a limit or a priority; lower it"
        }
        _ => return None,
    };
    Some(said.to_owned())
}
