//! Starting a process: its program found, its words quoted, its handles and jobs given.
//! Owns the failure of a start, with its step and the system's word for it.
//! Never lets a process run before it is in its jobs.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::{AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};

use mainstay_process::{SpawnRequest, StartFailure, StartStep};
use windows_sys::Win32::Foundation::{
    ERROR_DIRECTORY, ERROR_FILE_NOT_FOUND, ERROR_INVALID_PARAMETER, ERROR_NOT_SUPPORTED, HANDLE,
    HANDLE_FLAG_INHERIT, SetHandleInformation,
};
use windows_sys::Win32::System::Threading::{
    CREATE_NEW_PROCESS_GROUP, CREATE_SUSPENDED, CREATE_UNICODE_ENVIRONMENT, CreateProcessW,
    DeleteProcThreadAttributeList, EXTENDED_STARTUPINFO_PRESENT, IDLE_PRIORITY_CLASS,
    InitializeProcThreadAttributeList, PROC_THREAD_ATTRIBUTE_HANDLE_LIST, PROCESS_INFORMATION,
    ResumeThread, STARTF_USESTDHANDLES, STARTUPINFOEXW, UpdateProcThreadAttribute,
};

use super::handles::{ChildHandle, JobObject, done};
use crate::preflight;

/// Why it does not start.
#[derive(Debug)]
pub(crate) struct SpawnError {
    pub(crate) failure: StartFailure,
    pub(crate) message: String,
}

impl SpawnError {
    pub(crate) fn new(step: StartStep, errno: u32, what: &str) -> SpawnError {
        let error = io::Error::from_raw_os_error(errno.cast_signed());
        SpawnError::of(step, &error, what)
    }

    pub(crate) fn of(step: StartStep, error: &io::Error, what: &str) -> SpawnError {
        let errno = error.raw_os_error().unwrap_or(0);
        SpawnError {
            failure: StartFailure { step, errno },
            message: format!("cannot {what}: {error}"),
        }
    }
}

/// Variables by their names, which differ by more than case.
#[derive(Debug, Clone, Default)]
pub(crate) struct EnvBlock(BTreeMap<OsString, (OsString, OsString)>);

impl EnvBlock {
    /// Those of this process, without what was meant for it alone.
    pub(crate) fn inherited() -> EnvBlock {
        let mut all = EnvBlock::default();
        for (name, value) in std::env::vars_os() {
            if !name
                .to_string_lossy()
                .to_uppercase()
                .starts_with("MAINSTAY_")
            {
                all.set(&name, &value);
            }
        }
        all
    }

    pub(crate) fn set(&mut self, name: &OsStr, value: &OsStr) {
        let key = name.to_ascii_uppercase();
        self.0.insert(key, (name.to_owned(), value.to_owned()));
    }

    /// What no program can do without.
    fn bare(&self) -> EnvBlock {
        let mut bare = EnvBlock::default();
        if let Some((name, value)) = self.0.get(OsStr::new("SYSTEMROOT")) {
            bare.set(name, value);
        }
        bare
    }

    fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(|(_, value)| &**value)
    }

    /// As the system wants them: `NAME=VALUE`, each with its end, and one more.
    fn block(&self) -> io::Result<Vec<u16>> {
        let mut block = Vec::new();
        for (name, value) in self.0.values() {
            let pair = name.encode_wide().chain([u16::from(b'=')]);
            block.extend(one_line(pair.chain(value.encode_wide()))?);
            block.push(0);
        }
        if block.is_empty() {
            block.push(0);
        }
        block.push(0);
        Ok(block)
    }
}

fn one_line(text: impl Iterator<Item = u16>) -> io::Result<Vec<u16>> {
    let text: Vec<u16> = text.collect();
    if text.contains(&0) {
        return Err(io::Error::from_raw_os_error(
            ERROR_INVALID_PARAMETER.cast_signed(),
        ));
    }
    Ok(text)
}

/// What a process is given.
pub(crate) struct CreateProcessArgs<'a> {
    pub(crate) program: &'a Path,
    pub(crate) argv: Vec<&'a OsStr>,
    pub(crate) directory: Option<&'a Path>,
    pub(crate) variables: &'a EnvBlock,
    /// stdin, stdout, stderr.
    pub(crate) standard: [BorrowedHandle<'a>; 3],
    /// What it finds beyond those, under the numbers they have here.
    pub(crate) more: Vec<BorrowedHandle<'a>>,
    /// From the outermost inwards.
    pub(crate) jobs: Vec<&'a JobObject>,
    pub(crate) idle: bool,
}

/// Starts it; its number too.
pub(crate) fn create_suspended(args: &CreateProcessArgs<'_>) -> io::Result<(ChildHandle, u32)> {
    let born = create(args)?;
    let (process, thread) = (ChildHandle(born.0), born.1);
    let taken = args.jobs.iter().try_for_each(|job| job.take(&process.0));
    if let Err(error) = taken {
        process.kill();
        return Err(error);
    }
    resume(&thread)?;
    Ok((process, born.2))
}

#[expect(unsafe_code, reason = "a system call")]
fn resume(thread: &OwnedHandle) -> io::Result<()> {
    // SAFETY: the handle is open.
    match unsafe { ResumeThread(thread.as_raw_handle()) } {
        u32::MAX => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Suspended: process, first thread, number.
#[expect(unsafe_code, reason = "system calls")]
fn create(args: &CreateProcessArgs<'_>) -> io::Result<(OwnedHandle, OwnedHandle, u32)> {
    let with_end = |path: &Path| one_line(path.as_os_str().encode_wide()).map(ended);
    let program = with_end(args.program)?;
    let mut line = ended(one_line(quoted(&args.argv).into_iter())?);
    let variables = args.variables.block()?;
    let directory = args.directory.map(with_end).transpose()?;
    let standard = args.standard.map(|handle| handle.as_raw_handle());
    let mut given: Vec<HANDLE> = standard.to_vec();
    given.extend(args.more.iter().map(AsRawHandle::as_raw_handle));
    given.sort();
    given.dedup();
    for handle in &given {
        // SAFETY: borrowed, so it is open.
        done(unsafe { SetHandleInformation(*handle, HANDLE_FLAG_INHERIT, HANDLE_FLAG_INHERIT) })?;
    }
    let list = HandleList::of(&given)?;
    let mut start = STARTUPINFOEXW::default();
    start.StartupInfo.cb = u32::try_from(size_of_val(&start)).unwrap_or(0);
    start.StartupInfo.dwFlags = STARTF_USESTDHANDLES;
    [
        start.StartupInfo.hStdInput,
        start.StartupInfo.hStdOutput,
        start.StartupInfo.hStdError,
    ] = standard;
    start.lpAttributeList = list.memory.as_ptr().cast_mut().cast();
    let mut flags = CREATE_SUSPENDED
        | CREATE_NEW_PROCESS_GROUP
        | CREATE_UNICODE_ENVIRONMENT
        | EXTENDED_STARTUPINFO_PRESENT;
    if args.idle {
        flags |= IDLE_PRIORITY_CLASS;
    }
    let mut born = PROCESS_INFORMATION::default();
    // SAFETY: every text ends with 0 and lives until after the call, as do the list and the
    // handles in it; what is returned is new and nobody else's.
    unsafe {
        done(CreateProcessW(
            program.as_ptr(),
            line.as_mut_ptr(),
            null(),
            null(),
            1,
            flags,
            variables.as_ptr().cast(),
            directory.as_ref().map_or(null(), |path| path.as_ptr()),
            (&raw const start).cast(),
            &raw mut born,
        ))?;
        let process = OwnedHandle::from_raw_handle(born.hProcess);
        let thread = OwnedHandle::from_raw_handle(born.hThread);
        Ok((process, thread, born.dwProcessId))
    }
}

fn ended(mut text: Vec<u16>) -> Vec<u16> {
    text.push(0);
    text
}

/// The handles a process inherits, and no others.
struct HandleList<'a> {
    memory: Vec<usize>,
    _given: &'a [HANDLE],
}

impl HandleList<'_> {
    #[expect(unsafe_code, reason = "system calls")]
    fn of(given: &[HANDLE]) -> io::Result<HandleList<'_>> {
        let mut bytes = 0;
        // SAFETY: with null it only says how much memory it wants; that much is given then, and
        // the handles are borrowed for as long as the list lives.
        unsafe {
            InitializeProcThreadAttributeList(null_mut(), 1, 0, &raw mut bytes);
            let mut memory = vec![0_usize; bytes.div_ceil(size_of::<usize>())];
            let list = memory.as_mut_ptr().cast();
            done(InitializeProcThreadAttributeList(
                list,
                1,
                0,
                &raw mut bytes,
            ))?;
            let what = PROC_THREAD_ATTRIBUTE_HANDLE_LIST as usize;
            let length = size_of_val(given);
            let handles = given.as_ptr().cast();
            let none = (null_mut(), null());
            let set = UpdateProcThreadAttribute(list, 0, what, handles, length, none.0, none.1);
            let list = HandleList {
                memory,
                _given: given,
            };
            done(set)?;
            Ok(list)
        }
    }
}

impl Drop for HandleList<'_> {
    #[expect(unsafe_code, reason = "a system call")]
    fn drop(&mut self) {
        // SAFETY: it was initialised when it was made.
        unsafe { DeleteProcThreadAttributeList(self.memory.as_mut_ptr().cast()) };
    }
}

/// One line that programs take apart into the same words again.
fn quoted(words: &[&OsStr]) -> Vec<u16> {
    let [quote, backslash, space] = [b'"', b'\\', b' '].map(u16::from);
    let mut line = Vec::new();
    for word in words {
        if !line.is_empty() {
            line.push(space);
        }
        line.push(quote);
        let mut backslashes = 0;
        for unit in word.encode_wide() {
            if unit == backslash {
                backslashes += 1;
            } else {
                if unit == quote {
                    // Those before a quote stand for half as many; one more is for the quote.
                    line.extend(std::iter::repeat_n(backslash, backslashes + 1));
                }
                backslashes = 0;
            }
            line.push(unit);
        }
        line.extend(std::iter::repeat_n(backslash, backslashes));
        line.push(quote);
    }
    line
}

/// Refuses what Windows does not have. The configuration says so first, with its place.
pub(crate) fn check(spawn: &SpawnRequest) -> Result<(), SpawnError> {
    let no = |step, what: &str| Err(SpawnError::new(step, ERROR_NOT_SUPPORTED, what));
    if spawn.instance.check().is_err() {
        let what = format!("use the name {:?}", spawn.instance);
        return Err(SpawnError::new(
            StartStep::Descriptors,
            ERROR_INVALID_PARAMETER,
            &what,
        ));
    }
    if spawn.user.is_some() || spawn.group.is_some() {
        return no(StartStep::User, "become another user");
    }
    if spawn.limits.file_handles.is_some() {
        return no(StartStep::Limits, "limit open files");
    }
    if spawn.no_new_privileges {
        return no(StartStep::Limits, "forbid new privileges");
    }
    if !spawn.sockets.is_empty() {
        return no(StartStep::Descriptors, "hand sockets to it");
    }
    if spawn.ready_fd.is_some() {
        return no(StartStep::Descriptors, "give it a descriptor for readiness");
    }
    match std::fs::metadata(&spawn.directory) {
        Ok(found) if found.is_dir() => Ok(()),
        found => {
            let file = io::Error::from_raw_os_error(ERROR_DIRECTORY.cast_signed());
            let error = found.err().unwrap_or(file);
            let what = format!("enter the directory {}", spawn.directory);
            Err(SpawnError::of(StartStep::Directory, &error, &what))
        }
    }
}

/// The variables of a spawn.
pub(crate) fn variables(spawn: &SpawnRequest, inherited: &EnvBlock) -> EnvBlock {
    let mut all = match spawn.clear_env {
        true => inherited.bare(),
        false => inherited.clone(),
    };
    for (name, value) in &spawn.env {
        all.set(OsStr::new(name), OsStr::new(value));
    }
    all
}

/// The file to execute.
pub(crate) fn program(spawn: &SpawnRequest, variables: &EnvBlock) -> Result<PathBuf, SpawnError> {
    let said = spawn.argv.first().map_or("", String::as_str);
    let failed =
        |code, said: &str| SpawnError::new(StartStep::Exec, code, &format!("execute {said}"));
    let path = variables.get("PATH").unwrap_or_default();
    let found = preflight::find(said, Path::new(&spawn.directory), path)
        .ok_or_else(|| failed(ERROR_FILE_NOT_FOUND, said))?;
    if preflight::is_batch(&found) {
        let what = format!("{said}, a script; name its shell: [\"cmd.exe\", \"/c\", …]");
        return Err(failed(ERROR_NOT_SUPPORTED, &what));
    }
    Ok(found)
}
