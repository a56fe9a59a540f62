//! Compose files of Docker and Podman.
//! Owns the choice between a command of this machine and `docker run`, and the meaning of keys.
//! Never starts a container itself: the module that it writes does.

use std::time::Duration;

use super::draft::{Draft, Import, escaped};
use super::interpolation::interpolate;
use super::yaml::{Entry, Node, Value};
use super::{Fault, command_line, units, yaml};

/// Keys that say nothing about a process.
const SILENT: &[&str] = &[
    "labels",
    "container_name",
    "tty",
    "init",
    "pull_policy",
    "attach",
];

/// Keys of `docker run` whose values are passed on, one option each.
const OPTIONS: &[(&str, &str)] = &[
    ("ports", "--publish"),
    ("volumes", "--volume"),
    ("tmpfs", "--tmpfs"),
    ("dns", "--dns"),
    ("cap_add", "--cap-add"),
    ("cap_drop", "--cap-drop"),
    ("devices", "--device"),
    ("extra_hosts", "--add-host"),
    ("security_opt", "--security-opt"),
    ("user", "--user"),
    ("working_dir", "--workdir"),
    ("network_mode", "--network"),
    ("hostname", "--hostname"),
    ("shm_size", "--shm-size"),
    ("mem_limit", "--memory"),
    ("cpus", "--cpus"),
];

pub(crate) fn read(text: &str, found: &mut Import) -> Result<(), Fault> {
    let mut root = yaml::parse(text)?;
    interpolate(&mut root, found)?;
    for top in root.entries() {
        match top.key.as_str() {
            "services" | "version" => {}
            "name" => found.name = top.node.text().map(ToOwned::to_owned),
            key if key.starts_with("x-") => {}
            key => found.note(top.line, "", format!("{key} is not kept")),
        }
    }
    for service in root.get("services").map(Node::entries).unwrap_or_default() {
        let count = service
            .node
            .text_of("scale")
            .and_then(|text| text.parse::<u32>().ok());
        let deploy = service
            .node
            .get("deploy")
            .and_then(|deploy| deploy.text_of("replicas"));
        let count = count
            .or(deploy.and_then(|text| text.parse().ok()))
            .unwrap_or(1);
        for replica in 1..=count.min(64) {
            let name = match count {
                1 => service.key.clone(),
                _ => format!("{}-{replica}", service.key),
            };
            let mut draft = found.independent(&name, service.line);
            one(service, &mut draft, found)?;
            found.add(draft)?;
        }
    }
    Ok(())
}

fn one(service: &Entry, draft: &mut Draft, found: &mut Import) -> Result<(), Fault> {
    let node = &service.node;
    let entrypoint = node.get("entrypoint").map(command_words).transpose()?;
    let command = node.get("command").map(command_words).transpose()?;
    let words = [entrypoint.unwrap_or_default(), command.unwrap_or_default()].concat();
    let is_container = words.is_empty();
    draft.set("recovery.restart", "never");
    if !is_container {
        native_directory(node, draft);
    }
    for entry in node.entries() {
        key(entry, is_container, draft, found)?;
    }
    let image = node.get("image").and_then(Node::text);
    if !is_container {
        draft.set_words("command", &words);
        if let (Some(image), Some(node)) = (image, node.get("image")) {
            let text = format!("image {image} is not used: the command runs on this machine");
            found.note(node.line, &draft.name, text);
        }
        return Ok(());
    }
    let context = node.get("build");
    let context = context.and_then(|build| build.text().or_else(|| build.text_of("context")));
    let image = match (image, context) {
        (image, Some(context)) => {
            let image = image.unwrap_or(&draft.original).to_owned();
            let build = ["docker", "build", "--tag", &image, context].map(ToOwned::to_owned);
            draft.push_command("before_start", &build);
            image
        }
        (Some(image), None) => image.to_owned(),
        (None, None) => {
            let text = format!("{} has no command, no image and no build", service.key);
            return Err(Fault::new(service.line, text));
        }
    };
    let mut run = ["docker", "run", "--rm", "--name"]
        .map(ToOwned::to_owned)
        .to_vec();
    run.push(draft.name.clone());
    run.extend(options(node));
    run.push(image);
    draft.set_words("command", &run);
    let text = "it runs by `docker run`: no other service finds it by its name";
    found.note(service.line, &draft.name, text);
    Ok(())
}

/// A command: a list, or a text that compose splits as a shell does.
fn command_words(node: &Node) -> Result<Vec<String>, Fault> {
    match &node.value {
        Value::Scalar(text) => command_line::words(text)
            .or_else(|| text.trim().is_empty().then(Vec::new))
            .ok_or_else(|| Fault::new(node.line, "the command has an open quote")),
        _ => Ok(node
            .items()
            .iter()
            .filter_map(|item| item.text().map(ToOwned::to_owned))
            .collect()),
    }
}

/// Where a command of a container runs on this machine: in the folder that is mounted at its
/// working directory, else in that of its build.
fn native_directory(node: &Node, draft: &mut Draft) {
    let inside = node.text_of("working_dir");
    let volumes = node.get("volumes").map(Node::items).unwrap_or_default();
    let mounted = volumes.iter().find_map(|volume| {
        let (host, target) = match volume.text() {
            Some(text) => {
                let mut parts = text.split(':');
                (parts.next()?.to_owned(), parts.next()?.to_owned())
            }
            None => (
                volume.text_of("source")?.to_owned(),
                volume.text_of("target")?.to_owned(),
            ),
        };
        (Some(target.as_str()) == inside).then_some(host)
    });
    let build = node.get("build");
    let build = build.and_then(|build| build.text().or_else(|| build.text_of("context")));
    draft.directory = mounted.or_else(|| build.map(ToOwned::to_owned));
}

/// The options of `docker run`. The environment is that of the module.
fn options(node: &Node) -> Vec<String> {
    let mut options = Vec::new();
    for (key, option) in OPTIONS {
        for item in node.get(key).map(Node::items).unwrap_or_default() {
            if let Some(text) = item.text() {
                options.extend([(*option).to_owned(), text.to_owned()]);
            }
        }
    }
    // A value comes from the environment of `docker`: it is in no list of processes.
    for (_, name, _) in node.get("environment").map(Node::pairs).unwrap_or_default() {
        options.extend(["--env".to_owned(), name]);
    }
    options
}

fn key(
    entry: &Entry,
    is_container: bool,
    draft: &mut Draft,
    found: &mut Import,
) -> Result<(), Fault> {
    let (line, node) = (entry.line, &entry.node);
    match (entry.key.as_str(), node.text()) {
        ("environment", _) => {
            for (line, name, value) in node.pairs() {
                match value {
                    Some(value) => draft.set_env(&name, &value),
                    None => {
                        let text = format!("{name} is that of mainstay's own environment");
                        found.note(line, &draft.name, text);
                    }
                }
            }
        }
        ("env_file", _) => {
            for file in node.items() {
                let path = file
                    .text()
                    .or_else(|| file.text_of("path"))
                    .unwrap_or_default();
                let optional = file
                    .get("required")
                    .is_some_and(|required| !required.is_true());
                let path = draft.path_from_file(path);
                draft.push("env_file", if optional { format!("-{path}") } else { path });
            }
        }
        ("depends_on", _) => depends(node, draft),
        ("healthcheck", _) => healthcheck(node, is_container, draft, found)?,
        ("restart", Some(text)) => {
            let (policy, count) = text.split_once(':').unwrap_or((text, ""));
            let restart = match policy {
                "always" | "unless-stopped" => "always",
                "on-failure" => "on_failure",
                _ => "never",
            };
            draft.set("recovery.restart", restart);
            if let Ok(count) = count.parse::<i64>() {
                draft.set("recovery.max_attempts", count);
            }
        }
        ("stop_signal", Some(text)) => draft.set("stop_signal", text),
        ("stop_grace_period", Some(text)) => {
            let span = units::duration(text, 1.0).ok_or_else(|| Fault::new(line, "no duration"))?;
            draft.set_span("shutdown_timeout", span.max(Duration::from_secs(1)));
        }
        ("profiles", _) => draft.set("start", "lazy"),
        ("stdin_open", _) if node.is_true() => draft.set("stdin", "open"),
        ("stdin_open" | "command" | "entrypoint" | "image" | "scale", _) => {}
        ("build", _) => {}
        ("working_dir", _) if !is_container => {}
        (key, _) if SILENT.contains(&key) || key.starts_with("x-") => {}
        (key, _) if is_container && OPTIONS.iter().any(|(name, _)| *name == key) => {
            if node.items().iter().any(|item| item.text().is_none()) {
                found.note(line, &draft.name, format!("{key} as a table is not kept"));
            }
        }
        ("deploy", _) => deploy(node, draft, found),
        _ => native(entry, draft, found),
    }
    Ok(())
}

/// Keys of a container that mean something for a process too.
fn native(entry: &Entry, draft: &mut Draft, found: &mut Import) {
    let (line, node) = (entry.line, &entry.node);
    match (entry.key.as_str(), node.text()) {
        ("user", Some(text)) => {
            let (user, group) = text.split_once(':').unwrap_or((text, ""));
            draft.set("user", user);
            if !group.is_empty() {
                draft.set("group", group);
            }
        }
        ("mem_limit", Some(text)) if units::mebibytes(text).is_some() => {
            draft.set("limits.memory_mb", units::mebibytes(text).unwrap_or(1));
        }
        ("cpus", Some(text)) if text.parse::<f64>().is_ok() => {
            draft.set(
                "limits.cpu_percent",
                text.parse::<f64>().unwrap_or(1.0) * 100.0,
            );
        }
        ("pids_limit", Some(text)) if text.parse::<i64>().is_ok_and(|count| count > 0) => {
            draft.set("limits.threads", text.parse::<i64>().unwrap_or(1));
        }
        ("oom_score_adj", Some(text)) if text.parse::<i64>().is_ok() => {
            draft.set(
                "limits.oom_score_adj",
                text.parse::<i64>().unwrap_or_default(),
            );
        }
        ("ulimits", _) => {
            let files = node.get("nofile");
            let most = files.and_then(|files| files.text().or_else(|| files.text_of("hard")));
            match most.and_then(|text| text.parse::<i64>().ok()) {
                Some(most) => draft.set("limits.file_handles", most),
                None => found.note(line, &draft.name, "ulimits are not kept"),
            }
        }
        ("security_opt", _) => {
            for item in node.items() {
                match item.text() {
                    Some(text) if text.starts_with("no-new-privileges") => {
                        draft.set("isolation.no_new_privileges", true);
                    }
                    other => {
                        let text =
                            format!("security_opt {} is not kept", other.unwrap_or_default());
                        found.note(item.line, &draft.name, text);
                    }
                }
            }
        }
        ("ports", _) => {
            let text = "ports are not mapped: the program listens on this machine itself";
            found.note(line, &draft.name, text);
        }
        (key, _) => found.note(line, &draft.name, format!("{key} is not kept")),
    }
}

fn depends(node: &Node, draft: &mut Draft) {
    for item in node.items() {
        if let Some(name) = item.text() {
            draft.depend(true, name, "started");
        }
    }
    for edge in node.entries() {
        let until = match edge.node.text_of("condition") {
            Some("service_healthy") => "healthy",
            Some("service_completed_successfully") => "completed",
            _ => "started",
        };
        let hard = edge.node.get("required").is_none_or(Node::is_true);
        draft.depend(hard, &edge.key, until);
        if edge.node.get("restart").is_some_and(Node::is_true) {
            draft.set("recovery.on_dependency_restart", "restart");
        }
    }
}

fn healthcheck(
    node: &Node,
    is_container: bool,
    draft: &mut Draft,
    found: &mut Import,
) -> Result<(), Fault> {
    let Some(test) = node
        .get("test")
        .filter(|_| !node.get("disable").is_some_and(Node::is_true))
    else {
        return Ok(());
    };
    let items: Vec<String> = test
        .items()
        .iter()
        .filter_map(|item| item.text().map(ToOwned::to_owned))
        .collect();
    let words = match (items.first().map(String::as_str), test.text()) {
        (_, Some(text)) => command_line::of_shell(text),
        (Some("NONE"), _) => return Ok(()),
        (Some("CMD"), _) => items.get(1..).unwrap_or_default().to_vec(),
        (Some("CMD-SHELL"), _) => {
            command_line::of_shell(&items.get(1..).unwrap_or_default().join(" "))
        }
        _ => items.clone(),
    };
    let mut exec: Vec<String> = Vec::new();
    if is_container {
        exec.extend(["docker", "exec", draft.name.as_str()].map(ToOwned::to_owned));
    }
    exec.extend(words);
    let mut probe = toml::Table::new();
    let exec: Vec<toml::Value> = exec.iter().map(|word| escaped(word).into()).collect();
    probe.insert("exec".to_owned(), exec.into());
    for (theirs, ours, default) in [
        ("interval", "interval", "30s"),
        ("timeout", "timeout", "30s"),
        ("start_period", "initial_delay", "0s"),
    ] {
        let text = node.text_of(theirs).unwrap_or(default);
        let span = units::duration(text, 1.0);
        let span = span.ok_or_else(|| Fault::new(node.line, format!("{text:?} is no duration")))?;
        probe.insert(ours.to_owned(), units::shown(span).into());
    }
    let retries = node
        .text_of("retries")
        .and_then(|text| text.parse::<i64>().ok());
    probe.insert(
        "unhealthy_threshold".to_owned(),
        retries.unwrap_or(3).into(),
    );
    draft.push("health.probes", probe);
    let text = "a container that is unhealthy goes on there; here the module is restarted";
    found.note(node.line, &draft.name, text);
    Ok(())
}

fn deploy(node: &Node, draft: &mut Draft, found: &mut Import) {
    for entry in node.entries() {
        match entry.key.as_str() {
            "replicas" => {}
            "resources" => {
                let limits = entry.node.get("limits");
                for limit in limits.map(Node::entries).unwrap_or_default() {
                    let key = match limit.key.as_str() {
                        "memory" => "mem_limit",
                        "pids" => "pids_limit",
                        other => other,
                    };
                    let key = key.to_owned();
                    native(
                        &Entry {
                            key,
                            ..limit.clone()
                        },
                        draft,
                        found,
                    );
                }
            }
            "restart_policy" => {
                let restart = match entry.node.text_of("condition") {
                    Some("none") => "never",
                    Some("on-failure") => "on_failure",
                    _ => "always",
                };
                draft.set("recovery.restart", restart);
            }
            key => found.note(entry.line, &draft.name, format!("deploy.{key} is not kept")),
        }
    }
}
