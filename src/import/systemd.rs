//! Service units of systemd; several files are one set of modules.
//! Owns the meaning of their keys, of specifiers and of `$NAME` in a command.
//! Never asks systemd: drop-ins and other units are not read.

use std::time::Duration;

use super::command_line::words;
use super::draft::{Draft, Import};
use super::ini::{self, Dialect, IniKey, Section};
use super::{Fault, units};

/// Keys that say nothing here, or what mainstay does anyway.
const SILENT: &[&str] = &[
    "Documentation",
    "After",
    "WantedBy",
    "RequiredBy",
    "Alias",
    "Also",
    "SendSIGKILL",
    "StandardOutput",
    "StandardError",
    "SyslogIdentifier",
    "NotifyAccess",
    "DefaultDependencies",
    "RemainAfterExit",
];

pub(crate) fn read(text: &str, found: &mut Import) -> Result<(), Fault> {
    let sections = ini::parse(text, Dialect::Systemd)?;
    let file = found.file_name().to_owned();
    let unit = file.trim_end_matches(".service");
    let service = sections.iter().find(|section| section.name == "Service");
    let service = service.ok_or_else(|| Fault::new(1, "it has no [Service]"))?;
    let mut draft = found.independent(unit.trim_end_matches('@'), service.line);
    let mut commands: Vec<Vec<String>> = Vec::new();
    draft.set("recovery.restart", "never");
    let is_oneshot = service.get("Type") == Some("oneshot");
    if is_oneshot {
        draft.set("kind", "task");
    }
    for section in &sections {
        edges(section, &mut draft);
        for key in &section.keys {
            let key = IniKey {
                value: specifiers(&key.value, unit, key.line)?,
                ..key.clone()
            };
            if section.name == "Service" && key.name == "ExecStart" {
                match key.value.is_empty() {
                    true => commands.clear(),
                    false => commands.push(command(&key, &draft.name.clone(), found)?),
                }
            } else {
                one(&key, &mut draft, found)?;
            }
        }
    }
    let Some(main) = commands.pop() else {
        return Err(Fault::new(service.line, "it has no ExecStart"));
    };
    for first in commands {
        draft.push_command("before_start", &first);
    }
    draft.set_words("command", &main);
    found.add(draft)
}

/// Edges to services; other kinds of units have no module.
fn edges(section: &Section, draft: &mut Draft) {
    if section.name != "Unit" {
        return;
    }
    let all = |name: &str| -> Vec<String> {
        let keys = section.keys.iter().filter(|key| key.name == name);
        let units = keys.flat_map(|key| key.value.split_whitespace());
        let units = units.filter_map(|unit| unit.strip_suffix(".service"));
        units.map(ToOwned::to_owned).collect()
    };
    let hard = ["Requires", "Requisite", "BindsTo"].map(all).concat();
    for unit in &hard {
        draft.depend(true, unit, "ready");
    }
    // Order alone is a soft edge here: it never pulls a module in, nor does it hold one up.
    for unit in ["Wants", "After"].map(all).concat() {
        let edge = super::draft::usable_name(&unit);
        let is_new = |kind: &str| {
            let list = draft.keys.get(kind).and_then(toml::Value::as_array);
            let mut names = list.into_iter().flatten().filter_map(super::draft::target);
            names.all(|name| name != edge)
        };
        if is_new("requires") && is_new("wants") {
            draft.depend(false, &unit, "ready");
        }
    }
}

fn one(key: &IniKey, draft: &mut Draft, found: &mut Import) -> Result<(), Fault> {
    let (line, value) = (key.line, key.value.trim());
    match key.name.as_str() {
        "Description" => draft.set("description", value),
        "Requires" | "Requisite" | "BindsTo" | "Wants" | "PartOf" => {
            for unit in value
                .split_whitespace()
                .filter(|unit| !unit.ends_with(".service"))
            {
                found.note(
                    line,
                    &draft.name,
                    format!("{}={unit} is not kept", key.name),
                );
            }
        }
        "Type" => kind(value, line, draft, found),
        "ExecStartPre" | "ExecStopPost" => {
            let name = draft.name.clone();
            let list = if key.name == "ExecStartPre" {
                "before_start"
            } else {
                "after_stop"
            };
            if !value.is_empty() {
                draft.push_command(list, &command(key, &name, found)?);
            }
        }
        "Restart" => {
            let restart = match value {
                "no" => "never",
                "always" => "always",
                "on-success" => {
                    let text = "Restart=on-success is not kept: it is restarted after failures too";
                    found.note(line, &draft.name, text);
                    "always"
                }
                _ => "on_failure",
            };
            draft.set("recovery.restart", restart);
        }
        "KillSignal" => draft.set("stop_signal", value),
        "ExecReload" => reload(key, draft, found)?,
        "ReloadSignal" => draft.set("reload_signal", value),
        "KillMode" if ["control-group", "mixed"].contains(&value) => {}
        "SuccessExitStatus" => {
            let codes = value
                .split_whitespace()
                .filter_map(|code| code.parse::<i64>().ok());
            let codes: Vec<toml::Value> = [0].into_iter().chain(codes).map(Into::into).collect();
            draft.set("recovery.clean_exit_codes", codes);
        }
        name if SILENT.contains(&name) => {}
        _ => return times(key, draft, found),
    }
    Ok(())
}

/// The delays, limits and timeouts.
fn times(key: &IniKey, draft: &mut Draft, found: &mut Import) -> Result<(), Fault> {
    let (line, value) = (key.line, key.value.trim());
    let span = || {
        let span = units::duration(value, 1.0);
        span.ok_or_else(|| Fault::new(line, format!("{value:?} is no duration")))
    };
    let endless = ["infinity", "0"].contains(&value);
    match key.name.as_str() {
        "RestartSec" => {
            let delay = span()?;
            draft.set_span("recovery.backoff.initial", delay);
            draft.set("recovery.backoff.factor", 1.0);
            draft.set_span("recovery.backoff.max", delay.max(Duration::from_secs(10)));
        }
        "StartLimitBurst" => {
            draft.set("recovery.max_attempts", value.parse::<i64>().unwrap_or(5));
        }
        "StartLimitIntervalSec" | "StartLimitInterval" if value == "0" => {
            draft.set("recovery.max_attempts", 0);
        }
        "StartLimitIntervalSec" | "StartLimitInterval" => {
            draft.set_span("recovery.window", span()?)
        }
        "TimeoutStartSec" if !endless => draft.set_span("startup_timeout", span()?),
        "TimeoutStopSec" if !endless => draft.set_span("shutdown_timeout", span()?),
        "TimeoutSec" if !endless => {
            draft.set_span("startup_timeout", span()?);
            draft.set_span("shutdown_timeout", span()?);
        }
        "TimeoutStartSec" | "TimeoutStopSec" | "TimeoutSec" => {
            let text = format!(
                "{} without an end is not kept: every wait has one",
                key.name
            );
            found.note(line, &draft.name, text);
        }
        "WatchdogSec" => {
            let mut probe = toml::Table::new();
            probe.insert("watchdog".to_owned(), units::shown(span()?).into());
            draft.push("health.probes", probe);
        }
        _ => return surroundings(key, draft, found),
    }
    Ok(())
}

/// The user, environment, directory and limits.
fn surroundings(key: &IniKey, draft: &mut Draft, found: &mut Import) -> Result<(), Fault> {
    let (line, value) = (key.line, key.value.trim());
    let number = value.parse::<i64>().ok();
    match (key.name.as_str(), number) {
        ("User", _) => draft.set("user", value),
        ("Group", _) => draft.set("group", value),
        ("WorkingDirectory", _) if !value.starts_with('~') => {
            draft.directory = Some(value.trim_start_matches('-').to_owned());
        }
        ("Environment", _) => {
            let all = words(value).unwrap_or_default();
            for (name, value) in all.iter().filter_map(|pair| pair.split_once('=')) {
                draft.set_env(name, value);
            }
        }
        ("EnvironmentFile", _) => draft.push("env_file", super::draft::escaped(value)),
        ("LimitNOFILE", _) => {
            let most = value.rsplit(':').next().unwrap_or(value);
            match most.parse::<i64>() {
                Ok(most) => draft.set("limits.file_handles", most),
                Err(_) => found.note(line, &draft.name, "LimitNOFILE=infinity is not kept"),
            }
        }
        ("Nice", Some(nice)) => draft.set("limits.nice", nice),
        ("OOMScoreAdjust", Some(score)) => draft.set("limits.oom_score_adj", score),
        ("TasksMax", Some(tasks)) => draft.set("limits.threads", tasks),
        ("MemoryMax" | "MemoryLimit", _) if units::mebibytes(value).is_some() => {
            draft.set("limits.memory_mb", units::mebibytes(value).unwrap_or(1));
        }
        ("CPUQuota", _) if value.ends_with('%') => {
            let percent = value.trim_end_matches('%').parse::<f64>();
            draft.set("limits.cpu_percent", percent.unwrap_or(100.0));
        }
        ("NoNewPrivileges", _) if ["yes", "true", "on", "1"].contains(&value) => {
            draft.set("isolation.no_new_privileges", true);
        }
        (name, _) => {
            found.note(line, &draft.name, format!("{name}={value} is not kept"));
        }
    }
    Ok(())
}

fn kind(value: &str, line: usize, draft: &mut Draft, found: &mut Import) {
    match value {
        "notify" | "notify-reload" => {
            if value == "notify-reload" && !draft.has("reload_signal") {
                draft.set("reload_signal", "SIGHUP");
            }
            let mut ready = toml::Table::new();
            ready.insert("notify".to_owned(), true.into());
            draft.set("ready", ready);
        }
        "simple" | "exec" | "idle" | "oneshot" => {}
        _ => {
            let text = format!("Type={value} is not kept: run it in the foreground");
            found.note(line, &draft.name, text);
        }
    }
}

/// How it is told to read its configuration again: `kill` of the main process is a signal.
fn reload(key: &IniKey, draft: &mut Draft, found: &mut Import) -> Result<(), Fault> {
    let (line, name) = (key.line, draft.name.clone());
    if key.value.trim().is_empty() {
        draft.keys.remove("reload_signal");
        draft.keys.remove("reload_command");
        return Ok(());
    }
    let plain = key
        .value
        .trim()
        .trim_start_matches(['-', '@', ':', '+', '!', '|']);
    let split = words(plain).unwrap_or_default();
    let all: Vec<&str> = split.iter().map(String::as_str).collect();
    let signal = match all[..] {
        [kill, "-s" | "-n" | "--signal", signal, main] => Some((kill, signal, main)),
        [kill, signal, main] => signal.strip_prefix('-').map(|signal| (kill, signal, main)),
        [kill, main] => Some((kill, "TERM", main)),
        _ => None,
    };
    let signal = signal.filter(|(kill, _, main)| {
        let is_main = ["$MAINPID", "${MAINPID}"].contains(main);
        is_main && kill.rsplit('/').next() == Some("kill")
    });
    let has_one = draft.has("reload_signal") || draft.has("reload_command");
    if has_one {
        found.note(line, &name, "a second way to reload is not kept");
    } else if let Some((_, signal, _)) = signal {
        let signal = signal.strip_prefix("SIG").unwrap_or(signal);
        let signal = match signal {
            "1" => "HUP",
            "10" => "USR1",
            "12" => "USR2",
            other => other,
        };
        draft.set("reload_signal", format!("SIG{signal}"));
    } else if plain.contains("MAINPID") {
        let text = format!("ExecReload={plain} is not kept: a command has no $MAINPID");
        found.note(line, &name, text);
    } else {
        let command = command(key, &name, found)?;
        draft.set_words("reload_command", &command);
    }
    Ok(())
}

/// A command line; `$NAME` in it needs a shell, as systemd replaces it.
fn command(key: &IniKey, module: &str, found: &mut Import) -> Result<Vec<String>, Fault> {
    let text = key.value.trim();
    let plain = text.trim_start_matches(['-', '@', ':', '+', '!', '|']);
    let signs = &text[..text.len() - plain.len()];
    if !signs.is_empty() {
        let text = format!("{signs} before the command of {} is not kept", key.name);
        found.note(key.line, module, text);
    }
    let split =
        words(plain).ok_or_else(|| Fault::new(key.line, "the command has an open quote"))?;
    let has_variable = |word: &String| word.replace("$$", "").contains('$');
    if !split.iter().any(has_variable) {
        return Ok(split.iter().map(|word| word.replace("$$", "$")).collect());
    }
    let shown = split.iter().map(|word| {
        let quoted = format!("\"{}\"", word.replace(['\\', '"', '`'], ""));
        match (has_variable(word), word.strip_prefix('$')) {
            // `$NAME` alone is several words, `${NAME}` is one.
            (true, Some(name)) if !name.starts_with('{') => format!("${name}"),
            (true, _) => quoted,
            (false, _) => match shlex::try_quote(&word.replace("$$", "$")) {
                Ok(word) => word.into_owned(),
                Err(_) => quoted,
            },
        }
    });
    let line = format!("exec {}", shown.collect::<Vec<String>>().join(" "));
    Ok(vec!["/bin/sh".to_owned(), "-c".to_owned(), line])
}

/// Replaces the specifiers that are known without systemd.
fn specifiers(text: &str, unit: &str, line: usize) -> Result<String, Fault> {
    let prefix = unit.split('@').next().unwrap_or(unit);
    let instance = unit.split_once('@').map(|(_, instance)| instance);
    let (mut filled, mut chars) = (String::new(), text.chars());
    while let Some(one) = chars.next() {
        if one != '%' {
            filled.push(one);
            continue;
        }
        match chars.next() {
            Some('%') => filled.push('%'),
            Some('n') => filled.push_str(&format!("{unit}.service")),
            Some('N') => filled.push_str(unit),
            Some('p') => filled.push_str(prefix),
            Some('i' | 'I') if instance.is_some_and(|text| !text.is_empty()) => {
                filled.push_str(instance.unwrap_or_default());
            }
            Some('i' | 'I') => {
                let text = "%i has no value: name the file as an instance, as in web@1.service";
                return Err(Fault::new(line, text));
            }
            Some('t') => filled.push_str("/run"),
            Some('S') => filled.push_str("/var/lib"),
            Some('C') => filled.push_str("/var/cache"),
            Some('L') => filled.push_str("/var/log"),
            Some('E') => filled.push_str("/etc"),
            Some('T') => filled.push_str("/tmp"),
            Some(sign) => {
                return Err(Fault::new(line, format!("%{sign} is not known here")));
            }
            // A percentage.
            None => filled.push('%'),
        }
    }
    Ok(filled)
}
