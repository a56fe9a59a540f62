//! Which machine this is, across restarts of it.
//! Owns the choice: the machine's id where there is one, else its name.
//! Never keeps it.

/// A text that tells this machine apart; empty where nothing does.
pub(crate) fn machine_id() -> String {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let id = read("/etc/machine-id").map(|id| id.trim().to_owned());
    let id = id.filter(|id| !id.is_empty());
    id.or_else(|| sysinfo::System::host_name().ok())
        .unwrap_or_default()
}
