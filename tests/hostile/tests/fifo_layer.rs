//! A fifo where a file is expected costs the one whose file it is, and nobody else.
//! Owns the tests and their fifos. Never opens one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use mainstay_protocol::ModuleState;
use mainstay_protocol::method::name;

use crate::setup::{BOTH, LASTS, Setup, Trees};
use crate::system::withstand;

/// What is laid as fifo and started as program.
const COMMANDS: [&str; 4] = ["fifo-0", "fifo-1", "fifo-2", "fifo-3"];

/// Lays a fifo as whoever the tests are.
fn lay(setup: &Setup, file: &str) {
    let mut layer = Command::new(setup.path("hostile"));
    layer.arg("fifo-layer").arg(setup.path(file));
    let laid = layer.stdout(Stdio::null()).status();
    assert!(laid.is_ok_and(|status| status.success()), "no fifo");
}

fn with_fifos_as_commands(trees: Trees) -> Setup {
    COMMANDS.iter().fold(Setup::new(trees), |setup, name| {
        lay(&setup, name);
        let command = format!("[{:?}]", setup.path(name).display().to_string());
        let more = "start = \"lazy\"\nrequired = false\nrecovery.restart = \"never\"";
        setup.module_of(name, &command, more)
    })
}

#[test]
fn commands_that_are_fifos_stop_no_other_start() {
    for trees in BOTH {
        withstand(
            || with_fifos_as_commands(trees),
            |system| {
                for name in COMMANDS {
                    system.change(name::MODULE_START, name);
                }
                for name in COMMANDS {
                    system.until(name, |view| view.state == ModuleState::Failed);
                }
                Vec::new()
            },
        );
    }
}

fn with_fifo_as_log() -> Setup {
    let words = ["log-flooder", LASTS];
    let more = "start = \"lazy\"\nrequired = false\nrecovery.restart = \"never\"";
    let setup = Setup::new(Trees::Walked).module("unwritten", &words, more);
    for folder in ["state", "state/logs"] {
        fs::create_dir(setup.path(folder)).expect("a folder");
        let ours = fs::Permissions::from_mode(0o700);
        fs::set_permissions(setup.path(folder), ours).expect("permissions");
    }
    lay(&setup, "state/logs/unwritten.log");
    setup
}

#[test]
fn a_log_that_is_a_fifo_costs_its_own_module_alone() {
    withstand(with_fifo_as_log, |system| {
        system.change(name::MODULE_START, "unwritten");
        system.until("unwritten", |view| view.output_dropped_bytes > 0);
        Vec::new()
    });
}
