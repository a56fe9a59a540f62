//! A Procfile: one `name: command` a line.
//! Owns what foreman adds to it: `.env`, PORT, the shell.
//! Never scales: each line is one module.

use super::Fault;
use super::command_line::of_shell;
use super::draft::Import;

/// The first port that foreman gives, and the step to the next process.
const PORT: usize = 5000;
const PORT_STEP: usize = 100;

pub(crate) fn read(text: &str, found: &mut Import) -> Result<(), Fault> {
    let has_env = found.folder().join(".env").exists();
    let mut number = 0;
    for (at, line) in text.lines().enumerate() {
        let (at, line) = (at + 1, line.trim());
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, command)) = line.split_once(':') else {
            return Err(Fault::new(at, format!("{line:?} is not `name: command`")));
        };
        let (name, command) = (name.trim(), command.trim());
        if name.is_empty() || command.is_empty() {
            return Err(Fault::new(at, "a name or a command is missing"));
        }
        let mut draft = found.draft(name, at);
        draft.set_words("command", &of_shell(command));
        if has_env {
            draft.set("env_file", ".env");
        }
        draft.set_env("PORT", &(PORT + PORT_STEP * number).to_string());
        if name == "release" {
            let text = "it runs once before a deployment there; here it is a task that others do \
                        not wait for";
            draft.set("kind", "task");
            found.note(at, &draft.name, text);
        }
        number += 1;
        found.add(draft)?;
    }
    if number > 1 {
        let text = "foreman ends all processes when one ends; here the one is restarted";
        found.note(1, "", text);
    }
    Ok(())
}
