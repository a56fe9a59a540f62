//! What a person should know of this machine beside limits: descriptors, watches, clock, disk.
//! Owns the thresholds. Reads at the moment it is asked.
//! Never changes anything.

use std::path::Path;

use mainstay_protocol::doctor::{DoctorReport, LimitSupport, MachineCheck};

use super::enforcement::Enforcement;
use super::machine;

/// Descriptors that a system of a hundred modules needs; a limit is signed on some systems.
#[cfg(unix)]
const DESCRIPTORS_MIN: i128 = 1024;
/// Free bytes below which a journal and logs soon cannot be written.
const DISK_MIN: u64 = 256 << 20;

/// What enforces limits, and the checks of this machine; `state_dir` or a directory above it is
/// there.
pub(crate) fn report(enforcement: &Enforcement, state_dir: &Path) -> DoctorReport {
    let limits = enforcement.limits.iter().map(|limit| LimitSupport {
        limit: limit.key.to_owned(),
        mechanism: limit.mechanism.map(str::to_owned),
        effect: limit.effect.to_owned(),
        missing: limit.missing.clone(),
        remedy: limit.remedy.clone(),
    });
    let checks = [
        descriptors(),
        watches("max_user_watches", 8192),
        watches("max_user_instances", 128),
        clock(),
        pressure(),
        network(),
        keyring(),
        Some(succession()),
        disk(state_dir),
    ];
    DoctorReport {
        limits: limits.collect(),
        checks: checks.into_iter().flatten().collect(),
    }
}

fn check(name: &str, ok: bool, text: String, remedy: &str) -> MachineCheck {
    MachineCheck {
        name: name.to_owned(),
        ok,
        text,
        remedy: (!ok).then(|| remedy.to_owned()),
    }
}

#[cfg(unix)]
fn descriptors() -> Option<MachineCheck> {
    use nix::sys::resource::{Resource, getrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let text = format!("{soft} open files, up to {hard}; mainstay raises its own limit");
    let remedy = "raise the hard limit (`LimitNOFILE=` in a unit, or limits.conf)";
    Some(check(
        "descriptors",
        i128::from(hard) >= DESCRIPTORS_MIN,
        text,
        remedy,
    ))
}

#[cfg(not(unix))]
fn descriptors() -> Option<MachineCheck> {
    None
}

/// Whether modules go on when their holder is killed.
fn succession() -> MachineCheck {
    let obstacle = super::succession::obstacle();
    let text = match &obstacle {
        None => {
            "another holder goes on in the place of one that is killed, below `up -d` and in a \
                 unit of systemd with a PID file (`service install` writes one); in the foreground \
                 and elsewhere all modules end, in order"
                .to_owned()
        }
        Some(why) => format!("modules end, in order, with a holder that is killed: {why}"),
    };
    check("holder", true, text, "")
}

/// Used to notice changed configuration files.
fn watches(name: &str, least: u64) -> Option<MachineCheck> {
    let path = format!("/proc/sys/fs/inotify/{name}");
    let count: u64 = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
    let remedy = format!("set fs.inotify.{name} = {least} with sysctl");
    let text = format!("{count}");
    Some(check(
        &format!("inotify {name}"),
        count >= least,
        text,
        &remedy,
    ))
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "adjtimex")]
fn clock() -> Option<MachineCheck> {
    // SAFETY: all zero is a request that only reads; the place outlives the call.
    let (state, found) = unsafe {
        let mut found: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut found), found)
    };
    let ok = state >= 0 && found.status & libc::STA_UNSYNC == 0;
    let text = if ok {
        "synchronised"
    } else {
        "not synchronised"
    };
    let remedy = "start a time service; mainstay decides by the monotonic clock, \
                  only times for people are wrong";
    Some(check("clock", ok, text.to_owned(), remedy))
}

#[cfg(not(target_os = "linux"))]
fn clock() -> Option<MachineCheck> {
    None
}

#[cfg(target_os = "linux")]
fn pressure() -> Option<MachineCheck> {
    let ok = Path::new("/proc/pressure/cpu").exists();
    let text = if ok { "measured" } else { "not measured" };
    let remedy = "boot with `psi=1`; without it only usage says that the machine is short";
    Some(check("pressure (PSI)", ok, text.to_owned(), remedy))
}

#[cfg(not(target_os = "linux"))]
fn pressure() -> Option<MachineCheck> {
    None
}

/// What is counted of network traffic; no setting of the machine changes it.
fn network() -> Option<MachineCheck> {
    let text = match cfg!(target_os = "linux") {
        true => {
            "counted for the machine, not for each module: the kernel counts it for network \
             namespaces and by BPF programs alone"
        }
        false => "not counted on this system",
    };
    Some(check("network", true, text.to_owned(), ""))
}

/// Where the key of secrets may be beside a file.
fn keyring() -> Option<MachineCheck> {
    let text = match (cfg!(target_os = "linux"), super::keyring::is_usable()) {
        (true, true) => "the key of secrets may be in that of the kernel, until the machine ends",
        (true, false) => "not to be used by this process: the key of secrets has to be a file",
        (false, _) => "only that of Linux is supported: the key of secrets has to be a file",
    };
    Some(check("keyring", true, text.to_owned(), ""))
}

fn disk(state_dir: &Path) -> Option<MachineCheck> {
    let there = state_dir.ancestors().find(|path| path.exists())?;
    let (_, free) = machine::disk(there)?;
    let text = format!("{} MiB free for {}", free >> 20, state_dir.display());
    Some(check("disk", free >= DISK_MIN, text, "free some space"))
}
