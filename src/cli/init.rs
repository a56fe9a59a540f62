//! `init`: writes a commented configuration with one example module, or an example application.
//! Owns the text of the first; those of applications are files of their own.
//! Never overwrites a file.

mod examples;

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use mainstay_protocol::enums::CliExitCode;

use super::args::{GlobalArgs, InitArgs};
use super::error::CliError;
use super::terminal;

pub(crate) fn run(args: &InitArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let folder = global
        .config
        .clone()
        .unwrap_or_else(|| PathBuf::from("config"));
    let here = std::env::current_dir().unwrap_or_default();
    let folder_name = here
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let name = args
        .instance
        .as_ref()
        .or(global.name.as_ref())
        .or(folder_name.as_ref());
    let name = usable(name.map_or("", String::as_str));
    let text = match &args.example {
        Some(example) => examples::text(example, &name)?,
        None => text(&name),
    };
    let path = write(&folder, &text)?;
    terminal::print_text(&format!(
        "wrote {}; `mainstay up` runs it, `mainstay status` shows it\n",
        path.display()
    ))?;
    Ok(CliExitCode::Ok)
}

fn write(folder: &Path, text: &str) -> Result<PathBuf, CliError> {
    let path = folder.join("mainstay.toml");
    let failed = |error: std::io::Error| {
        let why = match error.kind() {
            ErrorKind::AlreadyExists => {
                "it is there already; edit it, or name another folder with --config".to_owned()
            }
            _ => error.to_string(),
        };
        CliError::new(
            CliExitCode::Failed,
            format!("cannot write {}: {why}", path.display()),
        )
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut file = std::fs::File::create_new(&path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    Ok(path)
}

/// Converts a folder name to a system name: lower-case letters, digits, dashes.
fn usable(name: &str) -> String {
    let dashed: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    let words: Vec<&str> = dashed.split('-').filter(|word| !word.is_empty()).collect();
    let joined: String = words.join("-").chars().take(40).collect();
    match joined.trim_end_matches('-') {
        "" => "mainstay".to_owned(),
        name => name.to_owned(),
    }
}

/// Returns a command that prints the time every five seconds, available on every platform.
const COMMAND: &str = if cfg!(windows) {
    r#"["powershell", "-NoProfile", "-Command", "while ($true) { Get-Date; Start-Sleep 5 }"]"#
} else {
    r#"["/bin/sh", "-c", "while :; do date; sleep 5; done"]"#
};

fn text(name: &str) -> String {
    let named = format!("name = \"{name}\" ");
    format!(
        r#"# What runs here, and how it is kept running. `mainstay check` reads this file without
# running it; what is changed holds from the next `mainstay up` on.

[mainstay]
{named:<32}# names the control socket and the state folder
# shutdown_timeout = "30s"        # everything together; shared out in reverse order

# Defaults of every module.
# [health]
# interval = "30s"
# [recovery]
# max_attempts = 3                # quick restarts before it is given up for a while
# window = "5m"

# One table for each program. This one says the time every five seconds:
# `mainstay logs clock` shows it, `mainstay why clock` explains what happened to it.
[module.clock]
description = "Says the time"
command = {COMMAND}
# env = {{ RUST_LOG = "info" }}
# requires = ["event-bus"]        # waits until that module is ready
# ready = {{ tcp = "127.0.0.1:9000" }}   # or notify = true, settle = "1s", exec = ["cmd"], ...
# required = false                # without it the system is degraded, never critical
# [module.clock.limits]
# file_handles = 1024
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_valid_and_its_command_exists() {
        let file: toml::Table = text("app").parse().expect("valid");
        assert_eq!(file["mainstay"]["name"].as_str(), Some("app"));
        let command = file["module"]["clock"]["command"]
            .as_array()
            .expect("a list");
        assert!(cfg!(windows) || Path::new(command[0].as_str().expect("text")).exists());
    }

    #[test]
    fn its_comments_are_valid_once_they_are_uncommented() {
        let examples: String = text("app")
            .lines()
            .map(|line| {
                line.strip_prefix("# ")
                    .filter(|rest| is_example(rest))
                    .unwrap_or(line)
            })
            .flat_map(|line| [line, "\n"])
            .collect();
        let file: toml::Table = examples.parse().expect("valid");
        assert_eq!(file["recovery"]["window"].as_str(), Some("5m"));
        let limits = &file["module"]["clock"]["limits"];
        assert_eq!(limits["file_handles"].as_integer(), Some(1024));
        // And mainstay takes every key of it.
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("mainstay.toml"), &examples).expect("a file");
        crate::config::load(&crate::config::ConfigSources::folder(folder.path())).expect("good");
    }

    fn is_example(text: &str) -> bool {
        text.starts_with('[')
            || text
                .split_once(" = ")
                .is_some_and(|(key, _)| !key.contains(' '))
    }

    #[test]
    fn nothing_is_overwritten() {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = parent.path().join("deep/config");
        let path = write(&folder, "app").expect("written");
        let before = std::fs::read(&path).expect("there");
        let failure = write(&folder, "other").expect_err("there already");
        assert!(
            failure.to_string().contains("it is there already"),
            "{failure}"
        );
        assert_eq!(std::fs::read(&path).expect("there"), before);
    }

    #[test]
    fn names_are_made_usable() {
        assert_eq!(usable("My App (2)"), "my-app-2");
        assert_eq!(usable("skelly-jelly"), "skelly-jelly");
        assert_eq!(usable("-ü-"), "mainstay");
        assert_eq!(usable(""), "mainstay");
        assert!(usable(&"a-".repeat(50)).len() <= 40);
    }
}
