//! Runs a command of mainstay and passes on what it prints.
//! Owns the process, which ends with its pane.
//! Never keeps more lines than the screen takes: a reader that lags makes the command wait.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::model::Pane;
use crate::cli::system_locator::SystemLocator;

/// Lines that may wait for the screen.
const LINES_QUEUED: usize = 1000;
/// The longest line that is read at once.
const LINE_BYTES_MAX: u64 = 16 * 1024;

/// Runs one command at a time, for the system that is shown.
pub(super) struct CommandRunner {
    socket: String,
    running: Option<(Child, Receiver<String>)>,
}

impl CommandRunner {
    pub(super) fn new(instance: &SystemLocator) -> CommandRunner {
        CommandRunner {
            socket: instance.socket.display().to_string(),
            running: None,
        }
    }

    /// Starts a command, in place of the one that runs; returns the pane for what it prints.
    #[expect(
        clippy::disallowed_methods,
        reason = "a command line of a person, which nothing supervises"
    )]
    pub(super) fn start(&mut self, words: &[String]) -> Pane {
        self.stop();
        let mut pane = Pane::new(format!("mainstay {}", words.join(" ")));
        pane.from_start = words
            .first()
            .is_some_and(|verb| verb != "logs" && verb != "events");
        let program = std::env::current_exe();
        let started = program.and_then(|program| {
            let mut command = Command::new(program);
            command.args(["--socket", &self.socket]).args(words);
            command.stdin(Stdio::null()).stdout(Stdio::piped());
            command.stderr(Stdio::piped()).spawn()
        });
        match started {
            Ok(mut child) => {
                let (sender, lines) = sync_channel(LINES_QUEUED);
                let streams: [Option<Box<dyn Read + Send>>; 2] = [
                    child.stdout.take().map(|out| Box::new(out) as Box<_>),
                    child.stderr.take().map(|err| Box::new(err) as Box<_>),
                ];
                for stream in streams.into_iter().flatten() {
                    let sender = sender.clone();
                    let thread = std::thread::Builder::new().name("command".to_owned());
                    let _no_thread = thread.spawn(move || pass_on(stream, &sender));
                }
                self.running = Some((child, lines));
            }
            Err(error) => pane.push(&format!("cannot run it: {error}")),
        }
        pane
    }

    /// Moves what was printed to the pane; returns whether anything changed.
    pub(super) fn read(&mut self, pane: Option<&mut Pane>) -> bool {
        let (Some((child, lines)), Some(pane)) = (&mut self.running, pane) else {
            return false;
        };
        let mut is_changed = false;
        for line in lines.try_iter().take(LINES_QUEUED) {
            pane.push(&line);
            is_changed = true;
        }
        // Every line of it was read.
        if !is_changed && let Ok(Some(status)) = child.try_wait() {
            for line in lines.try_iter() {
                pane.push(&line);
            }
            pane.ended = Some(status.code().unwrap_or(-1));
            self.running = None;
            is_changed = true;
        }
        is_changed
    }

    /// Ends the command that runs.
    pub(super) fn stop(&mut self) {
        if let Some((mut child, _)) = self.running.take() {
            let _already_over = child.kill();
            let _reaped = child.wait();
        }
    }
}

impl Drop for CommandRunner {
    fn drop(&mut self) {
        self.stop();
    }
}

fn pass_on(stream: Box<dyn Read + Send>, lines: &SyncSender<String>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        match reader
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)
        {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        if lines.send(text.trim_end_matches('\n').to_owned()).is_err() {
            return;
        }
    }
}
