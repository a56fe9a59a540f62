//! Which mechanism enforces which limit on this machine, and what is missing.
//! Owns the report, made once at the start. Never enforces anything.

use mainstay_policy::resources::Resource;

use super::handshake::TakeoverState;

/// The mechanism of each limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Enforcement {
    /// One of each limit that a module can have, in the order of the configuration.
    pub(crate) limits: Vec<LimitSupport>,
}

/// How one limit is enforced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LimitSupport {
    /// The key under `limits`.
    pub(crate) key: &'static str,
    /// What enforces it; None: it is measured and reported.
    pub(crate) mechanism: Option<&'static str>,
    /// What happens to a module at its limit.
    pub(crate) effect: &'static str,
    /// Why there is no stricter mechanism.
    pub(crate) missing: Option<String>,
    /// How to get it.
    pub(crate) remedy: Option<String>,
}

impl Enforcement {
    /// What holds where `tree` says how trees are killed, and these controllers are there.
    pub(crate) fn new(tree: &str, controllers: Option<&[String]>) -> Enforcement {
        let limits = if cfg!(windows) {
            windows()
        } else {
            unix(tree, controllers.unwrap_or_default())
        };
        Enforcement { limits }
    }

    /// What holds for a runtime that takes over.
    pub(crate) fn of(takeover: &TakeoverState) -> Enforcement {
        let alone = takeover.holder_pid != std::process::id();
        Enforcement::detect(&takeover.tree, alone)
    }

    /// What this process would find; `alone`: it may move to a control group of its own.
    pub(crate) fn detect(tree: &str, alone: bool) -> Enforcement {
        let controllers = (tree == "cgroup2").then(|| controllers(alone)).flatten();
        Enforcement::new(tree, controllers.as_deref())
    }

    /// What enforces a limit of this key.
    pub(crate) fn mechanism(&self, key: &str) -> Option<&'static str> {
        let limit = self.limits.iter().find(|limit| limit.key == key);
        limit.and_then(|limit| limit.mechanism)
    }

    /// Why nothing enforces a limit of this key, and how to get it; None: something does.
    pub(crate) fn missing(&self, key: &str) -> Option<(String, String)> {
        let limit = self.limits.iter().find(|limit| limit.key == key);
        if limit.is_some_and(|limit| limit.mechanism.is_some()) {
            return None;
        }
        let found = |text: fn(&LimitSupport) -> Option<String>| limit.and_then(text);
        let cause = found(|limit| limit.missing.clone());
        let remedy = found(|limit| limit.remedy.clone());
        Some((
            cause.unwrap_or_else(|| "nothing on this system counts that".to_owned()),
            remedy.unwrap_or_else(|| "leave it out, or use `threads`".to_owned()),
        ))
    }

    /// What throttles a module that uses too much of this.
    pub(crate) fn throttles(&self, resource: Resource) -> &'static str {
        let key = match resource {
            Resource::Cpu | Resource::MachineCpu => "cpu_percent",
            Resource::Memory | Resource::MachineMemory => "memory_mb",
            Resource::Threads => "threads",
            Resource::Processes => "processes",
        };
        self.mechanism(key).unwrap_or("advisory")
    }
}

#[cfg(target_os = "linux")]
fn controllers(alone: bool) -> Option<Vec<String>> {
    mainstay_holder::group_controllers(alone)
}

#[cfg(not(target_os = "linux"))]
fn controllers(_: bool) -> Option<Vec<String>> {
    None
}

fn support(
    key: &'static str,
    mechanism: Option<&'static str>,
    effect: &'static str,
) -> LimitSupport {
    LimitSupport {
        key,
        mechanism,
        effect,
        missing: None,
        remedy: None,
    }
}

fn unix(tree: &str, controllers: &[String]) -> Vec<LimitSupport> {
    let has = |name: &str| controllers.iter().any(|one| one == name);
    let absent = |name: &str| match (cfg!(target_os = "linux"), tree) {
        (false, _) => "this system has no control groups".to_owned(),
        (_, "cgroup2") => format!("the control groups of modules have no {name} controller"),
        _ => "there is no control group (v2) that mainstay may divide".to_owned(),
    };
    let remedy = cfg!(target_os = "linux").then(|| {
        "run mainstay as a systemd service with `Delegate=yes` in its unit, on cgroup v2".to_owned()
    });
    let by_group = |mut limit: LimitSupport, name: &str, effect: &'static str| {
        if has(name) {
            (limit.mechanism, limit.effect) = (Some("cgroup2"), effect);
        } else {
            (limit.missing, limit.remedy) = (Some(absent(name)), remedy.clone());
        }
        limit
    };
    let stops = "stopped for a part of every 100 ms";
    let reported = "reported, and climbs the throttle ladder";
    let threads = if cfg!(target_os = "linux") {
        reported
    } else {
        "not counted"
    };
    let mut limits = vec![
        by_group(
            support("cpu_percent", Some("governor"), stops),
            "cpu",
            "throttled by cpu.max",
        ),
        by_group(
            support("memory_mb", None, reported),
            "memory",
            "reclaimed at memory.high, then killed at memory.max",
        ),
        support("file_handles", Some("rlimit"), "gets EMFILE"),
        by_group(
            support("threads", None, threads),
            "pids",
            "gets EAGAIN (pids.max counts threads)",
        ),
        support("processes", None, reported),
        by_group(
            support("io_mb_per_s", None, "not limited"),
            "io",
            "waits (io.max, each disk)",
        ),
        support("nice", Some("setpriority"), "waits for others"),
    ];
    limits.extend(isolation());
    limits
}

#[cfg(unix)]
fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[cfg(windows)]
fn is_root() -> bool {
    false
}

/// What isolates a process: Linux alone has it, most of it for root alone.
fn isolation() -> Vec<LimitSupport> {
    let is_linux = cfg!(target_os = "linux");
    let is_root = is_root();
    let of_linux = |mut limit: LimitSupport, needs_root: bool| {
        if !is_linux {
            limit.missing = Some("this system has none".to_owned());
            limit.remedy = Some("leave it out".to_owned());
        } else if needs_root && !is_root {
            limit.missing = Some("only root may set it up".to_owned());
            limit.remedy = Some("run mainstay as root, the module as another `user`".to_owned());
        }
        limit.mechanism = limit.mechanism.filter(|_| limit.missing.is_none());
        limit
    };
    let namespace = Some("mount namespace");
    vec![
        of_linux(
            support(
                "oom_score_adj",
                Some("oom_score_adj"),
                "killed first or last when memory runs out",
            ),
            false,
        ),
        of_linux(
            support("cpu_affinity", Some("affinity"), "waits for its processors"),
            false,
        ),
        of_linux(
            support("capabilities", Some("capabilities"), "gets EPERM"),
            true,
        ),
        of_linux(support("read_only", namespace, "gets EROFS"), true),
        of_linux(
            support("private_tmp", namespace, "has a /tmp of its own"),
            true,
        ),
    ]
}

fn windows() -> Vec<LimitSupport> {
    let mut limits = vec![
        support("cpu_percent", Some("job"), "throttled by a CPU rate"),
        support("memory_mb", Some("job"), "gets no memory"),
        support("threads", None, "not counted"),
        support("processes", Some("job"), "cannot start another process"),
    ];
    limits.extend(isolation());
    limits
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn each_limit_names_its_mechanism_or_what_is_missing() {
        let all: Vec<String> = ["cpu", "memory", "pids", "io"].map(str::to_owned).to_vec();
        let found = Enforcement::new("cgroup2", Some(&all));
        assert_eq!(found.mechanism("cpu_percent"), Some("cgroup2"));
        assert_eq!(found.mechanism("memory_mb"), Some("cgroup2"));
        assert!(found.limits.iter().all(|limit| limit.missing.is_none()));
        for (tree, controllers, cause) in [
            ("cgroup2", Some(&[][..]), "no cpu controller"),
            ("walk", None, "may divide"),
        ] {
            let found = Enforcement::new(tree, controllers);
            assert_eq!(found.mechanism("cpu_percent"), Some("governor"));
            assert_eq!(found.mechanism("memory_mb"), None);
            let cpu = &found.limits[0];
            assert!(
                cpu.missing
                    .as_ref()
                    .is_some_and(|text| text.contains(cause))
            );
            assert!(
                cpu.remedy
                    .as_ref()
                    .is_some_and(|text| text.contains("Delegate=yes"))
            );
            assert_eq!(found.throttles(Resource::Memory), "advisory");
        }
    }
}
