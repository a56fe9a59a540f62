//! `top`: a live table of the modules, on a terminal of its own.
//! Owns the terminal while it runs, and gives it back however it ends.
//! Never does anything itself: an action is a command of mainstay, which is shown.

mod command;
mod draw;
mod input;
mod model;
mod sampler;

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mainstay_protocol::enums::CliExitCode;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use ratatui::widgets::Paragraph;

use super::args::{GlobalArgs, TopArgs};
use super::error::CliError;
use super::system_locator::SystemLocator;
use super::terminal::{self, Terminal};
use command::CommandRunner;
use input::Action;
use model::Model;
use sampler::{Sampler, Update};

/// How long the terminal is waited for before new samples are looked at.
const TURN: Duration = Duration::from_millis(100);
/// Columns and rows of one picture that is only printed.
const ONCE_WIDTH: u16 = 120;

pub(crate) fn run(args: &TopArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let instance = SystemLocator::find(global)?;
    let mut model = Model::new(Terminal::of_stdout().colour);
    if args.once {
        return once(&instance, model);
    }
    if !std::io::stdout().is_terminal() {
        let text = "cannot show a live table: the output is not a terminal; print one picture with \
                    `mainstay top --once`, or follow changes with `mainstay status --watch`";
        return Err(CliError::new(CliExitCode::Usage, text));
    }
    model.apply(sampler::first(&instance)?);
    let input = input::TerminalInput::open().map_err(CliError::Output)?;
    let ended = ended_by_signal().map_err(CliError::Output)?;
    let sampler = Sampler::start(&instance, args.interval);
    let commands = CommandRunner::new(&instance);
    let mut screen = ratatui::try_init().map_err(CliError::Output)?;
    let result = show(&mut screen, &mut model, &input, &sampler, commands, &ended);
    ratatui::restore();
    result.map_err(CliError::Output)?;
    if let Some(text) = model.farewell {
        terminal::print_error(&text);
    }
    Ok(CliExitCode::Ok)
}

/// Prints one picture, as high as it is.
fn once(instance: &SystemLocator, mut model: Model) -> Result<CliExitCode, CliError> {
    model.apply(sampler::first(instance)?);
    let width = Terminal::of_stdout().width;
    let width = width.map_or(ONCE_WIDTH, |width| {
        u16::try_from(width).unwrap_or(ONCE_WIDTH)
    });
    terminal::print(&draw::as_text(&model, width))?;
    Ok(CliExitCode::Ok)
}

/// A flag that is set when the process is asked to end. A terminal that hangs up ends it at once.
fn ended_by_signal() -> std::io::Result<Arc<AtomicBool>> {
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&ended))?;
    }
    Ok(ended)
}

/// Draws and reads keys until the end is requested, or the terminal is gone.
#[expect(clippy::disallowed_methods, reason = "the clock of a person who looks")]
fn show(
    screen: &mut ratatui::DefaultTerminal,
    model: &mut Model,
    input: &input::TerminalInput,
    sampler: &Sampler,
    mut commands: CommandRunner,
    ended: &AtomicBool,
) -> std::io::Result<()> {
    let mut is_changed = true;
    let mut drawn = Instant::now();
    while !ended.load(Ordering::Relaxed) && model.farewell.is_none() {
        // Ages grow without a sample.
        if is_changed || drawn.elapsed() > Duration::from_secs(1) {
            screen.draw(|frame| {
                let area = frame.area();
                let lines = draw::screen(model, area.width, area.height);
                frame.render_widget(Paragraph::new(lines), area);
            })?;
            drawn = Instant::now();
        }
        if !input.wait(TURN)? {
            return Ok(());
        }
        is_changed = false;
        while event::poll(Duration::ZERO)? {
            is_changed = true;
            let Event::Key(key) = event::read()? else {
                continue;
            };
            if key.kind == KeyEventKind::Release {
                continue;
            }
            match input::on_key(model, key) {
                Action::None => {}
                Action::Quit => return Ok(()),
                Action::Run(words) => model.open_pane(commands.start(&words)),
                Action::ClosePane => commands.stop(),
            }
        }
        while let Some(update) = sampler.next() {
            is_changed = true;
            match update {
                Update::Seen(sample) => model.apply(*sample),
                Update::Lost(text) => model.lost = Some(text),
                Update::Stopped(text) => model.farewell = Some(text),
            }
        }
        is_changed |= commands.read(model.pane.as_mut());
    }
    Ok(())
}
