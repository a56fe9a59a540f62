//! Readiness and probes as written, in their forms.
//! Owns the distinction of the forms, and the syntax of addresses and URLs.
//! Never guesses: a table with two forms, or none, is a problem.

use mainstay_policy::spec::Readiness;
use mainstay_process as process;

use super::system::{Health, Some1};
use super::values::{Command, Filled, LongSpan, Span, Whole};
use super::words::Role;
use super::{Form, Section, Value, section};
use crate::config::launch::Check;
use crate::config::origin::Origin;
use crate::config::reading::Reading;
use crate::config::tree::{Node, Tree};

section! {
    /// How a module becomes ready; exactly one form.
    ReadyTable {
        /// It sends `READY=1` by sd_notify, or reports over its connection.
        Live notify: Option<bool> = None;
        /// It has been running this long.
        Live settle: Option<LongSpan> = None;
        /// A line of its output matches this regular expression.
        Live log: Option<String> = None;
        /// It writes a newline to this descriptor.
        Live fd: Option<Whole<3, 255>> = None;
        /// This `host:port` accepts a connection.
        Live tcp: Option<Filled> = None;
        /// This socket accepts a connection.
        Live unix: Option<Filled> = None;
        /// This `http://…` answers.
        Live http: Option<Filled> = None;
        /// The status that `http` expects.
        Live status: Option<Whole<100, 599>> = None;
        /// This `host:port`, or `host:port/service`, reports SERVING by grpc.health.v1.
        Live grpc: Option<Filled> = None;
        /// This command exits 0.
        Live exec: Option<Command> = None;
        /// This path exists.
        Live file: Option<Filled> = None;
    }
}

const STARTED: Form = Form::Choice(&[super::Word {
    word: "started",
    available: true,
}]);

impl Value for Readiness {
    const FORM: Form = Form::OneOf(&[STARTED, ReadyTable::FORM]);

    fn read<'a>(node: &'a Node, at: &mut Reading<'a>) -> Option<Self> {
        match &node.value {
            Tree::Text(text) if text == "started" => return Some(Readiness::Started),
            Tree::Table(_) => {}
            _ => return at.wrong(node, Self::FORM),
        }
        let before = at.count();
        let read = ReadyTable::read(node, at)?;
        if at.count() > before || !one_form(node, at, ReadyTable::SECTION, &["status"]) {
            return None;
        }
        ready_of(read, node.origin, at)
    }

    fn show(&self) -> String {
        "\"started\"".to_owned()
    }
}

fn ready_of(read: ReadyTable, origin: Origin, at: &mut Reading<'_>) -> Option<Readiness> {
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
    tcp: Option<&'t Filled>,
    unix: Option<&'t Filled>,
    http: Option<&'t Filled>,
    status: Option<Whole<100, 599>>,
    grpc: Option<&'t Filled>,
    exec: Option<&'t Command>,
    file: Option<&'t Filled>,
}

impl OutsideForms<'_> {
    /// Reads the form; none if it is wrong, which is then reported.
    fn read(&self, origin: Origin, at: &mut Reading<'_>) -> Option<process::Probe> {
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
pub(crate) struct Probe {
    pub(crate) look: Check,
    pub(crate) table: ProbeTable,
    pub(crate) origin: Origin,
}

section! {
    /// A probe: exactly one of the first seven keys, and overrides of `[health]`.
    ProbeTable {
        /// Calls the module over its connection.
        Live sdk: Option<bool> = None;
        /// The module sends `WATCHDOG=1` within this interval.
        Restart watchdog: Option<LongSpan> = None;
        /// This command exits 0.
        Live exec: Option<Command> = None;
        /// This `http://…` answers.
        Live http: Option<Filled> = None;
        /// This `host:port`, or `host:port/service`, reports SERVING by grpc.health.v1.
        Live grpc: Option<Filled> = None;
        /// This `host:port` accepts a connection.
        Live tcp: Option<Filled> = None;
        /// This socket accepts a connection.
        Live unix: Option<Filled> = None;
        /// The status that `http` expects.
        Live status: Option<Whole<100, 599>> = None;
        /// Its role: a failing liveness probe restarts the module.
        Live role: Role = Role::Liveness;
        /// As in `[health]`.
        Live interval: Option<LongSpan> = None;
        /// As in `[health]`.
        Live timeout: Option<LongSpan> = None;
        /// As in `[health]`.
        Live unhealthy_threshold: Option<Some1> = None;
        /// As in `[health]`.
        Live healthy_threshold: Option<Some1> = None;
        /// As in `[health]`.
        Live initial_delay: Option<Span> = None;
    }
}

const RATES: [&str; 7] = [
    "status",
    "role",
    "interval",
    "timeout",
    "unhealthy_threshold",
    "healthy_threshold",
    "initial_delay",
];

impl Value for Probe {
    const FORM: Form = ProbeTable::FORM;

    fn read<'a>(node: &'a Node, at: &mut Reading<'a>) -> Option<Self> {
        let before = at.count();
        at.table(node, Self::FORM)?;
        let table = ProbeTable::read(node, at)?;
        if at.count() > before || !one_form(node, at, ProbeTable::SECTION, &RATES) {
            return None;
        }
        let look = look_of(&table, node.origin, at)?;
        let origin = node.origin;
        Some(Probe {
            look,
            table,
            origin,
        })
    }

    fn show(&self) -> String {
        self.table.show()
    }
}

impl Probe {
    /// The [health] keys that hold for this probe.
    pub(crate) fn rates(&self, of_module: &Health) -> Health {
        let own = &self.table;
        Health {
            interval: own.interval.unwrap_or(of_module.interval),
            timeout: own.timeout.unwrap_or(of_module.timeout),
            unhealthy_threshold: own
                .unhealthy_threshold
                .unwrap_or(of_module.unhealthy_threshold),
            healthy_threshold: own.healthy_threshold.unwrap_or(of_module.healthy_threshold),
            initial_delay: own.initial_delay.unwrap_or(of_module.initial_delay),
        }
    }
}

fn look_of(table: &ProbeTable, origin: Origin, at: &mut Reading<'_>) -> Option<Check> {
    if table.sdk == Some(false) {
        let message = format!("cannot use {}: `sdk = false` says nothing", at.path());
        return at.problem(origin, message, "leave this probe out, or say `sdk = true`");
    }
    let look = table.watchdog.map(|span| Check::Watchdog(span.0));
    let look = look.or(table.sdk.map(|_| Check::Sdk));
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
        probe.read(origin, at).map(Check::Probe)
    })
}

/// Whether exactly one of a table's forms is there; says so if not.
fn one_form(node: &Node, at: &mut Reading<'_>, section: &Section, beside: &[&str]) -> bool {
    let Some(table) = node.as_table() else {
        return false;
    };
    let forms: Vec<&str> = table
        .keys()
        .map(String::as_str)
        .filter(|key| !beside.contains(key))
        .collect();
    let status_alone = table.contains_key("status") && !table.contains_key("http");
    if forms.len() == 1 && !status_alone {
        return true;
    }
    let all: Vec<&str> = section
        .keys
        .iter()
        .map(|key| key.name)
        .filter(|key| !beside.contains(key))
        .collect();
    let said = match (forms.len(), status_alone) {
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
fn address(text: &str, key: &str, origin: Origin, at: &mut Reading<'_>) -> Option<String> {
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
fn target(text: &str, origin: Origin, at: &mut Reading<'_>) -> Option<String> {
    let host = text.split('/').next().unwrap_or_default();
    address(host, "grpc", origin, at).map(|_| text.to_owned())
}

/// `http://host[:port][/path]`.
fn url(text: &str, origin: Origin, at: &mut Reading<'_>) -> Option<String> {
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
