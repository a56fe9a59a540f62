//! supervisord.conf.
//! Owns the meaning of its keys and its `%(…)s` expressions.
//! Never reads the files of `[include]`: they are imported one by one.

use std::time::Duration;

use super::Fault;
use super::command_line::words;
use super::draft::{Draft, Import};
use super::ini::{self, Dialect, IniKey, Section};

/// Sections about supervisord itself.
const ITS_OWN: &[&str] = &[
    "unix_http_server",
    "inet_http_server",
    "supervisord",
    "supervisorctl",
    "rpcinterface:supervisor",
];
/// The priority of a program that says none.
const PRIORITY: i64 = 999;

pub(crate) fn read(text: &str, found: &mut Import) -> Result<(), Fault> {
    let sections = ini::parse(text, Dialect::Supervisor)?;
    let common = sections
        .iter()
        .find(|section| section.name == "supervisord");
    let common = common.and_then(|section| section.get("environment"));
    let common = common.unwrap_or_default();
    let mut ranks: Vec<(i64, String, bool)> = Vec::new();
    for section in &sections {
        if let Some(name) = section.name.strip_prefix("program:") {
            ranks.extend(program(section, name.trim(), common, found)?);
        } else if !ITS_OWN.contains(&section.name.as_str()) {
            let text = format!("[{}] is not kept", section.name);
            found.note(section.line, "", text);
        }
    }
    order(&ranks, found);
    Ok(())
}

/// Programs start by priority: each after those of the next lower one.
fn order(ranks: &[(i64, String, bool)], found: &mut Import) {
    for draft in &mut found.modules {
        let own = ranks.iter().find(|(_, name, _)| *name == draft.name);
        let Some((own, _, true)) = own else { continue };
        let lower = ranks.iter().filter(|(rank, _, auto)| rank < own && *auto);
        let Some(next) = lower.clone().map(|(rank, ..)| *rank).max() else {
            continue;
        };
        for (_, name, _) in lower.filter(|(rank, ..)| *rank == next) {
            draft.depend(false, name, "started");
        }
    }
}

fn program(
    section: &Section,
    name: &str,
    common: &str,
    found: &mut Import,
) -> Result<Vec<(i64, String, bool)>, Fault> {
    let number = |key: &str, default: i64| -> i64 {
        let text = section.get(key).and_then(|text| text.trim().parse().ok());
        text.unwrap_or(default)
    };
    let (count, first) = (
        number("numprocs", 1).clamp(1, 256),
        number("numprocs_start", 0),
    );
    let auto = section.get("autostart").is_none_or(is_true);
    let mut ranks = Vec::new();
    for process in first..first + count {
        let pattern = match section.get("process_name") {
            Some(pattern) => pattern.to_owned(),
            None if count > 1 => format!("{name}-{process}"),
            None => name.to_owned(),
        };
        let mut values = Values {
            program: name,
            process,
            here: found.folder().display().to_string(),
            env: Vec::new(),
        };
        let mut draft = found.independent(&values.expand(&pattern, section.line)?, section.line);
        for text in [common, section.get("environment").unwrap_or_default()] {
            for (name, value) in pairs(text) {
                let value = values.expand(&value, section.line)?;
                draft.set_env(&name, &value);
                values.env.push((name, value));
            }
        }
        defaults(section, auto, &mut draft);
        for key in &section.keys {
            let key = IniKey {
                value: values.expand(&key.value, key.line)?,
                ..key.clone()
            };
            one(&key, &mut draft, found)?;
        }
        if !draft.has("command") {
            return Err(Fault::new(section.line, format!("{name} has no command")));
        }
        ranks.push((number("priority", PRIORITY), draft.name.clone(), auto));
        found.add(draft)?;
    }
    Ok(ranks)
}

/// What supervisord does where nothing is written.
fn defaults(section: &Section, auto: bool, draft: &mut Draft) {
    if !auto {
        draft.set("start", "lazy");
    }
    draft.set("recovery.restart", "on_failure");
    if section.get("startsecs").is_none() {
        let mut ready = toml::Table::new();
        ready.insert("settle".to_owned(), "1s".into());
        draft.set("ready", ready);
    }
}

fn one(key: &IniKey, draft: &mut Draft, found: &mut Import) -> Result<(), Fault> {
    let value = key.value.trim();
    let number = value.parse::<i64>().ok();
    match (key.name.as_str(), number) {
        ("command", _) => {
            let split = words(&value.replace('\n', " "));
            let split =
                split.ok_or_else(|| Fault::new(key.line, "the command has an open quote"))?;
            draft.set_words("command", &split);
        }
        ("directory", _) => draft.directory = Some(value.to_owned()),
        ("user", _) => draft.set("user", value),
        ("startsecs", Some(0)) => draft.set("ready", "started"),
        ("startsecs", Some(seconds)) => {
            let mut ready = toml::Table::new();
            ready.insert("settle".to_owned(), format!("{seconds}s").into());
            draft.set("ready", ready);
            if seconds >= 30 {
                draft.set("startup_timeout", format!("{}s", seconds + 10));
            }
        }
        ("startretries", Some(tries)) => draft.set("recovery.max_attempts", tries),
        ("autorestart", _) => {
            let restart = match value.to_ascii_lowercase().as_str() {
                "unexpected" => "on_failure",
                text if is_true(text) => "always",
                _ => "never",
            };
            draft.set("recovery.restart", restart);
        }
        ("exitcodes", _) => {
            let codes = value
                .split(',')
                .filter_map(|code| code.trim().parse::<i64>().ok());
            let codes: Vec<toml::Value> = codes.map(Into::into).collect();
            draft.set("recovery.clean_exit_codes", codes);
        }
        ("stopsignal", _) => {
            let name = value.to_ascii_uppercase();
            draft.set(
                "stop_signal",
                format!("SIG{}", name.trim_start_matches("SIG")),
            );
        }
        ("stopwaitsecs", Some(seconds)) => {
            draft.set_span(
                "shutdown_timeout",
                Duration::from_secs(seconds.max(1).unsigned_abs()),
            );
        }
        ("stopasgroup", _) if is_true(value) => {
            let text = "stopasgroup: the rest of the tree gets the signal when the main process \
                        has exited";
            found.note(key.line, &draft.name, text);
        }
        ("redirect_stderr", _) if !is_true(value) => {
            let text = "stderr and stdout are kept in one file";
            found.note(key.line, &draft.name, text);
        }
        (name, _) if ["stdout_", "stderr_"].iter().any(|of| name.starts_with(of)) => {
            output_files(key.line, draft, found);
        }
        (
            "environment" | "autostart" | "priority" | "numprocs" | "numprocs_start"
            | "killasgroup" | "process_name" | "stopasgroup" | "redirect_stderr",
            _,
        ) => {}
        (name, _) => found.note(key.line, &draft.name, format!("{name} is not kept")),
    }
    Ok(())
}

fn is_true(text: &str) -> bool {
    ["true", "on", "yes", "1"].contains(&text.trim().to_ascii_lowercase().as_str())
}

/// The pairs of `A="b",C=d`.
fn pairs(text: &str) -> Vec<(String, String)> {
    let (mut found, mut rest) = (Vec::new(), text.trim());
    while let Some((name, after)) = rest.split_once('=') {
        let after = after.trim_start();
        let quote = after.chars().next().filter(|one| ['"', '\''].contains(one));
        let (value, next) = match quote {
            Some(quote) => after[1..].split_once(quote).unwrap_or((&after[1..], "")),
            None => {
                let end = after.find([',', '\n']).unwrap_or(after.len());
                after.split_at(end)
            }
        };
        let name = name.trim_matches([',', ' ', '\n', '\t']);
        found.push((name.to_owned(), value.trim_end().to_owned()));
        rest = next;
    }
    found
}

/// What `%(…)s` stands for.
struct Values<'s> {
    program: &'s str,
    process: i64,
    here: String,
    env: Vec<(String, String)>,
}

impl Values<'_> {
    fn expand(&self, text: &str, line: usize) -> Result<String, Fault> {
        let (mut filled, mut rest) = (String::new(), text);
        while let Some(at) = rest.find('%') {
            filled.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                filled.push('%');
                rest = after;
                continue;
            }
            let inside = rest.strip_prefix('(').and_then(|rest| rest.split_once(')'));
            let Some((name, after)) = inside else {
                return Err(Fault::new(
                    line,
                    "`%` begins no expression; `%%` is a plain `%`",
                ));
            };
            let end = after
                .find(|one: char| one.is_alphabetic())
                .unwrap_or(after.len());
            let (width, after) = after.split_at(end);
            let value = self
                .value(name)
                .ok_or_else(|| Fault::new(line, format!("%({name})s has no value here")))?;
            let zero = width.starts_with('0');
            let width: usize = width.parse().unwrap_or_default();
            match zero {
                true => filled.push_str(&format!("{value:0>width$}")),
                false => filled.push_str(&format!("{value:>width$}")),
            }
            rest = after.get(1..).unwrap_or_default();
        }
        filled.push_str(rest);
        Ok(filled)
    }

    fn value(&self, name: &str) -> Option<String> {
        if let Some(variable) = name.strip_prefix("ENV_") {
            let own = self.env.iter().rev().find(|(name, _)| name == variable);
            let own = own.map(|(_, value)| value.clone());
            return own.or_else(|| std::env::var(variable).ok());
        }
        Some(match name {
            "program_name" | "group_name" => self.program.to_owned(),
            "process_num" => self.process.to_string(),
            "here" => self.here.clone(),
            _ => return None,
        })
    }
}

/// Says once for a program that its files of output are not kept: it has four such keys and more.
fn output_files(line: usize, draft: &Draft, found: &mut Import) {
    const TEXT: &str = "its files of output are not kept: `mainstay logs` has it, by [logs]";
    let is_other = |note: &super::draft::Note| {
        note.text != TEXT || note.module.as_deref() != Some(&*draft.name)
    };
    if found.notes.iter().all(is_other) {
        found.note(line, &draft.name, TEXT);
    }
}
