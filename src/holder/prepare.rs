//! From the words of a spawn to orders a child can follow without allocating.
//! Owns the inherited environment, taken once; looks up users and groups.
//! Never starts anything.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{null, null_mut};

use nix::unistd::{Gid, Group, Uid, User};

use crate::child::{Identity, Orders, Slip};
use crate::here;
use crate::kernel::groups_of;
use crate::store::Given;
use crate::wire::{Spawn, Step};

/// Variable by which a process is recognised as one of an instance's tree.
pub(crate) const MARK: &str = "MAINSTAY_MARK";

/// Why it does not start.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) step: Step,
    pub(crate) errno: i32,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(step: Step, errno: i32, what: &str) -> Failure {
        let name = nix::errno::Errno::from_raw(errno);
        let text = std::io::Error::from_raw_os_error(errno).to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        Failure {
            step,
            errno,
            message: format!("cannot {what}: {text} ({name:?})"),
        }
    }

    /// Puts into words what the child left on its slip, and what a person does about it.
    pub(crate) fn from_child(
        spawn: &Spawn,
        inherited: &Inherited,
        step: Step,
        errno: i32,
    ) -> Failure {
        let program = spawn.argv.first().map_or("", String::as_str);
        let what = match step {
            Step::Session => "open a session".to_owned(),
            Step::Directory => format!("enter the directory {}", spawn.directory),
            Step::Limits => match spawn.file_handles {
                Some(limit) => format!("set the limit of open files to {limit} or nice"),
                None => "set limits or nice".to_owned(),
            },
            Step::Group => format!(
                "become group {}",
                spawn.group.as_deref().unwrap_or("of the user")
            ),
            Step::User => format!("become user {}", spawn.user.as_deref().unwrap_or("?")),
            Step::Descriptors => "arrange its descriptors".to_owned(),
            Step::Fence | Step::Pipe | Step::Fork | Step::Exec => format!("execute {program}"),
        };
        Failure::new(step, errno, &what).advised(next_step(spawn, inherited, step, errno))
    }

    pub(crate) fn advised(mut self, advice: Option<String>) -> Failure {
        if let Some(advice) = advice {
            self.message = format!("{}; {advice}", self.message);
        }
        self
    }
}

fn next_step(spawn: &Spawn, inherited: &Inherited, step: Step, errno: i32) -> Option<String> {
    let said = match (step, errno) {
        (Step::Exec, _) => {
            let program = spawn.argv.first()?;
            let path = path(spawn, inherited);
            let path = String::from_utf8_lossy(path);
            return here::advice(program, Path::new(&spawn.directory), &path, errno);
        }
        (Step::Directory, libc::ENOENT) => "create it, or correct `directory`",
        (Step::Directory, libc::ENOTDIR) => "it is a file; correct `directory`",
        (Step::Directory, libc::EACCES) => "its user may not enter it, or a folder above it",
        (Step::User | Step::Group, libc::EPERM) => {
            "only root may start a module as somebody else: run mainstay as root, or remove \
             `user` and `group`"
        }
        (Step::Limits, libc::ENOTSUP) => "this system has no `no_new_privileges`; remove it",
        (Step::Limits, libc::EPERM) => "only root may raise a limit; lower it",
        _ => return None,
    };
    Some(said.to_owned())
}

/// PATH as the program will find it.
fn path<'a>(spawn: &'a Spawn, inherited: &'a Inherited) -> &'a [u8] {
    let own = spawn.env.iter().rfind(|(name, _)| name == "PATH");
    let kept = inherited.0.get(&b"PATH"[..]).filter(|_| !spawn.clear_env);
    own.map(|(_, path)| path.as_bytes())
        .or(kept.map(Vec::as_slice))
        .unwrap_or(here::DEFAULT_PATH.as_bytes())
}

/// The environment modules inherit: ours at the start, without what was meant for us alone.
#[derive(Debug)]
pub(crate) struct Inherited(BTreeMap<Vec<u8>, Vec<u8>>);

impl Inherited {
    pub(crate) fn capture() -> Inherited {
        let ours = |name: &OsStr| {
            let name = name.as_bytes();
            let starts = |prefix: &str| name.starts_with(prefix.as_bytes());
            let exact = [&b"NOTIFY_SOCKET"[..], b"INVOCATION_ID", b"JOURNAL_STREAM"];
            starts("LISTEN_") || starts("WATCHDOG_") || starts("MAINSTAY_") || exact.contains(&name)
        };
        let kept = std::env::vars_os().filter(|(name, _)| !ours(name));
        let bytes = |text: std::ffi::OsString| text.as_bytes().to_vec();
        Inherited(
            kept.map(|(name, value)| (bytes(name), bytes(value)))
                .collect(),
        )
    }
}

/// What the spawner opened for the child.
#[derive(Debug)]
pub(crate) struct Ends<'a> {
    pub(crate) stdin: i32,
    pub(crate) stdout: i32,
    pub(crate) ready: Option<i32>,
    pub(crate) notify_path: Option<String>,
    pub(crate) mark: String,
    pub(crate) nofile: libc::rlimit,
    pub(crate) above: u32,
    /// What it is given from descriptor 3 on: sockets, then what it stored.
    pub(crate) handed: &'a [Given],
}

/// Checks what can be known before anything is opened.
pub(crate) fn check(spawn: &Spawn) -> Result<(), Failure> {
    let name = &spawn.instance;
    let bad = |c: char| c == '/' || c.is_control() || c.is_whitespace();
    if name.is_empty() || name.len() > 200 || name.starts_with('.') || name.contains(bad) {
        return Err(Failure::new(
            Step::Descriptors,
            libc::EINVAL,
            &format!("use the name {name:?}"),
        ));
    }
    if spawn.argv.is_empty() {
        return Err(Failure::new(
            Step::Exec,
            libc::EINVAL,
            "execute an empty command",
        ));
    }
    match spawn.ready_fd {
        Some(fd) if !(3..1024).contains(&fd) => {
            let what = format!("give it descriptor {fd} for readiness; choose 3 to 1023");
            Err(Failure::new(Step::Descriptors, libc::EBADF, &what))
        }
        _ => Ok(()),
    }
}

/// Builds the orders.
pub(crate) fn orders(
    spawn: &Spawn,
    inherited: &Inherited,
    ends: &Ends<'_>,
    slip: *const Slip,
) -> Result<Orders, Failure> {
    let given = given(spawn, ends)?;
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
    let nofile = match spawn.file_handles {
        Some(limit) => libc::rlimit {
            rlim_cur: limit as _,
            rlim_max: limit as _,
        },
        None => ends.nofile,
    };
    Ok(Orders {
        programs,
        argv,
        envp,
        directory: text(
            spawn.directory.as_bytes(),
            "enter a directory whose name contains NUL",
        )?,
        stdin: ends.stdin,
        stdout: ends.stdout,
        given,
        group_procs: -1,
        nofile,
        nice: spawn.nice,
        identity,
        no_new_privileges: spawn.no_new_privileges,
        dies_with: 0,
        pid_digits,
        slip,
        above: ends.above,
        _strings: strings,
        _pid_texts: pid_texts,
    })
}

/// Where each descriptor comes from and goes to, by rising number: what it is handed from 3 on,
/// without a gap, and the readiness pipe behind it.
fn given(spawn: &Spawn, ends: &Ends<'_>) -> Result<Vec<(i32, i32)>, Failure> {
    let handed = ends.handed.iter().map(|(_, fd)| fd.as_raw_fd());
    let given = handed.zip(3..).chain(ends.ready.zip(spawn.ready_fd));
    let given: Vec<(i32, i32)> = given.collect();
    match given.as_slice() {
        [.., (_, last), (_, ready)] if ends.ready.is_some() && ready <= last => {
            let what = format!(
                "give it descriptor {ready} for readiness: its sockets and what it stored lie on 3 \
                 to {last}; choose a higher one"
            );
            Err(Failure::new(Step::Descriptors, libc::EBUSY, &what))
        }
        _ => Ok(given),
    }
}

fn text(bytes: &[u8], what: &str) -> Result<CString, Failure> {
    CString::new(bytes).map_err(|_| Failure::new(Step::Exec, libc::EINVAL, what))
}

fn variables(spawn: &Spawn, inherited: &Inherited, ends: &Ends<'_>) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut all = if spawn.clear_env {
        BTreeMap::new()
    } else {
        inherited.0.clone()
    };
    let mut set = |name: &str, value: &str| all.insert(name.into(), value.into());
    for (name, value) in &spawn.env {
        set(name, value);
    }
    set(MARK, &ends.mark);
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
fn candidates(spawn: &Spawn, path: &[u8]) -> Result<Vec<CString>, Failure> {
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

fn identity(spawn: &Spawn) -> Result<Option<Identity>, Failure> {
    if spawn.user.is_none() && spawn.group.is_none() {
        return Ok(None);
    }
    let (mut uid, mut gid, mut groups) =
        (Uid::effective().as_raw(), Gid::effective().as_raw(), None);
    if let Some(name) = &spawn.user {
        let failed = |errno| not_found(Step::User, errno, "user", name);
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
        let failed = |errno| not_found(Step::Group, errno, "group", name);
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
    Ok(Some(Identity { uid, gid, groups }))
}

fn not_found(step: Step, errno: i32, what: &str, name: &str) -> Failure {
    let failure = Failure::new(step, errno, &format!("find the {what} {name}"));
    let advice = format!("there is none of this name here; create it, or correct `{what}`");
    failure.advised((errno == libc::ENOENT).then_some(advice))
}

fn find_user(name: &str) -> nix::Result<Option<User>> {
    match name.parse() {
        Ok(number) => User::from_uid(Uid::from_raw(number)),
        Err(_) => User::from_name(name),
    }
}
