//! Whether another holder can go on in the place of one that has died, and why not.
//! Never starts one.

/// Turns it on: `MAINSTAY_SUCCESSION=on`. It has not gone through a long campaign of deaths yet.
const SWITCH: &str = "MAINSTAY_SUCCESSION";
/// The first kernel that tells how a process ended to one that is not its parent.
const KERNEL: (u32, u32) = (6, 15);

/// In a few words: why the modules end with their holder here.
pub(crate) fn obstacle() -> Option<String> {
    if std::env::var_os(SWITCH).is_none_or(|word| word != "on") {
        return Some(format!("{SWITCH}=on turns it on"));
    }
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
