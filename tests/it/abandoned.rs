//! A start that is in flight, and hangs, when the runtime dies: it is abandoned and made again.
//! Owns a program whose execution hangs until it is released.
//! Never fails where there is no Python to keep it from running: it says so.

use std::fs;
use std::path::Path;

use mainstay_protocol::ModuleState;

use crate::daemon::{Daemon, in_both_ways, misbehave};

#[expect(clippy::unwrap_used, reason = "a part of the holder's tests")]
#[path = "../../src/holder/tests/common/leased.rs"]
pub(crate) mod leased;

/// Processes that execute this file.
pub(crate) fn running(program: &Path) -> usize {
    let entries = fs::read_dir("/proc").expect("processes").flatten();
    let programs = entries.filter_map(|entry| fs::read_link(entry.path().join("exe")).ok());
    programs.filter(|found| found == program).count()
}

#[test]
fn a_start_that_hangs_when_the_runtime_dies_is_made_again_and_never_twice() {
    in_both_ways(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let Some(leased) = leased::Leased::new(folder.path()) else {
            return;
        };
        let program = folder.path().join("hangs");
        let daemon = Daemon::launch(
            "",
            &format!(
                "[module.other]\ncommand = {}\n\
                 [module.it]\ncommand = [{:?}, \"300\"]\nrequired = false\n\
                 startup_timeout = \"60s\"\nrequires = [\"other\"]\n",
                misbehave(""),
                leased.program(),
            ),
        );
        let other = daemon.until("other", ModuleState::Running).pid;
        daemon.until_view("its start to be in flight", "it", |view| {
            view.state == ModuleState::Starting && view.generation > 0
        });
        daemon.kill_runtime();
        // The holder does not wait for it for long, nor for ever.
        let found = daemon.until("other", ModuleState::Running).pid;
        assert_eq!(found, other, "nobody else noticed");
        assert_eq!(running(&program), 0, "it hangs still");
        drop(leased);
        daemon.until("it", ModuleState::Running);
        daemon.wait("one run of it", || (running(&program) == 1).then_some(()));
        assert_eq!(daemon.module("other").pid, other);
        assert_eq!(daemon.stop(), Some(0));
        assert_eq!(running(&program), 0, "nothing is left");
    });
}
