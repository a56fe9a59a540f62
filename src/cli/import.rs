//! `import`: writes a configuration of another program as a configuration of mainstay.
//! Owns the files that it writes, and the list of what could not be kept.
//! Never overwrites a file without `--force`, and never runs what it imported.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use mainstay_protocol::enums::CliExitCode;

use super::args::{GlobalArgs, ImportArgs};
use super::error::CliError;
use super::{format, terminal};
use crate::config::{self, ConfigSources};
use crate::import::{Import, import, usable_name};

pub(crate) fn run(args: &ImportArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let found = import(&args.files, args.format)
        .map_err(|error| CliError::new(CliExitCode::Failed, error.to_string()))?;
    let folder = output(args, global)?;
    let name = global.name.clone().or_else(|| found.name.clone());
    let project = folder.parent().and_then(Path::file_name);
    let name = name.or_else(|| project.map(|name| name.to_string_lossy().into_owned()));
    let name = name.unwrap_or_default();
    let usable = usable_name(&name);
    let files = found.files(&usable, &folder);
    write(&folder, &files, args.force)?;
    terminal::print_text(&report(&found, (&name, &usable), &folder))?;
    let checked = config::load(&ConfigSources::folder(&folder));
    let Err(problems) = checked else {
        return Ok(CliExitCode::Ok);
    };
    for line in problems.to_string().lines() {
        terminal::print_error(&format::single_line(line));
    }
    let text = format!(
        "cannot use what was imported: its configuration has the problems above; solve them in {} \
         and run `mainstay check`",
        folder.display()
    );
    Err(CliError::new(CliExitCode::Configuration, text))
}

/// The folder that is written, absolute.
fn output(args: &ImportArgs, global: &GlobalArgs) -> Result<PathBuf, CliError> {
    let given = args.output.clone().or_else(|| global.config.clone());
    let folder = given.unwrap_or_else(|| PathBuf::from("config"));
    std::fs::create_dir_all(&folder)
        .and_then(|()| folder.canonicalize())
        .map_err(|error| failed(&folder, &error.to_string()))
}

fn failed(path: &Path, why: &str) -> CliError {
    let text = format!("cannot write {}: {why}", path.display());
    CliError::new(CliExitCode::Failed, text)
}

/// Writes all files or, when one is there already, none.
fn write(folder: &Path, files: &BTreeMap<PathBuf, String>, force: bool) -> Result<(), CliError> {
    let there = files.keys().map(|path| folder.join(path));
    let there = there.filter(|path| path.symlink_metadata().is_ok());
    if let Some(path) = there.into_iter().next().filter(|_| !force) {
        let why = "it is there already; choose another --output, or --force";
        return Err(failed(&path, why));
    }
    for (path, text) in files {
        let path = folder.join(path);
        let written = match path.parent() {
            Some(parent) => std::fs::create_dir_all(parent),
            None => Ok(()),
        };
        written
            .and_then(|()| replace(&path, text))
            .map_err(|error| failed(&path, &error.to_string()))?;
    }
    Ok(())
}

/// Values of environments may be secrets: only this user may read what is written.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    if path.symlink_metadata().is_ok() {
        std::fs::remove_file(path)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text.as_bytes())
}

fn report(found: &Import, (name, usable): (&str, &str), folder: &Path) -> String {
    let mut text = format!("wrote {}/mainstay.toml and ", folder.display());
    let names = found.modules.iter().map(|module| module.name.as_str());
    let names: Vec<&str> = names.collect();
    let plural = if names.len() == 1 { "" } else { "s" };
    let _ = writeln!(text, "{} module{plural}: {}", names.len(), names.join(", "));
    let is_renamed = name != usable;
    if is_renamed || !found.notes.is_empty() {
        text.push_str("\nnot kept, or different here:\n");
    }
    if is_renamed {
        let name = format::single_line(name);
        let _ = writeln!(text, "  the system {name:?} is called {usable} here");
    }
    for note in &found.notes {
        let module = note.module.as_ref();
        let module = module.map(|name| format!("{name}: ")).unwrap_or_default();
        let line = format!("{}:{}: {module}{}", note.file, note.line, note.text);
        let _ = writeln!(text, "  {}", format::single_line(&line));
    }
    let _ = writeln!(
        text,
        "\n`mainstay up --config {}` runs it",
        folder.display()
    );
    text
}
