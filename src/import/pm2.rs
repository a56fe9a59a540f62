//! An ecosystem file of pm2, as JSON.
//! Owns the meaning of its keys.
//! Never runs JavaScript: an `ecosystem.config.js` has to be printed as JSON first.

use std::time::Duration;

use super::command_line::words;
use super::draft::{Draft, Import};
use super::yaml::{Entry, Node, Value};
use super::{Fault, units, yaml};

/// What runs a script, by how its name ends.
const INTERPRETERS: &[(&str, &str)] = &[
    (".js", "node"),
    (".cjs", "node"),
    (".mjs", "node"),
    (".py", "python3"),
    (".rb", "ruby"),
    (".sh", "bash"),
    (".php", "php"),
    (".pl", "perl"),
    (".ts", "bun"),
];

pub(crate) fn read(text: &str, found: &mut Import) -> Result<(), Fault> {
    let root = yaml::parse(text)?;
    let apps = match (root.get("apps"), &root.value) {
        (Some(apps), _) => apps.items().to_vec(),
        (None, Value::List(apps)) => apps.clone(),
        _ => vec![root.clone()],
    };
    for top in root.entries().iter().filter(|_| root.get("apps").is_some()) {
        if top.key != "apps" {
            found.note(top.line, "", format!("{} is not kept", top.key));
        }
    }
    for app in &apps {
        let script = app
            .text_of("script")
            .ok_or_else(|| Fault::new(app.line, "it has no script"))?;
        let stem = std::path::Path::new(script).file_stem().unwrap_or_default();
        let name = app
            .text_of("name")
            .map_or_else(|| stem.to_string_lossy().into(), ToOwned::to_owned);
        let count = instances(app, found);
        for index in 0..count {
            let shown = if count == 1 {
                name.clone()
            } else {
                format!("{name}-{index}")
            };
            let mut draft = found.independent(&shown, app.line);
            draft.set_words("command", &command(app, script)?);
            // What pm2 does where nothing is written.
            draft.set("stop_signal", "SIGINT");
            draft.set("shutdown_timeout", "1600ms");
            draft.set("recovery.restart", "always");
            draft.set("recovery.max_attempts", 16);
            draft.set_env(
                app.text_of("instance_var").unwrap_or("NODE_APP_INSTANCE"),
                &index.to_string(),
            );
            for entry in app.entries() {
                key(entry, &mut draft, found);
            }
            found.add(draft)?;
        }
    }
    Ok(())
}

fn instances(app: &Node, found: &mut Import) -> u32 {
    let Some(node) = app.get("instances") else {
        return 1;
    };
    match node.text().and_then(|text| text.parse::<i64>().ok()) {
        Some(count @ 1..=64) => count as u32,
        _ => {
            let text = "instances by the number of processors is not kept: it is one module";
            found.note(node.line, "", text);
            1
        }
    }
}

fn command(app: &Node, script: &str) -> Result<Vec<String>, Fault> {
    let list = |keys: &[&str]| -> Result<Vec<String>, Fault> {
        let Some(node) = keys.iter().find_map(|key| app.get(key)) else {
            return Ok(Vec::new());
        };
        match node.text() {
            Some("") => Ok(Vec::new()),
            Some(text) => words(text).ok_or_else(|| Fault::new(node.line, "a quote is not closed")),
            None => Ok(node
                .items()
                .iter()
                .filter_map(|item| item.text().map(ToOwned::to_owned))
                .collect()),
        }
    };
    let ending = INTERPRETERS
        .iter()
        .find(|(end, _)| script.ends_with(end))
        .map(|(_, by)| *by);
    let interpreter = app
        .text_of("interpreter")
        .or(app.text_of("exec_interpreter"))
        .or(ending);
    let mut command: Vec<String> = Vec::new();
    if let Some(by) = interpreter.filter(|by| *by != "none") {
        command.push(by.to_owned());
        command.extend(list(&["interpreter_args", "node_args"])?);
        command.push(script.to_owned());
    } else {
        let parts = words(script).ok_or_else(|| Fault::new(app.line, "a quote is not closed"))?;
        command.extend(parts);
    }
    command.extend(list(&["args"])?);
    Ok(command)
}

fn key(entry: &Entry, draft: &mut Draft, found: &mut Import) {
    let (line, node) = (entry.line, &entry.node);
    match (entry.key.as_str(), node.text()) {
        ("cwd", Some(text)) => draft.directory = Some(text.to_owned()),
        ("env", _) => {
            for (_, name, value) in node.pairs() {
                draft.set_env(&name, value.as_deref().unwrap_or_default());
            }
        }
        ("uid" | "user", Some(text)) => draft.set("user", text),
        ("gid", Some(text)) => draft.set("group", text),
        ("autorestart", _) if !node.is_true() => draft.set("recovery.restart", "never"),
        ("max_restarts", Some(text)) => {
            draft.set("recovery.max_attempts", text.parse::<i64>().unwrap_or(16));
        }
        ("stop_exit_codes", _) => {
            let codes = node
                .items()
                .iter()
                .filter_map(|item| item.text()?.parse::<i64>().ok());
            let codes: Vec<toml::Value> = codes.map(Into::into).collect();
            draft.set("recovery.clean_exit_codes", codes);
        }
        ("max_memory_restart", Some(text)) => match units::mebibytes(text) {
            Some(mb) => {
                draft.set("limits.memory_mb", mb);
                draft.set("rungs", vec![toml::Value::from("notice"), "restart".into()]);
            }
            None => found.note(line, &draft.name, format!("{text:?} is no size")),
        },
        ("exec_mode", Some(mode)) if mode.starts_with("cluster") => {
            let text = "cluster mode is not kept: processes do not share a port here";
            found.note(line, &draft.name, text);
        }
        ("wait_ready", _) if node.is_true() => {
            let text = "wait_ready is not kept: set `ready`, for instance to a port";
            found.note(line, &draft.name, text);
        }
        (
            "name" | "script" | "args" | "interpreter" | "exec_interpreter" | "interpreter_args"
            | "node_args" | "instances" | "instance_var" | "autorestart" | "wait_ready"
            | "exec_mode" | "merge_logs" | "combine_logs" | "time" | "namespace" | "vizion",
            _,
        ) => {}
        (key @ ("out_file" | "output" | "error_file" | "error" | "log_file" | "log"), _) => {
            let text = format!("{key} is not kept: `mainstay logs` has its output, by [logs]");
            found.note(line, &draft.name, text);
        }
        _ => times_and_watch(entry, draft, found),
    }
}

fn times_and_watch(entry: &Entry, draft: &mut Draft, found: &mut Import) {
    let (line, node) = (entry.line, &entry.node);
    let millis = || {
        let span = node.text().and_then(|text| units::duration(text, 1e-3));
        span.unwrap_or(Duration::from_millis(1))
    };
    match (entry.key.as_str(), node.text()) {
        ("min_uptime", Some(_)) => draft.set_span("recovery.stable_after", millis()),
        ("restart_delay" | "exp_backoff_restart_delay", Some(_)) => {
            let delay = millis();
            draft.set_span("recovery.backoff.initial", delay);
            let factor = if entry.key == "restart_delay" {
                1.0
            } else {
                1.5
            };
            draft.set("recovery.backoff.factor", factor);
            draft.set_span("recovery.backoff.max", delay.max(Duration::from_secs(15)));
        }
        ("kill_timeout", Some(_)) => draft.set_span("shutdown_timeout", millis()),
        ("listen_timeout", Some(_)) => draft.set_span("startup_timeout", millis()),
        ("watch", Some(_)) if !node.is_true() => {}
        ("watch", _) => {
            let below = |text: &str| match text.trim_end_matches('/') {
                "." => "**/*".to_owned(),
                text => format!("{}/**/*", text.trim_start_matches("./")),
            };
            let paths = node
                .items()
                .iter()
                .filter_map(|item| item.text().map(below));
            let paths: Vec<String> = match node.is_true() {
                true => vec!["**/*".to_owned()],
                false => paths.collect(),
            };
            draft.set_words("watch", &paths);
        }
        ("ignore_watch", _) => {
            let names = node
                .items()
                .iter()
                .filter_map(|item| item.text().map(ToOwned::to_owned));
            draft.set_words("watch_ignore", &names.collect::<Vec<String>>());
        }
        (key, _) => found.note(line, &draft.name, format!("{key} is not kept")),
    }
}
