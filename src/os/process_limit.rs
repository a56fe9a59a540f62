//! Which limit keeps a process or a thread from being made, and where it comes from.
//! Owns nothing: reads what the kernel shows at the moment it is asked.
//! Never changes a limit.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::RwLock;

/// A message about an error, with the limit that is its cause, if it says that none can be made.
pub(crate) fn with_limit(message: &str) -> String {
    let full = io::Error::from_raw_os_error(libc::EAGAIN).to_string();
    match reached().filter(|_| message.contains(&full)) {
        Some(limit) => format!("{message}; {limit}"),
        None => message.to_owned(),
    }
}

/// Keeps this process from leaving its memory in a file when it crashes: secrets are in it.
pub(crate) fn forbid_core_dumps() {
    use nix::sys::resource::{Resource, setrlimit};
    if let Err(error) = setrlimit(Resource::RLIMIT_CORE, 0, 0) {
        tracing::warn!("cannot switch core dumps off: {error}");
    }
}

/// Lets this process open as many files as it may: many modules have many logs.
#[cfg(feature = "cli")]
pub(crate) fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    // Where that is refused, what cannot be opened says so.
    let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
}

/// Whether so many threads can be made here at once: what makes them later may not be able to say
/// that it cannot.
///
/// # Errors
/// As a message, with the limit.
pub(crate) fn check_threads(count: usize) -> Result<(), String> {
    // They leave it together, not one after the other.
    let wait = RwLock::new(());
    std::thread::scope(|scope| {
        let held = wait.write();
        let mut outcome = Ok(());
        for _ in 0..count {
            let builder = std::thread::Builder::new().stack_size(64 * 1024);
            if let Err(problem) = builder.spawn_scoped(scope, || drop(wait.read())) {
                // Asked while the others live.
                outcome = Err(with_limit(&format!("cannot make a thread: {problem}")));
                break;
            }
        }
        drop(held);
        outcome
    })
}

/// The limit that is reached now, with its value, its place and the next step; None when none is
/// to be seen.
pub(super) fn reached() -> Option<String> {
    cgroup_limit().or_else(user_limit).or_else(system_limit)
}

/// Threads and processes of a failed start that are gone again when its limit is looked for.
const FREED_MAX: u64 = 3;

/// `pids.max` of this control group, or of one above it; both kinds of hierarchies.
fn cgroup_limit() -> Option<String> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let lines = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let pids = controllers.split(',').any(|one| one == "pids");
        (controllers.is_empty() || pids).then_some((pids, path))
    });
    let mut folders = lines.filter_map(|(v1, path)| folder(&mounts, v1, path));
    folders.find_map(|(mount, folder)| full_above(&mount, &folder))
}

/// Where a hierarchy is mounted, and a group of it.
fn folder(mounts: &str, v1: bool, path: &str) -> Option<(PathBuf, PathBuf)> {
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut words = place.split(' ').skip(3);
        let (root, mount) = (words.next()?, words.next()?);
        let mut kind = kind.split(' ');
        let found = match (kind.next()?, v1) {
            ("cgroup", true) => kind.nth(1)?.split(',').any(|option| option == "pids"),
            ("cgroup2", false) => true,
            _ => false,
        };
        let inside = path.strip_prefix(root.trim_end_matches('/'))?;
        let folder = Path::new(mount).join(inside.trim_start_matches('/'));
        found.then(|| (PathBuf::from(mount), folder))
    })
}

fn full_above(mount: &Path, folder: &Path) -> Option<String> {
    let number = |folder: &Path, name: &str| -> Option<u64> {
        let text = fs::read_to_string(folder.join(name)).ok()?;
        text.trim().parse().ok()
    };
    let above = folder.ancestors().take_while(|one| one.starts_with(mount));
    above.into_iter().find_map(|one| {
        let (limit, now) = (number(one, "pids.max")?, number(one, "pids.current")?);
        let file = one.join("pids.max").display().to_string();
        (now + FREED_MAX > limit).then(|| {
            format!(
                "the limit of {limit} processes and threads is reached ({file}); raise it, under \
                 systemd with TasksMax="
            )
        })
    })
}

/// Nothing here reads the limit of a user.
#[cfg(target_os = "macos")]
fn user_limit() -> Option<String> {
    None
}

/// RLIMIT_NPROC: of all processes of this user. Root is not bound by it.
#[cfg(not(target_os = "macos"))]
fn user_limit() -> Option<String> {
    use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
    let (limit, _) = getrlimit(Resource::RLIMIT_NPROC).ok()?;
    let user = nix::unistd::geteuid();
    (limit != RLIM_INFINITY && !user.is_root()).then(|| {
        format!(
            "the limit of {limit} processes and threads of user {user} may be reached \
             (RLIMIT_NPROC); raise it with `ulimit -u` or LimitNPROC="
        )
    })
}

fn system_limit() -> Option<String> {
    let number = |name: &str| -> Option<u64> {
        let text = fs::read_to_string(Path::new("/proc/sys/kernel").join(name)).ok()?;
        text.trim().parse().ok()
    };
    let (threads, pids) = (number("threads-max")?, number("pid_max")?);
    let (limit, name) = if threads < pids {
        (threads, "threads-max")
    } else {
        (pids, "pid_max")
    };
    Some(format!(
        "the machine may have no room for more than {limit} processes and threads \
         (/proc/sys/kernel/{name}); raise it with `sysctl kernel.{name}`"
    ))
}
