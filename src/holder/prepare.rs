//! From the words of a spawn to orders a child can follow without allocating.
//! Owns the inherited environment, taken once; looks up users and groups.
//! Never starts anything.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{null, null_mut};

use mainstay_process::{SpawnRequest, StartFailure, StartStep};
use nix::unistd::{Gid, Group, Uid, User};

use crate::child::{ChildErrorSlot, Credentials, ExecSpec};
use crate::fd_store::NamedFd;
use crate::kernel::groups_of;
use crate::preflight;

/// Variable by which a process is recognised as one of an instance's tree.
pub(crate) const TREE_MARK_VAR: &str = "MAINSTAY_MARK";

/// The variable with this value, as it lies in an environment.
pub(crate) fn mark_variable(mark: &str) -> Vec<u8> {
    format!("{TREE_MARK_VAR}={mark}").into_bytes()
}

/// Why it does not start.
#[derive(Debug)]
pub(crate) struct SpawnError {
    pub(crate) failure: StartFailure,
    pub(crate) message: String,
}

impl SpawnError {
    pub(crate) fn new(step: StartStep, errno: i32, what: &str) -> SpawnError {
        let name = nix::errno::Errno::from_raw(errno);
        let text = std::io::Error::from_raw_os_error(errno).to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        SpawnError {
            failure: StartFailure { step, errno },
            message: format!("cannot {what}: {text} ({name:?})"),
        }
    }

    /// Puts into words what the child left on its slip, and what a person does about it.
    pub(crate) fn from_child(
        spawn: &SpawnRequest,
        inherited: &BaseEnvironment,
        step: StartStep,
        errno: i32,
    ) -> SpawnError {
        let program = spawn.argv.first().map_or("", String::as_str);
        let what = match step {
            StartStep::Session => "open a session".to_owned(),
            StartStep::Directory => format!("enter the directory {}", spawn.directory),
            StartStep::Limits => format!("set its limits ({})", spawn.limits),
            StartStep::Group => format!(
                "become group {}",
                spawn.group.as_deref().unwrap_or("of the user")
            ),
            StartStep::User => format!("become user {}", spawn.user.as_deref().unwrap_or("?")),
            StartStep::Descriptors => "arrange its descriptors".to_owned(),
            StartStep::Fence
            | StartStep::Prepare
            | StartStep::Resources
            | StartStep::Pipe
            | StartStep::Fork
            | StartStep::Exec
            | StartStep::Other => format!("execute {program}"),
        };
        SpawnError::new(step, errno, &what).with_advice(next_step(spawn, inherited, step, errno))
    }

    pub(crate) fn with_advice(mut self, advice: Option<String>) -> SpawnError {
        if let Some(advice) = advice {
            self.message = format!("{}; {advice}", self.message);
        }
        self
    }
}

fn next_step(
    spawn: &SpawnRequest,
    inherited: &BaseEnvironment,
    step: StartStep,
    errno: i32,
) -> Option<String> {
    let said = match (step, errno) {
        (StartStep::Exec, _) => {
            let program = spawn.argv.first()?;
            let path = path(spawn, inherited);
            let path = String::from_utf8_lossy(path);
            return preflight::advice(program, Path::new(&spawn.directory), &path, errno);
        }
        (StartStep::Directory, libc::ENOENT) => "create it, or correct `directory`",
        (StartStep::Directory, libc::ENOTDIR) => "it is a file; correct `directory`",
        (StartStep::Directory, libc::EACCES) => "its user may not enter it, or a folder above it",
        (StartStep::User | StartStep::Group, libc::EPERM) => {
            "only root may start a module as somebody else: run mainstay as root, or remove \
             `user` and `group`"
        }
        (StartStep::Limits, libc::ENOTSUP) => {
            "this system has no `no_new_privileges` or no `oom_score_adj`; remove it"
        }
        (StartStep::Limits, libc::EPERM | libc::EACCES) => {
            "only root may raise a limit or a priority; lower it"
        }
        _ => return None,
    };
    Some(said.to_owned())
}

/// PATH as the program will find it.
fn path<'a>(spawn: &'a SpawnRequest, inherited: &'a BaseEnvironment) -> &'a [u8] {
    let own = spawn.env.iter().rfind(|(name, _)| name == "PATH");
    let kept = inherited.0.get(&b"PATH"[..]).filter(|_| !spawn.clear_env);
    own.map(|(_, path)| path.as_bytes())
        .or(kept.map(Vec::as_slice))
        .unwrap_or(preflight::DEFAULT_PATH.as_bytes())
}

/// The environment modules inherit: ours at the start, without what was meant for us alone.
#[derive(Debug)]
pub(crate) struct BaseEnvironment(BTreeMap<Vec<u8>, Vec<u8>>);

impl BaseEnvironment {
    pub(crate) fn capture() -> BaseEnvironment {
        let ours = |name: &OsStr| {
            let name = name.as_bytes();
            let starts = |prefix: &str| name.starts_with(prefix.as_bytes());
            let exact = [&b"NOTIFY_SOCKET"[..], b"INVOCATION_ID", b"JOURNAL_STREAM"];
            starts("LISTEN_") || starts("WATCHDOG_") || starts("MAINSTAY_") || exact.contains(&name)
        };
        let kept = std::env::vars_os().filter(|(name, _)| !ours(name));
        let bytes = |text: std::ffi::OsString| text.as_bytes().to_vec();
        BaseEnvironment(
            kept.map(|(name, value)| (bytes(name), bytes(value)))
                .collect(),
        )
    }
}

/// What the spawner opened for the child.
#[derive(Debug)]
pub(crate) struct ChildFds<'a> {
    pub(crate) stdin: i32,
    pub(crate) stdout: i32,
    pub(crate) ready: Option<i32>,
    pub(crate) notify_path: Option<String>,
    pub(crate) mark: String,
    pub(crate) nofile: libc::rlimit,
    pub(crate) above: u32,
    /// What it is given from descriptor 3 on: sockets, then what it stored.
    pub(crate) handed: &'a [NamedFd],
}

/// Checks what can be known before anything is opened.
pub(crate) fn check(spawn: &SpawnRequest) -> Result<(), SpawnError> {
    if spawn.instance.check().is_err() {
        return Err(SpawnError::new(
            StartStep::Descriptors,
            libc::EINVAL,
            &format!("use the name {:?}", spawn.instance),
        ));
    }
    if spawn.argv.is_empty() {
        return Err(SpawnError::new(
            StartStep::Exec,
            libc::EINVAL,
            "execute an empty command",
        ));
    }
    match spawn.ready_fd {
        Some(fd) if !(3..1024).contains(&fd) => {
            let what = format!("give it descriptor {fd} for readiness; choose 3 to 1023");
            Err(SpawnError::new(StartStep::Descriptors, libc::EBADF, &what))
        }
        _ => Ok(()),
    }
}

/// Builds the orders.
pub(crate) fn exec_spec(
    spawn: &SpawnRequest,
    inherited: &BaseEnvironment,
    ends: &ChildFds<'_>,
    slip: *const ChildErrorSlot,
) -> Result<ExecSpec, SpawnError> {
    let given = fd_mappings(spawn, ends)?;
    let identity = identity(spawn)?;
    let variables = variables(spawn, inherited, ends);
    let programs = candidates(spawn, path(spawn, inherited))?;
    let mut strings = Vec::with_capacity(spawn.argv.len() + variables.len());
    for word in &spawn.argv {
        strings.push(text(word.as_bytes(), "pass an argument that contains NUL")?);
    }
    for (name, value) in &variables {
        let pair = [name, &b"="[..], value].concat();
        strings.push(text(&pair, "pass a variable that contains NUL")?);
    }
    let mut pointers = strings.iter().map(|one| one.as_ptr());
    let mut argv: Vec<_> = pointers.by_ref().take(spawn.argv.len()).collect();
    let mut envp: Vec<_> = pointers.collect();
    argv.push(null());
    let mut pid_texts = Vec::new();
    let mut pid_digits = [null_mut(); 2];
    let wanted = [
        ("WATCHDOG_PID=", spawn.watchdog_usec.is_some()),
        ("LISTEN_PID=", !ends.handed.is_empty()),
    ];
    for (digits, (name, _)) in pid_digits
        .iter_mut()
        .zip(wanted.iter().filter(|(_, is)| *is))
    {
        let mut slot: Box<[u8]> = [name.as_bytes(), &[0; 11]].concat().into();
        let start = slot.as_mut_ptr();
        envp.push(start.cast_const().cast());
        *digits = start.wrapping_add(name.len());
        pid_texts.push(slot);
    }
    envp.push(null());
    let nofile = match spawn.limits.file_handles {
        Some(limit) => libc::rlimit {
            rlim_cur: limit as _,
            rlim_max: limit as _,
        },
        None => ends.nofile,
    };
    Ok(ExecSpec {
        programs,
        argv,
        envp,
        directory: text(
            spawn.directory.as_bytes(),
            "enter a directory whose name contains NUL",
        )?,
        stdin: ends.stdin,
        stdout: ends.stdout,
        fd_mappings: given,
        group_procs: -1,
        nofile,
        limits: spawn.limits,
        identity,
        no_new_privileges: spawn.no_new_privileges,
        parent_death_pid: 0,
        tag: 0,
        pid_digits,
        slip,
        first_droppable_fd: ends.above,
        _strings: strings,
        _pid_texts: pid_texts,
    })
}

/// Where each descriptor comes from and goes to, by rising number: what it is handed from 3 on,
/// without a gap, and the readiness pipe behind it.
fn fd_mappings(spawn: &SpawnRequest, ends: &ChildFds<'_>) -> Result<Vec<(i32, i32)>, SpawnError> {
    let handed = ends.handed.iter().map(|(_, fd)| fd.as_raw_fd());
    let given = handed.zip(3..).chain(ends.ready.zip(spawn.ready_fd));
    let given: Vec<(i32, i32)> = given.collect();
    match given.as_slice() {
        [.., (_, last), (_, ready)] if ends.ready.is_some() && ready <= last => {
            let what = format!(
                "give it descriptor {ready} for readiness: its sockets and what it stored lie on 3 \
                 to {last}; choose a higher one"
            );
            Err(SpawnError::new(StartStep::Descriptors, libc::EBUSY, &what))
        }
        _ => Ok(given),
    }
}

fn text(bytes: &[u8], what: &str) -> Result<CString, SpawnError> {
    CString::new(bytes).map_err(|_| SpawnError::new(StartStep::Exec, libc::EINVAL, what))
}

fn variables(
    spawn: &SpawnRequest,
    inherited: &BaseEnvironment,
    ends: &ChildFds<'_>,
) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut all = if spawn.clear_env {
        BTreeMap::new()
    } else {
        inherited.0.clone()
    };
    let mut set = |name: &str, value: &str| all.insert(name.into(), value.into());
    for (name, value) in &spawn.env {
        set(name, value);
    }
    set(TREE_MARK_VAR, &ends.mark);
    if let Some(path) = &ends.notify_path {
        set("NOTIFY_SOCKET", path);
    }
    if let Some(usec) = spawn.watchdog_usec {
        set("WATCHDOG_USEC", &usec.to_string());
        all.remove(&b"WATCHDOG_PID"[..]);
    }
    if !ends.handed.is_empty() {
        let names: Vec<&str> = ends.handed.iter().map(|(name, _)| name.as_str()).collect();
        let mut set = |name: &str, value: String| all.insert(name.into(), value.into());
        set("LISTEN_FDS", names.len().to_string());
        set("LISTEN_FDNAMES", names.join(":"));
        all.remove(&b"LISTEN_PID"[..]);
    }
    all
}

/// What execvp would try, in its order.
fn candidates(spawn: &SpawnRequest, path: &[u8]) -> Result<Vec<CString>, SpawnError> {
    let what = "execute a program whose name contains NUL";
    let program = spawn.argv.first().map_or(&b""[..], |word| word.as_bytes());
    if program.is_empty() || program.contains(&b'/') {
        return Ok(vec![text(program, what)?]);
    }
    let folders = path.split(|byte| *byte == b':');
    let joined = folders.map(|folder| match folder {
        [] => text(&[b"./", program].concat(), what),
        _ => text(&[folder, b"/", program].concat(), what),
    });
    joined.collect()
}

fn identity(spawn: &SpawnRequest) -> Result<Option<Credentials>, SpawnError> {
    if spawn.user.is_none() && spawn.group.is_none() {
        return Ok(None);
    }
    let (mut uid, mut gid, mut groups) =
        (Uid::effective().as_raw(), Gid::effective().as_raw(), None);
    if let Some(name) = &spawn.user {
        let failed = |errno| not_found(StartStep::User, errno, "user", name);
        match find_user(name).map_err(|errno| failed(errno as i32))? {
            Some(user) => {
                (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
                let name = text(user.name.as_bytes(), "use a user name that contains NUL")?;
                groups = groups_of(&name, user.gid);
            }
            // A number without an entry is a user too, without further groups.
            None => uid = name.parse().map_err(|_| failed(libc::ENOENT))?,
        }
    }
    if let Some(name) = &spawn.group {
        let failed = |errno| not_found(StartStep::Group, errno, "group", name);
        let found = Group::from_name(name).map_err(|errno| failed(errno as i32))?;
        gid = match found {
            Some(group) => group.gid.as_raw(),
            None => name.parse().map_err(|_| failed(libc::ENOENT))?,
        };
    }
    let same = uid == Uid::effective().as_raw() && gid == Gid::effective().as_raw();
    if same && uid != 0 {
        return Ok(None);
    }
    let groups = groups.unwrap_or_else(|| vec![gid]);
    Ok(Some(Credentials { uid, gid, groups }))
}

fn not_found(step: StartStep, errno: i32, what: &str, name: &str) -> SpawnError {
    let failure = SpawnError::new(step, errno, &format!("find the {what} {name}"));
    let advice = format!("there is none of this name here; create it, or correct `{what}`");
    failure.with_advice((errno == libc::ENOENT).then_some(advice))
}

fn find_user(name: &str) -> nix::Result<Option<User>> {
    match name.parse() {
        Ok(number) => User::from_uid(Uid::from_raw(number)),
        Err(_) => User::from_name(name),
    }
}
