//! Readiness and probes as written, in their forms.
//! Owns the distinction of the forms, and the syntax of addresses and URLs.
//! Never guesses: a table with two forms, or none, is a problem.

use mainstay_policy::spec::Readiness;
use mainstay_process::{self as process, ListenerOwner, ProbeRole};

use super::scalars::{BoundedInt, CommandLine, DurationValue, PositiveDuration, Template};
use super::system::{HealthSection, PositiveCount};
use super::{FromConfig, Section, ValueType, section};
use crate::config::launch::ProbeKind;
use crate::config::origin::Origin;
use crate::config::read_context::ReadContext;
use crate::config::tree::{Node, TreeValue};

section! {
    /// How a module becomes ready; exactly one form.
    ReadinessSection {
        /// It sends `READY=1` by sd_notify, or reports over its connection.
        Live notify: Option<bool> = None;
        /// It has been running this long.
        Live settle: Option<PositiveDuration> = None;
        /// A line of its output matches this regular expression.
        Live log: Option<String> = None;
        /// It writes a newline to this descriptor.
        Live fd: Option<BoundedInt<3, 255>> = None;
        /// This `host:port` accepts a connection.
        Live tcp: Option<Template> = None;
        /// This socket accepts a connection.
        Live unix: Option<Template> = None;
        /// This `http://…` answers.
        Live http: Option<Template> = None;
        /// The status that `http` expects.
        Live status: Option<BoundedInt<100, 599>> = None;
        /// This `host:port`, or `host:port/service`, reports SERVING by grpc.health.v1.
        Live grpc: Option<Template> = None;
        /// This command exits 0.
        Live exec: Option<CommandLine> = None;
        /// This path exists.
        Live file: Option<Template> = None;
        /// Which process has to hold the port of `http`, `grpc` or `tcp`: "module", one of its own
        /// tree; "any", for instance a proxy.
        Live owner: Option<ListenerOwner> = None;
    }
}

/// How a module becomes ready, as written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RawReadiness {
    pub(crate) readiness: Readiness,
    pub(crate) owner: ListenerOwner,
}

impl RawReadiness {
    /// As soon as its process runs.
    pub(crate) const STARTED: RawReadiness = RawReadiness {
        readiness: Readiness::Started,
        owner: ListenerOwner::Module,
    };
}

const STARTED: ValueType = ValueType::Choice(&[super::Choice {
    word: "started",
    available: true,
}]);

impl FromConfig for RawReadiness {
    const FORM: ValueType = ValueType::OneOf(&[STARTED, ReadinessSection::FORM]);

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        match &node.value {
            TreeValue::Text(text) if text == "started" => return Some(RawReadiness::STARTED),
            TreeValue::Table(_) => {}
            _ => return at.type_error(node, Self::FORM),
        }
        let before = at.count();
        let read = ReadinessSection::read(node, at)?;
        if at.count() > before
            || !one_form(node, at, ReadinessSection::SECTION, &["status", "owner"])
        {
            return None;
        }
        let owner = read.owner.unwrap_or_default();
        let readiness = ready_of(read, node.origin, at)?;
        Some(RawReadiness { readiness, owner })
    }

    fn show(&self) -> String {
        "\"started\"".to_owned()
    }
}

fn ready_of(read: ReadinessSection, origin: Origin, at: &mut ReadContext<'_>) -> Option<Readiness> {
    if let Some(log) = read.log {
        if let Err(error) = regex::Regex::new(&log) {
            let message = format!("cannot use {log:?} as a regular expression");
            return at.problem(origin, message, &last_line(&error.to_string()));
        }
        return Some(Readiness::Log(log));
    }
    if read.notify == Some(false) {
        let message = format!("cannot use {}: `notify = false` says nothing", at.path());
        return at.problem(origin, message, "leave `ready` out, or say `notify = true`");
    }
    let ready = read.settle.map(|span| Readiness::Settle(span.0));
    let ready = ready.or(read.notify.map(|_| Readiness::Notify));
    let ready = ready.or(read.fd.map(|fd| Readiness::Fd(fd.small())));
    ready.or_else(|| {
        let probe = OutsideForms {
            tcp: read.tcp.as_ref(),
            unix: read.unix.as_ref(),
            http: read.http.as_ref(),
            status: read.status,
            grpc: read.grpc.as_ref(),
            exec: read.exec.as_ref(),
            file: read.file.as_ref(),
        };
        probe.read(origin, at).map(Readiness::Probe)
    })
}

/// The forms of a probe from outside, as readiness and health have them; one of them is there.
struct OutsideForms<'t> {
    tcp: Option<&'t Template>,
    unix: Option<&'t Template>,
    http: Option<&'t Template>,
    status: Option<BoundedInt<100, 599>>,
    grpc: Option<&'t Template>,
    exec: Option<&'t CommandLine>,
    file: Option<&'t Template>,
}

impl OutsideForms<'_> {
    /// Reads the form; none if it is wrong, which is then reported.
    fn read(&self, origin: Origin, at: &mut ReadContext<'_>) -> Option<process::Probe> {
        if let Some(tcp) = self.tcp {
            return address(&tcp.0, "tcp", origin, at).map(process::Probe::Tcp);
        }
        if let Some(grpc) = self.grpc {
            return target(&grpc.0, origin, at).map(process::Probe::Grpc);
        }
        if let Some(http) = self.http {
            let status = self.status.map_or(200, |status| status.0);
            let status = u16::try_from(status).unwrap_or(200);
            return url(&http.0, origin, at).map(|url| process::Probe::Http { url, status });
        }
        let unix = self.unix.map(|path| process::Probe::Unix(path.0.clone()));
        let exec = self
            .exec
            .map(|command| process::Probe::Exec(command.words.clone()));
        let file = self.file.map(|path| process::Probe::File(path.0.clone()));
        unix.or(exec).or(file)
    }
}

fn last_line(text: &str) -> String {
    let line = text.lines().next_back().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

/// A probe as written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RawProbe {
    pub(crate) look: ProbeKind,
    pub(crate) table: ProbeSection,
    pub(crate) origin: Origin,
}

section! {
    /// A probe: exactly one of the first seven keys, and overrides of `[health]`.
    ProbeSection {
        /// Calls the module over its connection.
        Live sdk: Option<bool> = None;
        /// The module sends `WATCHDOG=1` within this interval.
        Restart watchdog: Option<PositiveDuration> = None;
        /// This command exits 0.
        Live exec: Option<CommandLine> = None;
        /// This `http://…` answers.
        Live http: Option<Template> = None;
        /// This `host:port`, or `host:port/service`, reports SERVING by grpc.health.v1.
        Live grpc: Option<Template> = None;
        /// This `host:port` accepts a connection.
        Live tcp: Option<Template> = None;
        /// This socket accepts a connection.
        Live unix: Option<Template> = None;
        /// The status that `http` expects.
        Live status: Option<BoundedInt<100, 599>> = None;
        /// Which process has to hold the port of `http`, `grpc` or `tcp`: "module", one of its own
        /// tree; "any", for instance a proxy.
        Live owner: Option<ListenerOwner> = None;
        /// Its role. "liveness": failing restarts the module. "readiness": failing keeps from
        /// starting what waits until the module is ready, and restarts nothing. "startup": the
        /// module is ready when it succeeded once; it is repeated until `startup_timeout`.
        Live role: ProbeRole = ProbeRole::Liveness;
        /// As in `[health]`.
        Live interval: Option<PositiveDuration> = None;
        /// As in `[health]`.
        Live timeout: Option<PositiveDuration> = None;
        /// As in `[health]`.
        Live unhealthy_threshold: Option<PositiveCount> = None;
        /// As in `[health]`.
        Live healthy_threshold: Option<PositiveCount> = None;
        /// As in `[health]`.
        Live initial_delay: Option<DurationValue> = None;
        /// As in `[health]`.
        Live adaptive: Option<bool> = None;
    }
}

const INHERITED_KEYS: [&str; 9] = [
    "owner",
    "adaptive",
    "status",
    "role",
    "interval",
    "timeout",
    "unhealthy_threshold",
    "healthy_threshold",
    "initial_delay",
];

impl FromConfig for RawProbe {
    const FORM: ValueType = ProbeSection::FORM;

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        let before = at.count();
        at.table(node, Self::FORM)?;
        let table = ProbeSection::read(node, at)?;
        if at.count() > before || !one_form(node, at, ProbeSection::SECTION, &INHERITED_KEYS) {
            return None;
        }
        let look = kind_of(&table, node.origin, at)?;
        check_role(node, &look, table.role, at)?;
        let origin = node.origin;
        Some(RawProbe {
            look,
            table,
            origin,
        })
    }

    fn show(&self) -> String {
        self.table.show()
    }
}

impl RawProbe {
    /// The [health] keys that hold for this probe.
    pub(crate) fn rates(&self, of_module: &HealthSection) -> HealthSection {
        let own = &self.table;
        HealthSection {
            interval: own.interval.unwrap_or(of_module.interval),
            timeout: own.timeout.unwrap_or(of_module.timeout),
            unhealthy_threshold: own
                .unhealthy_threshold
                .unwrap_or(of_module.unhealthy_threshold),
            healthy_threshold: own.healthy_threshold.unwrap_or(of_module.healthy_threshold),
            initial_delay: own.initial_delay.unwrap_or(of_module.initial_delay),
            adaptive: own.adaptive.unwrap_or(of_module.adaptive),
        }
    }
}

fn kind_of(table: &ProbeSection, origin: Origin, at: &mut ReadContext<'_>) -> Option<ProbeKind> {
    if table.sdk == Some(false) {
        let message = format!("cannot use {}: `sdk = false` says nothing", at.path());
        return at.problem(origin, message, "leave this probe out, or say `sdk = true`");
    }
    let look = table.watchdog.map(|span| ProbeKind::Watchdog(span.0));
    let look = look.or(table.sdk.map(|_| ProbeKind::Sdk));
    look.or_else(|| {
        let probe = OutsideForms {
            tcp: table.tcp.as_ref(),
            unix: table.unix.as_ref(),
            http: table.http.as_ref(),
            status: table.status,
            grpc: table.grpc.as_ref(),
            exec: table.exec.as_ref(),
            file: None,
        };
        probe.read(origin, at).map(ProbeKind::Probe)
    })
}

/// Refuses a role that this kind of probe cannot have, and keys that say nothing in that role.
fn check_role(
    node: &Node,
    kind: &ProbeKind,
    role: ProbeRole,
    at: &mut ReadContext<'_>,
) -> Option<()> {
    let asked = match (kind, role) {
        (ProbeKind::Watchdog(_), ProbeRole::Startup | ProbeRole::Readiness) => "a watchdog",
        (ProbeKind::Sdk, ProbeRole::Startup) => "an sdk probe",
        _ => "",
    };
    if !asked.is_empty() {
        let message = format!("cannot use {}: {asked} has no such role", at.path());
        let hint = "leave `role` out; with `ready = { notify = true }` the module says when";
        return at.problem(node.origin, message, hint);
    }
    let unused = INHERITED_KEYS.iter().filter(|_| role == ProbeRole::Startup);
    let mut unused = unused.filter(|key| !["status", "role", "owner", "timeout"].contains(key));
    let table = node.as_table()?;
    if let Some((key, entry)) = unused.find_map(|key| Some((key, table.get(key)?))) {
        let message = format!("cannot use {key} in {}: its role is startup", at.path());
        let hint = "leave it out: it is repeated, ever more slowly, until `startup_timeout`";
        return at.problem(entry.key, message, hint);
    }
    Some(())
}

/// Whether exactly one of a table's forms is there; says so if not.
fn one_form(node: &Node, at: &mut ReadContext<'_>, section: &Section, beside: &[&str]) -> bool {
    let Some(table) = node.as_table() else {
        return false;
    };
    let forms: Vec<&str> = table
        .keys()
        .map(String::as_str)
        .filter(|key| !beside.contains(key))
        .collect();
    let status_alone = table.contains_key("status") && !table.contains_key("http");
    let holds_port = ["tcp", "http", "grpc"]
        .iter()
        .any(|key| table.contains_key(key));
    let owner_alone = table.contains_key("owner") && !holds_port;
    if forms.len() == 1 && !status_alone && !owner_alone {
        return true;
    }
    let all: Vec<&str> = section
        .keys
        .iter()
        .map(|key| key.name)
        .filter(|key| !beside.contains(key))
        .collect();
    let said = match (forms.len(), status_alone) {
        (1, false) => "`owner` belongs to `tcp`, `http` or `grpc`".to_owned(),
        (1, _) => "`status` belongs to `http`".to_owned(),
        (0, _) => "it says nothing to look at".to_owned(),
        _ => format!("it says {} at once", forms.join(" and ")),
    };
    let message = format!("cannot use {}: {said}", at.path());
    at.problem::<()>(
        node.origin,
        message,
        &format!("exactly one of {}", all.join(", ")),
    );
    false
}

/// `host:port`.
fn address(text: &str, key: &str, origin: Origin, at: &mut ReadContext<'_>) -> Option<String> {
    let wrong = match text.rsplit_once(':') {
        None => "it has no port",
        Some(("", _)) => "it has no host",
        Some((_, port)) if port.parse::<u16>().is_ok_and(|port| port > 0) => {
            return Some(text.to_owned());
        }
        Some(_) => "its port is no number from 1 to 65535",
    };
    let message = format!("cannot use {text:?} for {}.{key}: {wrong}", at.path());
    at.problem(
        origin,
        message,
        "host:port, for instance \"127.0.0.1:9000\"",
    )
}

/// `host:port` or `host:port/service`.
fn target(text: &str, origin: Origin, at: &mut ReadContext<'_>) -> Option<String> {
    let host = text.split('/').next().unwrap_or_default();
    address(host, "grpc", origin, at).map(|_| text.to_owned())
}

/// `http://host[:port][/path]`.
fn url(text: &str, origin: Origin, at: &mut ReadContext<'_>) -> Option<String> {
    let host = text
        .strip_prefix("http://")
        .and_then(|rest| rest.split('/').next());
    let good = host.is_some_and(|host| {
        let (name, port) = host.rsplit_once(':').unwrap_or((host, "80"));
        !name.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if good {
        return Some(text.to_owned());
    }
    let message = format!(
        "cannot use {text:?} for {}.http: it is no URL to ask",
        at.path()
    );
    let hint = if text.starts_with("https://") {
        "only plain http: a probe looks at this machine"
    } else {
        "for instance \"http://127.0.0.1:8080/health\""
    };
    at.problem(origin, message, hint)
}
