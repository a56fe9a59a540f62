//! What the holder is told of the configuration: at its start, and when it changes.
//! Owns how much longer than the stop budget the holder waits. Never sends anything.

use std::path::Path;
use std::time::Duration;

use crate::config::{Configuration, Principal};
use crate::os::{HolderSetup, LiveSetup};

/// The holder replaces a runtime that does not answer for this time.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(40);
/// What the holder adds to the stop budget before it kills everything itself.
pub(crate) const STOP_MARGIN: Duration = Duration::from_secs(5);

/// Returns what the holder needs before anything runs.
pub(crate) fn setup(configuration: &Configuration) -> HolderSetup {
    let system = &configuration.system;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    HolderSetup {
        name: system.name.clone(),
        config_dir: text(&system.config_dir),
        state_dir: text(&system.state_dir),
        runtime_dir: text(&system.runtime_dir),
        log_dir: text(&system.logs.directory),
        heartbeat_timeout_ms: millis(HEARTBEAT_TIMEOUT),
        live: live(configuration),
    }
}

/// Returns the part of it that follows the plan in force.
pub(crate) fn live(configuration: &Configuration) -> LiveSetup {
    let system = &configuration.system;
    let ipc = &system.ipc;
    let mut listed = [&ipc.observers, &ipc.operators, &ipc.admins].into_iter();
    let has_others = listed.any(|listed| listed.iter().any(|who| *who != Principal::User));
    LiveSetup {
        log_max_bytes: system.logs.max_bytes,
        log_keep: system.logs.keep,
        // Peer credentials decide who else may connect; the socket only has to let them.
        control_mode: if has_others { 0o666 } else { 0o600 },
        stop_timeout_ms: millis(configuration.system_spec.shutdown_timeout + STOP_MARGIN),
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
