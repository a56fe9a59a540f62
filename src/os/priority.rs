//! Lets a process wait for others, and takes that back.
//! Without the right to raise a priority again only that of disks is lowered.
//! Never raises a process above where it was started.

/// How far below its own priority a process in the background is, in steps of `nice`.
const STEPS: i32 = 10;

/// Lets all threads of a process wait for others. One that has ended is left out.
pub(super) fn lower(pid: u32) {
    for thread in threads(pid) {
        set_disk_priority(thread, true);
        if may_raise() {
            set_nice(thread, nice(thread) + STEPS);
        }
    }
}

/// Takes that back, but leaves no thread above the `nice` that its run began with: the system
/// cuts what was lowered off at 19, and a process may have started in between.
pub(super) fn raise(pid: u32, base: i32) {
    for thread in threads(pid) {
        set_disk_priority(thread, false);
        if may_raise() {
            set_nice(thread, (nice(thread) - STEPS).max(base));
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

/// The `nice` of a thread; 0 of one that has ended.
#[expect(unsafe_code, reason = "nix has no getpriority")]
pub(super) fn nice(thread: u32) -> i32 {
    // SAFETY: numbers only.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, thread as _) };
    nice.clamp(-20, 19)
}

#[expect(unsafe_code, reason = "nix has no setpriority")]
fn set_nice(thread: u32, nice: i32) {
    // SAFETY: numbers only; a thread that has ended is an error.
    unsafe {
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
        // Near the end of the scale too, where the system cuts off what is added.
        for base in [0, 15] {
            set_nice(child.id(), base);
            let before = priorities(child.id());
            lower(child.id());
            let lowered = priorities(child.id());
            assert_eq!(lowered.1, 3);
            assert!(!may_raise() || lowered.0 > before.0);
            raise(child.id(), before.0);
            assert_eq!(priorities(child.id()), before);
        }
        child.kill().expect("it runs");
        child.wait().expect("it ends");
    }
}
