//! Lets a process wait for others, and takes that back.
//! Owns nothing. Without the right to raise a priority again only that of disks is lowered.
//! Never raises a process above where it was started.

/// How far below its own priority a process in the background is, in steps of `nice`.
const STEPS: i32 = 10;

/// Sets it for all threads of a process. One that has ended is left out.
pub(super) fn set_background(pid: u32, lower: bool) {
    for thread in threads(pid) {
        set_disk_priority(thread, lower);
        if may_raise() {
            let steps = if lower { STEPS } else { -STEPS };
            add_nice(thread, steps);
        }
    }
}

#[cfg(target_os = "linux")]
fn threads(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    tasks
        .filter_map(|task| task.file_name().to_str()?.parse().ok())
        .collect()
}

#[cfg(not(target_os = "linux"))]
fn threads(pid: u32) -> Vec<u32> {
    vec![pid]
}

fn may_raise() -> bool {
    nix::unistd::geteuid().is_root()
}

#[expect(unsafe_code, reason = "nix has no setpriority")]
fn add_nice(thread: u32, steps: i32) {
    // SAFETY: numbers only; a thread that has ended is an error.
    unsafe {
        let nice = libc::getpriority(libc::PRIO_PROCESS, thread as _) + steps;
        libc::setpriority(libc::PRIO_PROCESS, thread as _, nice);
    }
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the C library has no ioprio_set")]
fn set_disk_priority(thread: u32, lower: bool) {
    const OF_THREAD: libc::c_long = 1;
    const CLASS_SHIFT: libc::c_long = 13;
    const CLASS_IDLE: libc::c_long = 3;
    let class = if lower { CLASS_IDLE << CLASS_SHIFT } else { 0 };
    // SAFETY: numbers only.
    unsafe {
        libc::syscall(libc::SYS_ioprio_set, OF_THREAD, thread, class);
    }
}

#[cfg(not(target_os = "linux"))]
fn set_disk_priority(_: u32, _: bool) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[expect(unsafe_code, reason = "getpriority, ioprio_get")]
    fn priorities(thread: u32) -> (i32, libc::c_long) {
        // SAFETY: numbers only.
        unsafe {
            let nice = libc::getpriority(libc::PRIO_PROCESS, thread);
            (nice, libc::syscall(libc::SYS_ioprio_get, 1, thread) >> 13)
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "no runtime is under test")]
    fn what_was_lowered_is_raised_again() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("a process");
        let before = priorities(child.id());
        set_background(child.id(), true);
        let lowered = priorities(child.id());
        assert_eq!(lowered.1, 3);
        assert!(!may_raise() || lowered.0 > before.0);
        set_background(child.id(), false);
        assert_eq!(priorities(child.id()), before);
        child.kill().expect("it runs");
        child.wait().expect("it ends");
    }
}
