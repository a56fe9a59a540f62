//! Keys of `top`, and the terminal they come from.
//! Owns what each key does.
//! Never runs anything: it returns the command.

use std::io;
use std::time::Duration;

use mainstay_protocol::ModuleState;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::model::{Mode, Model};

/// Rows of a page.
const PAGE: isize = 15;

/// What is to be done outside of the model.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    None,
    Quit,
    /// Run this command of mainstay, and show what it prints.
    Run(Vec<String>),
    ClosePane,
}

/// The terminal as a source of keys. It is asked first whether it is still there: the library that
/// reads keys never returns from one that hung up.
pub(super) struct TerminalInput {
    #[cfg(unix)]
    terminal: std::fs::File,
}

impl TerminalInput {
    #[cfg(unix)]
    pub(super) fn open() -> io::Result<TerminalInput> {
        use std::io::IsTerminal;
        use std::os::fd::AsFd;
        let stdin = io::stdin();
        let terminal = match stdin.is_terminal() {
            true => stdin.as_fd().try_clone_to_owned()?.into(),
            false => std::fs::File::open("/dev/tty")?,
        };
        Ok(TerminalInput { terminal })
    }

    #[cfg(windows)]
    pub(super) fn open() -> io::Result<TerminalInput> {
        Ok(TerminalInput {})
    }

    /// Waits for a key, this long; false: the terminal is gone.
    #[cfg(unix)]
    pub(super) fn wait(&self, timeout: Duration) -> io::Result<bool> {
        use nix::errno::Errno;
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd;
        let mut ready = [PollFd::new(self.terminal.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        match poll(&mut ready, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
        Ok(!ready[0]
            .revents()
            .is_some_and(|found| found.intersects(gone)))
    }

    #[cfg(windows)]
    pub(super) fn wait(&self, timeout: Duration) -> io::Result<bool> {
        ratatui::crossterm::event::poll(timeout).map(|_| true)
    }
}

/// Applies a key to the model.
pub(super) fn on_key(model: &mut Model, key: KeyEvent) -> Action {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    if control && matches!(key.code, KeyCode::Char('c' | 'd')) {
        return Action::Quit;
    }
    match std::mem::replace(&mut model.mode, Mode::Table) {
        Mode::Help => Action::None,
        Mode::Filter => {
            model.mode = Mode::Filter;
            in_filter(model, key.code)
        }
        Mode::Command(text) => in_command(model, text, key.code),
        Mode::Confirm(words) => match key.code {
            KeyCode::Char('y' | 'Y') | KeyCode::Enter => Action::Run(words),
            _ => Action::None,
        },
        Mode::Table if model.pane.is_some() => in_pane(model, key.code),
        Mode::Table => in_table(model, key.code),
    }
}

fn in_filter(model: &mut Model, key: KeyCode) -> Action {
    match key {
        KeyCode::Esc => {
            model.filter.clear();
            model.mode = Mode::Table;
        }
        KeyCode::Enter => model.mode = Mode::Table,
        KeyCode::Backspace => drop(model.filter.pop()),
        KeyCode::Char(typed) => model.filter.push(typed),
        _ => {}
    }
    Action::None
}

fn in_command(model: &mut Model, mut text: String, key: KeyCode) -> Action {
    match key {
        KeyCode::Esc => return Action::None,
        KeyCode::Enter => {
            let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            return match words.is_empty() {
                true => Action::None,
                false => Action::Run(words),
            };
        }
        // The last character gone: the command line is closed.
        KeyCode::Backspace if text.pop().is_none() => return Action::None,
        KeyCode::Char(typed) => text.push(typed),
        _ => {}
    }
    model.mode = Mode::Command(text);
    Action::None
}

fn in_pane(model: &mut Model, key: KeyCode) -> Action {
    let Some(pane) = &mut model.pane else {
        return Action::None;
    };
    match key {
        KeyCode::Up | KeyCode::Char('k') => pane.scroll(1),
        KeyCode::Down | KeyCode::Char('j') => pane.scroll(-1),
        KeyCode::PageUp => pane.scroll(PAGE),
        KeyCode::PageDown | KeyCode::Char(' ') => pane.scroll(-PAGE),
        KeyCode::Home => pane.scroll(isize::MAX),
        KeyCode::End | KeyCode::Char('G') => pane.jump_to_now(),
        KeyCode::Char('?') => model.mode = Mode::Help,
        KeyCode::Esc | KeyCode::Char('q') | KeyCode::Enter => {
            model.pane = None;
            return Action::ClosePane;
        }
        _ => {}
    }
    Action::None
}

fn in_table(model: &mut Model, key: KeyCode) -> Action {
    let selected = model.selected();
    let is_up = selected.is_some_and(|module| {
        !matches!(
            module.state,
            ModuleState::Stopped | ModuleState::NotStarted | ModuleState::Failed
        )
    });
    let name = selected.map(|module| module.module.clone());
    let words = |verb: &[&str]| {
        let verb = verb.iter().map(|word| (*word).to_owned());
        name.clone().map(|name| verb.chain([name]).collect())
    };
    let run = |words: Option<Vec<String>>| words.map_or(Action::None, Action::Run);
    match key {
        KeyCode::Char('q') | KeyCode::Esc if model.filter.is_empty() => return Action::Quit,
        KeyCode::Esc => model.filter.clear(),
        KeyCode::Up | KeyCode::Char('k') => model.select(-1),
        KeyCode::Down | KeyCode::Char('j') => model.select(1),
        KeyCode::PageUp => model.select(-PAGE),
        KeyCode::PageDown => model.select(PAGE),
        KeyCode::Home => model.select(isize::MIN),
        KeyCode::End | KeyCode::Char('G') => model.select(isize::MAX),
        KeyCode::Char('/') => model.mode = Mode::Filter,
        KeyCode::Char(':') => model.mode = Mode::Command(String::new()),
        KeyCode::Char('?' | 'h') => model.mode = Mode::Help,
        KeyCode::Char('o') => model.order = model.order.next(),
        KeyCode::Char('l') => return run(words(&["logs", "-f"])),
        KeyCode::Char('w') => return run(words(&["why"])),
        KeyCode::Enter => return run(words(&["status"])),
        KeyCode::Char('e') => return run(words(&["events", "-n", "200", "--module"])),
        KeyCode::Char('g') => return Action::Run(vec!["graph".to_owned()]),
        KeyCode::Char('r') => confirm(model, words(&["restart"])),
        KeyCode::Char('s') if is_up => confirm(model, words(&["stop"])),
        KeyCode::Char('s') => return run(words(&["start"])),
        _ => {}
    }
    Action::None
}

fn confirm(model: &mut Model, words: Option<Vec<String>>) {
    if let Some(words) = words {
        model.mode = Mode::Confirm(words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::draw::tests::model;

    fn press(model: &mut Model, keys: &str) -> Action {
        let mut last = Action::None;
        for key in keys.chars() {
            let code = match key {
                '\n' => KeyCode::Enter,
                '\x1b' => KeyCode::Esc,
                '\x08' => KeyCode::Backspace,
                other => KeyCode::Char(other),
            };
            last = on_key(model, KeyEvent::new(code, KeyModifiers::NONE));
        }
        last
    }

    fn run(words: &[&str]) -> Action {
        Action::Run(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn what_changes_a_module_is_confirmed_and_what_reads_is_not() {
        let mut model = model();
        let name = model.selected().expect("a row").module.clone();
        assert_eq!(press(&mut model, "l"), run(&["logs", "-f", &name]));
        assert_eq!(press(&mut model, "w"), run(&["why", &name]));
        assert_eq!(press(&mut model, "r"), Action::None);
        assert_eq!(press(&mut model, "n"), Action::None);
        assert_eq!(press(&mut model, "ry"), run(&["restart", &name]));
        assert_eq!(press(&mut model, ":up -d\x08d\n"), run(&["up", "-d"]));
        assert_eq!(press(&mut model, ":\x08q"), Action::Quit);
    }

    #[test]
    fn the_filter_narrows_the_rows_and_escape_widens_them() {
        let mut model = model();
        let all = model.rows().len();
        press(&mut model, "/web\n");
        assert_eq!(model.rows().len(), 1);
        assert_eq!(press(&mut model, "\x1b"), Action::None);
        assert_eq!(model.rows().len(), all);
        assert_eq!(press(&mut model, "q"), Action::Quit);
    }

    #[test]
    fn control_c_ends_it_wherever_it_is() {
        let mut model = model();
        press(&mut model, "/a");
        let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(on_key(&mut model, key), Action::Quit);
    }
}
