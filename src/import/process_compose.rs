//! process-compose.yaml.
//! Owns the meaning of its keys.
//! Never keeps a key silently out: what is not known is a note.

use std::time::Duration;

use super::command_line::with_shell;
use super::draft::{Draft, Import, escaped};
use super::owned_probe::owned_probe;
use super::yaml::{Entry, Node, Value};
use super::{Fault, yaml};

/// Keys at the top and of processes that say nothing about how a process is run.
const SILENT: &[&str] = &[
    "version",
    "log_length",
    "processes",
    "is_tui_disabled",
    "disable_ansi_colors",
    "is_foreground",
    "ordered_shutdown",
    "vars",
    "is_strict",
];

pub(crate) fn read(text: &str, found: &mut Import) -> Result<(), Fault> {
    let root = yaml::parse(text)?;
    let shell = root.get("shell");
    let program = shell.and_then(|shell| shell.text_of("shell_command"));
    let argument = shell.and_then(|shell| shell.text_of("shell_argument"));
    let shell = [program.unwrap_or("/bin/sh"), argument.unwrap_or("-c")];
    let common = root.get("environment").map(Node::pairs).unwrap_or_default();
    for top in root.entries() {
        match top.key.as_str() {
            "shell" | "environment" => {}
            "name" => found.name = top.node.text().map(ToOwned::to_owned),
            key if SILENT.contains(&key) || key.starts_with("x-") => {}
            key => found.note(top.line, "", format!("{key} is not kept")),
        }
    }
    let processes = root.get("processes").map(Node::entries).unwrap_or_default();
    let has_env = found.folder().join(".env").exists();
    for process in processes {
        let process = &inherited(process, processes, processes.len());
        let count = process
            .node
            .text_of("replicas")
            .and_then(|text| text.parse().ok());
        let count: u32 = count.unwrap_or(1);
        for replica in 0..count.min(64) {
            let name = match count {
                1 => process.key.clone(),
                _ => format!("{}-{replica}", process.key),
            };
            let mut draft = found.independent(&name, process.line);
            draft.set_env("PC_REPLICA_NUM", &replica.to_string());
            for (_, name, value) in &common {
                draft.set_env(name, value.as_deref().unwrap_or_default());
            }
            draft.set("recovery.restart", "never");
            let mut node = process.node.clone();
            let vars = root.get("vars").map(Node::pairs).unwrap_or_default();
            let mut vars: Vec<(String, String)> = vars
                .into_iter()
                .map(|(_, name, value)| (name, value.unwrap_or_default()))
                .collect();
            vars.push(("PC_REPLICA_NUM".to_owned(), replica.to_string()));
            fill(&mut node, &vars);
            for entry in node.entries() {
                key(entry, &shell, &mut draft, found)?;
            }
            if let Some(entrypoint) = node.get("entrypoint") {
                let words = entrypoint.items().iter().filter_map(Node::text);
                let words: Vec<String> = words.map(ToOwned::to_owned).collect();
                draft.set_words("command", &words);
            }
            if !draft.has("command") {
                return Err(Fault::new(process.line, format!("{name} has no command")));
            }
            set_unsaid(process, has_env, &mut draft);
            found.add(draft)?;
        }
        if count > 1 {
            let text = format!("{} is {count} modules", process.key);
            found.note(process.line, "", text);
        }
    }
    if let Some(first) = processes.first() {
        let text = "a stop signal goes to the main process here, and to what is left of its tree \
                    when that has exited; there to the whole process group at once";
        found.note(first.line, "", text);
    }
    Ok(())
}

/// What holds there without a word: restarts have no end, and each process has the variables of
/// `.env`.
fn set_unsaid(process: &Entry, has_env: bool, draft: &mut Draft) {
    let recovery = draft.keys.get("recovery");
    let is_restarted = recovery.and_then(|it| it.get("restart"));
    let is_restarted = is_restarted.is_some_and(|it| it.as_str() != Some("never"));
    if is_restarted && !draft.has("recovery.max_attempts") {
        draft.set("recovery.max_attempts", 0);
    }
    let is_disabled = process.node.get("is_dotenv_disabled");
    if has_env && !draft.has("env_file") && !is_disabled.is_some_and(Node::is_true) {
        let path = draft.path_from_file(".env");
        draft.set("env_file", path);
    }
}

/// A process with what it `extends`: its own keys win, the environments are one after the other.
fn inherited(process: &Entry, all: &[Entry], depth: usize) -> Entry {
    let base = process.node.text_of("extends");
    let base = base.and_then(|base| all.iter().find(|other| other.key == base));
    let Some(base) = base.filter(|_| depth > 0) else {
        return process.clone();
    };
    let base = inherited(base, all, depth - 1);
    let mut entries = process.node.entries().to_vec();
    for entry in base.node.entries() {
        let own = entries.iter_mut().find(|own| own.key == entry.key);
        match (own.map(|own| &mut own.node.value), &entry.node.value) {
            (None, _) => entries.push(entry.clone()),
            (Some(Value::List(own)), Value::List(before)) if entry.key == "environment" => {
                own.splice(..0, before.iter().cloned());
            }
            _ => {}
        }
    }
    let mut extended = process.clone();
    extended.node.value = Value::Map(entries);
    extended
}

/// Replaces `{{.NAME}}`, and `$$` by `$`; other templates stay and are seen.
fn fill(node: &mut Node, vars: &[(String, String)]) {
    match &mut node.value {
        Value::Null => {}
        Value::Scalar(text) => {
            *text = text.replace("$$", "$");
            for (name, value) in vars {
                for form in [format!("{{{{.{name}}}}}"), format!("{{{{ .{name} }}}}")] {
                    *text = text.replace(&form, value);
                }
            }
        }
        Value::List(items) => items.iter_mut().for_each(|item| fill(item, vars)),
        Value::Map(entries) => {
            let nodes = entries.iter_mut().map(|entry| &mut entry.node);
            nodes.for_each(|node| fill(node, vars));
        }
    }
}

fn key(
    entry: &Entry,
    shell: &[&str; 2],
    draft: &mut Draft,
    found: &mut Import,
) -> Result<(), Fault> {
    let (line, node) = (entry.line, &entry.node);
    let text = node.text();
    match (entry.key.as_str(), text) {
        ("command", Some(text)) => draft.set_words("command", &with_shell(shell, text)),
        ("extends" | "entrypoint", _) => {}
        ("description", Some(text)) => draft.set("description", text),
        ("working_dir", Some(text)) => draft.directory = Some(text.to_owned()),
        ("environment", _) => {
            for (_, name, value) in node.pairs() {
                draft.set_env(&name, value.as_deref().unwrap_or_default());
            }
        }
        ("env_file" | "dotenv", Some(text)) => {
            let path = draft.path_from_file(text);
            draft.set("env_file", path);
        }
        ("depends_on", _) => depends(node, draft, found),
        ("availability", _) => availability(node, draft, found),
        ("readiness_probe", _) => readiness(node, shell, draft, found),
        ("liveness_probe", _) => {
            if let Some(check) = check(node, shell, draft, found) {
                draft.push("health.probes", repeated(check, node));
            }
        }
        ("ready_log_line", Some(text)) => {
            let mut ready = toml::Table::new();
            ready.insert("log".to_owned(), regex::escape(text).into());
            draft.set("ready", ready);
        }
        ("shutdown", _) => shutdown(node, shell, draft, found),
        ("disabled", _) if node.is_true() => draft.set("start", "lazy"),
        ("namespace", Some("default")) => {}
        ("disabled" | "replicas" | "is_dotenv_disabled", _) => {}
        ("is_daemon", _) if node.is_true() => {
            found.note(
                line,
                &draft.name,
                "is_daemon is not kept: run it in the foreground",
            );
        }
        (key, _) if SILENT.contains(&key) => {}
        (key, _) => found.note(line, &draft.name, format!("{key} is not kept")),
    }
    Ok(())
}

fn depends(node: &Node, draft: &mut Draft, found: &mut Import) {
    for edge in node.entries() {
        let condition = edge.node.text_of("condition").unwrap_or("process_started");
        let until = match condition {
            "process_healthy" | "process_log_ready" => "ready",
            "process_completed_successfully" => "completed",
            "process_completed" => {
                let text = format!("{} has to end with exit code 0 here", edge.key);
                found.note(edge.line, &draft.name, text);
                "completed"
            }
            _ => "started",
        };
        draft.depend(true, &edge.key, until);
    }
}

fn availability(node: &Node, draft: &mut Draft, found: &mut Import) {
    for entry in node.entries() {
        match (entry.key.as_str(), entry.node.text().unwrap_or_default()) {
            ("restart", "always") => draft.set("recovery.restart", "always"),
            ("restart", "on_failure") => draft.set("recovery.restart", "on_failure"),
            ("restart", "no") => {}
            ("restart", "exit_on_failure") => {
                draft.keys.remove("required");
                let text = "exit_on_failure is not kept: mainstay goes on without it";
                found.note(entry.line, &draft.name, text);
            }
            ("backoff_seconds", seconds) => {
                draft.set("recovery.backoff.initial", format!("{seconds}s"));
                draft.set("recovery.backoff.factor", 1.0);
                if seconds.parse::<u32>().is_ok_and(|seconds| seconds > 10) {
                    draft.set("recovery.backoff.max", format!("{seconds}s"));
                }
            }
            ("max_restarts", count) => {
                let count: i64 = count.parse().unwrap_or_default();
                draft.set("recovery.max_attempts", count);
            }
            (key, _) if entry.node.is_true() || key == "restart" => {
                let text = format!("availability.{key} is not kept");
                found.note(entry.line, &draft.name, text);
            }
            _ => {}
        }
    }
}

fn readiness(node: &Node, shell: &[&str], draft: &mut Draft, found: &mut Import) {
    let Some(ready) = check(node, shell, draft, found) else {
        return;
    };
    draft.set("ready", ready.clone());
    let seconds = |key: &str, default: u64| {
        let said = node.text_of(key).and_then(|text| text.parse().ok());
        said.unwrap_or(default)
    };
    let tries = seconds("failure_threshold", 3).saturating_mul(seconds("period_seconds", 10));
    let all = tries.saturating_add(seconds("initial_delay_seconds", 0));
    if all > 30 {
        draft.set_span("startup_timeout", Duration::from_secs(all));
    }
    // Once ready, its failures end the process there too.
    draft.push("health.probes", repeated(ready, node));
}

/// A check that is repeated as the probe says, or as it is by default.
fn repeated(mut probe: toml::Table, node: &Node) -> toml::Table {
    let times = [
        ("period_seconds", "interval", "10"),
        ("timeout_seconds", "timeout", "1"),
        ("initial_delay_seconds", "initial_delay", "0"),
    ];
    for (theirs, ours, default) in times {
        let seconds = node.text_of(theirs).unwrap_or(default);
        probe.insert(ours.to_owned(), format!("{seconds}s").into());
    }
    let counts = [
        ("failure_threshold", "unhealthy_threshold", 3),
        ("success_threshold", "healthy_threshold", 1),
    ];
    for (theirs, ours, default) in counts {
        let count = node.text_of(theirs).and_then(|text| text.parse().ok());
        probe.insert(ours.to_owned(), count.unwrap_or(default).into());
    }
    probe
}

/// A probe as mainstay has it; None, with a note: there is none.
fn check(node: &Node, shell: &[&str], draft: &Draft, found: &mut Import) -> Option<toml::Table> {
    let mut probe = toml::Table::new();
    if let Some(command) = node.get("exec").and_then(|exec| exec.text_of("command")) {
        let words = with_shell(shell, command).into_iter();
        let words: Vec<toml::Value> = words.map(|word| escaped(&word).into()).collect();
        if let Some(own) = owned_probe(command) {
            let text = format!(
                "a command cannot tell whose answer it gets; ready = {own} counts only while this \
                 module itself has the port"
            );
            found.note_once(node.line, &draft.name, text);
        }
        probe.insert("exec".to_owned(), words.into());
        return Some(probe);
    }
    let Some(http) = node.get("http_get") else {
        found.note(
            node.line,
            &draft.name,
            "a probe without exec and http_get is not kept",
        );
        return None;
    };
    let part = |key: &str, default: &str| http.text_of(key).unwrap_or(default).to_owned();
    if part("scheme", "http") != "http" {
        found.note(
            http.line,
            &draft.name,
            "a probe by https is not kept; use `exec`",
        );
        return None;
    }
    let (host, port) = (part("host", "127.0.0.1"), part("port", "80"));
    let url = format!("http://{host}:{port}{}", part("path", "/"));
    probe.insert("http".to_owned(), url.into());
    let status = http
        .text_of("status_code")
        .and_then(|text| text.parse::<i64>().ok());
    if let Some(status) = status {
        probe.insert("status".to_owned(), status.into());
    }
    Some(probe)
}

fn shutdown(node: &Node, shell: &[&str], draft: &mut Draft, found: &mut Import) {
    for entry in node.entries() {
        match (entry.key.as_str(), entry.node.text()) {
            ("signal", Some(number)) => match signal(number) {
                Some(name) => draft.set("stop_signal", name),
                None => {
                    let text = format!("stop signal {number} is not kept");
                    found.note(entry.line, &draft.name, text);
                }
            },
            ("timeout_seconds", Some(seconds)) => {
                draft.set("shutdown_timeout", format!("{seconds}s"));
            }
            ("command", Some(command)) => {
                draft.push_command("after_stop", &with_shell(shell, command));
                let text = "shutdown.command runs after the stop signal and the exit, not instead";
                found.note(entry.line, &draft.name, text);
            }
            // As it is here, see the note on stop signals.
            ("parent_only", _) => {}
            (key, _) => {
                let text = format!("shutdown.{key} is not kept");
                found.note(entry.line, &draft.name, text);
            }
        }
    }
}

/// The name of a signal by its number on Linux.
fn signal(number: &str) -> Option<&'static str> {
    Some(match number {
        "1" => "SIGHUP",
        "2" => "SIGINT",
        "3" => "SIGQUIT",
        "9" => "SIGKILL",
        "10" => "SIGUSR1",
        "12" => "SIGUSR2",
        "15" => "SIGTERM",
        _ => return None,
    })
}
