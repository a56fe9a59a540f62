//! Whether another holder can go on in the place of one that has died, and why not.
//! Never starts one.

/// `on` or `off`, instead of what `is_wanted` says.
#[cfg(target_os = "linux")]
const SWITCH: &str = "MAINSTAY_SUCCESSION";
/// Marks an `up` that is the leader of a session of its own: no process waits for its end.
pub(crate) const ENV_DETACHED: &str = "MAINSTAY_DETACHED";
/// The first kernel that tells how a process ended to one that is not its parent.
const KERNEL: (u32, u32) = (6, 15);

/// Whether one is to go on here. To the shell or the service manager that waits for a holder in the
/// foreground its end is the end of all, and it may start everything anew; `is_followed`: this one
/// learns which process is the main one then.
#[cfg(target_os = "linux")]
pub(crate) fn is_wanted(is_followed: bool) -> bool {
    match std::env::var_os(SWITCH) {
        Some(word) if word == "on" => true,
        Some(word) if word == "off" => false,
        _ => is_followed || std::env::var_os(ENV_DETACHED).is_some(),
    }
}

/// In a few words: why none can on this machine.
pub(crate) fn obstacle() -> Option<String> {
    if !cfg!(target_os = "linux") {
        return Some("it needs Linux 6.15".to_owned());
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if version(&release).is_some_and(|version| version >= KERNEL) {
        return None;
    }
    let release = release.trim();
    Some(format!("it needs Linux 6.15, this is {release}"))
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|one: char| !one.is_ascii_digit());
    let mut next = || numbers.next()?.parse().ok();
    Some((next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_of_the_kernel_is_read() {
        assert_eq!(version("6.18.44-fc-v657\n"), Some((6, 18)));
        assert!(version("6.9.1").is_some_and(|version| version < KERNEL));
        assert!(version("7.0-rc1").is_some_and(|version| version >= KERNEL));
        assert_eq!(version(""), None);
    }
}
