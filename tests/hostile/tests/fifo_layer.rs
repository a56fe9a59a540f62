//! A fifo where a file is expected costs the one whose file it is, and nobody else.
//! Owns the tests and their fifos. Never opens one.

use std::process::{Command, Stdio};

use mainstay_protocol::State;
use mainstay_protocol::method::name;

use crate::setup::{BOTH, Setup, Trees};
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
                    system.until(name, |view| view.state == State::Failed);
                }
                Vec::new()
            },
        );
    }
}
