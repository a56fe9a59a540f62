//! From a spawn request to a spec that the new process follows without allocating.
//! Owns the inherited environment, taken once; looks nothing up.
//! Never starts anything.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::ptr::{null, null_mut};

use mainstay_process::{Credentials, SpawnRequest, StartStep};

use crate::spawn::exec_spec::{ChildErrorSlot, ExecSpec};
use crate::spawn::spawn_error::SpawnError;
use crate::workers::mark::TREE_MARK_VAR;

/// Where programs are looked for when no PATH is set.
const DEFAULT_PATH: &str = "/usr/local/bin:/bin:/usr/bin";

/// PATH as the program will find it.
fn path<'a>(spawn: &'a SpawnRequest, inherited: &'a BaseEnvironment) -> &'a [u8] {
    let own = spawn.env.iter().rfind(|(name, _)| name == "PATH");
    let kept = inherited.0.get(&b"PATH"[..]).filter(|_| !spawn.clear_env);
    own.map(|(_, path)| path.as_bytes())
        .or(kept.map(Vec::as_slice))
        .unwrap_or(DEFAULT_PATH.as_bytes())
}

/// The environment modules inherit: ours at the start, without what was meant for us alone.
#[derive(Debug)]
pub(crate) struct BaseEnvironment(BTreeMap<Vec<u8>, Vec<u8>>);

impl BaseEnvironment {
    pub(crate) fn capture() -> BaseEnvironment {
        let ours = |name: &OsStr| {
            let name = name.as_bytes();
            let starts = |prefix: &str| name.starts_with(prefix.as_bytes());
            let exact = [
                &b"NOTIFY_SOCKET"[..],
                b"INVOCATION_ID",
                b"JOURNAL_STREAM",
                b"PIDFILE",
                b"SYSTEMD_EXEC_PID",
            ];
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
pub(crate) struct ChildFds {
    pub(crate) stdin: i32,
    pub(crate) stdout: i32,
    pub(crate) stderr: i32,
    pub(crate) ready: Option<i32>,
    pub(crate) notify_path: Option<String>,
    pub(crate) mark: String,
    pub(crate) nofile: libc::rlimit,
    pub(crate) above: u32,
    /// Of the pipe that tells when all starts have executed, or -1.
    pub(crate) barrier: i32,
    /// What it is passed from descriptor 3 on: sockets, then what it stored.
    pub(crate) handed: Vec<(String, i32)>,
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
    // Of a runtime that left the look-up to its holder.
    if spawn.credentials.is_none() && (spawn.user.is_some() || spawn.group.is_some()) {
        let what = "use a user or group by name: it was not looked up";
        return Err(SpawnError::new(StartStep::User, libc::EINVAL, what));
    }
    let no_one = |who: &Credentials| [who.uid, who.gid].contains(&u32::MAX);
    if spawn.credentials.as_ref().is_some_and(no_one) {
        return Err(SpawnError::without_text(StartStep::User, libc::EINVAL));
    }
    match spawn.ready_fd {
        Some(fd) if !(3..1024).contains(&fd) => {
            let what = format!("give it descriptor {fd} for readiness; choose 3 to 1023");
            Err(SpawnError::new(StartStep::Descriptors, libc::EBADF, &what))
        }
        _ => Ok(()),
    }
}

/// Builds the spec.
pub(crate) fn exec_spec(
    spawn: &SpawnRequest,
    inherited: &BaseEnvironment,
    ends: &ChildFds,
    slot: *const ChildErrorSlot,
) -> Result<ExecSpec, SpawnError> {
    let given = fd_mappings(spawn, ends)?;
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
        stderr: ends.stderr,
        fd_mappings: given,
        group_procs: -1,
        nofile,
        limits: spawn.limits,
        identity: spawn.credentials.clone(),
        no_new_privileges: spawn.no_new_privileges,
        capabilities: spawn.isolation.capabilities,
        read_only: read_only(spawn)?,
        private_tmp: spawn.isolation.private_tmp,
        parent_death_pid: 0,
        tag: 0,
        pid_digits,
        slot,
        barrier: ends.barrier,
        first_droppable_fd: ends.above,
        _strings: strings,
        _pid_texts: pid_texts,
    })
}

fn read_only(spawn: &SpawnRequest) -> Result<Vec<CString>, SpawnError> {
    let what = "write-protect a path that contains NUL";
    let paths = spawn.isolation.read_only.iter();
    paths.map(|path| text(path.as_bytes(), what)).collect()
}

/// Where each descriptor comes from and goes to, by rising number: what it is handed from 3 on,
/// without a gap, and the readiness pipe behind it.
fn fd_mappings(spawn: &SpawnRequest, ends: &ChildFds) -> Result<Vec<(i32, i32)>, SpawnError> {
    let handed = ends.handed.iter().map(|(_, fd)| *fd);
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
    ends: &ChildFds,
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
