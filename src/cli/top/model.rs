//! What `top` shows: samples, what is selected, and the open pane.
//! Owns the order of the rows, histories of processor use, and scrolling.
//! Never draws and never reads a key.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};

use mainstay_protocol::enums::ModuleKind;
use mainstay_protocol::{ModuleState, ModuleView, SystemView, Timestamp};

use super::sampler::Sample;
use crate::cli::{format, headline, status_rows, terminal_text};

/// Samples of processor use that are kept of a module.
pub(super) const HISTORY: usize = 30;
/// Lines of a pane that are kept.
const PANE_LINES_MAX: usize = 10_000;

/// The order of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// What needs somebody first, then by name.
    Trouble,
    Cpu,
    Memory,
    Name,
}

impl Order {
    pub(super) fn next(self) -> Order {
        match self {
            Order::Trouble => Order::Cpu,
            Order::Cpu => Order::Memory,
            Order::Memory => Order::Name,
            Order::Name => Order::Trouble,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Order::Trouble => "trouble",
            Order::Cpu => "cpu",
            Order::Memory => "memory",
            Order::Name => "name",
        }
    }
}

/// What keys mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    Table,
    /// The filter is typed.
    Filter,
    /// A command is typed, without `mainstay` before it.
    Command(String),
    /// This command is run after a yes.
    Confirm(Vec<String>),
    Help,
}

/// What a command printed.
pub(super) struct Pane {
    pub(super) title: String,
    pub(super) lines: VecDeque<String>,
    /// Lines that are left out below: zero shows the newest.
    pub(super) scrolled_back: usize,
    /// Of those, how many came since it was scrolled.
    pub(super) newer: usize,
    /// The exit code of the command.
    pub(super) ended: Option<i32>,
    /// The first lines are shown until it is scrolled: an answer begins with what matters.
    pub(super) from_start: bool,
    /// Lines that were shown last.
    room: Cell<usize>,
}

impl Pane {
    pub(super) fn new(title: String) -> Pane {
        Pane {
            title,
            lines: VecDeque::new(),
            scrolled_back: 0,
            newer: 0,
            ended: None,
            from_start: false,
            room: Cell::new(0),
        }
    }

    /// Returns how many lines are left out below where `height` lines are free; one of them is to
    /// say so.
    pub(super) fn below(&self, height: usize) -> usize {
        let room = height.saturating_sub(1);
        self.room.set(room);
        match self.from_start {
            true if self.lines.len() > height => self.lines.len() - room,
            true => 0,
            false => self.scrolled_back,
        }
    }

    /// Appends a line; what was scrolled to stays in view.
    pub(super) fn push(&mut self, line: &str) {
        let line = line.replace('\t', "    ");
        self.lines
            .push_back(plain(&terminal_text::for_terminal(&line)));
        if self.scrolled_back > 0 {
            self.scrolled_back += 1;
            self.newer += 1;
        }
        if self.lines.len() > PANE_LINES_MAX {
            self.lines.pop_front();
            self.scrolled_back = self.scrolled_back.min(self.lines.len());
        }
    }

    /// Scrolls up, or down if negative.
    pub(super) fn scroll(&mut self, lines: isize) {
        if std::mem::take(&mut self.from_start) {
            self.scrolled_back = self.lines.len().saturating_sub(self.room.get());
        }
        let top = self.lines.len().saturating_sub(1);
        self.scrolled_back = self.scrolled_back.saturating_add_signed(lines).min(top);
        self.newer = self.newer.min(self.scrolled_back);
    }

    /// Shows the newest line again.
    pub(super) fn jump_to_now(&mut self) {
        (self.scrolled_back, self.newer, self.from_start) = (0, 0, false);
    }
}

/// Text without colours: cells have styles of their own.
fn plain(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find('\x1b') {
        out.push_str(&rest[..at]);
        let after = &rest[at..];
        rest = after.find('m').map_or("", |end| &after[end + 1..]);
    }
    out + rest
}

/// Everything that is shown.
pub(super) struct Model {
    pub(super) colour: bool,
    pub(super) system: Option<SystemView>,
    modules: Vec<ModuleView>,
    pub(super) failures: HashMap<String, usize>,
    pub(super) cpu: HashMap<String, VecDeque<f64>>,
    pub(super) now: Timestamp,
    pub(super) order: Order,
    pub(super) filter: String,
    pub(super) mode: Mode,
    pub(super) pane: Option<Pane>,
    /// The name of the selected module, which stays selected where its row moves.
    selected: Option<String>,
    /// Why the last sample is old.
    pub(super) lost: Option<String>,
    /// What is said at the end.
    pub(super) farewell: Option<String>,
}

impl Model {
    pub(super) fn new(colour: bool) -> Model {
        Model {
            colour,
            system: None,
            modules: Vec::new(),
            failures: HashMap::new(),
            cpu: HashMap::new(),
            now: Timestamp(0),
            order: Order::Trouble,
            filter: String::new(),
            mode: Mode::Table,
            pane: None,
            selected: None,
            lost: None,
            farewell: None,
        }
    }

    pub(super) fn apply(&mut self, sample: Sample) {
        self.cpu
            .retain(|name, _| sample.modules.iter().any(|module| module.module == *name));
        for module in &sample.modules {
            let cpu = module.usage.filter(|_| module.pid.is_some());
            let history = self.cpu.entry(module.module.clone()).or_default();
            history.push_back(cpu.map_or(0.0, |usage| usage.cpu_percent));
            if history.len() > HISTORY {
                history.pop_front();
            }
        }
        self.system = Some(sample.system);
        self.modules = sample.modules;
        self.failures = sample.failures;
        self.now = sample.at;
        self.lost = None;
    }

    /// The rows, filtered and in order.
    pub(super) fn rows(&self) -> Vec<&ModuleView> {
        let filter = self.filter.to_lowercase();
        let is_shown = |module: &&ModuleView| {
            let is_builtin = module.kind == ModuleKind::Builtin;
            (!is_builtin || module.state != ModuleState::Running)
                && (filter.is_empty()
                    || module.module.contains(&filter)
                    || module.state.as_str().contains(&filter))
        };
        let mut rows: Vec<&ModuleView> = self.modules.iter().filter(is_shown).collect();
        rows.sort_by(|a, b| a.module.cmp(&b.module));
        let cpu = |module: &ModuleView| module.usage.map_or(0.0, |usage| usage.cpu_percent);
        let memory = |module: &ModuleView| module.usage.map_or(0, |usage| usage.memory_bytes);
        match self.order {
            Order::Trouble => rows.sort_by_key(|module| status_rows::rank(module)),
            Order::Cpu => rows.sort_by(|a, b| cpu(b).total_cmp(&cpu(a))),
            Order::Memory => rows.sort_by_key(|module| std::cmp::Reverse(memory(module))),
            Order::Name => {}
        }
        rows
    }

    /// The place of the selected row; the first if nothing is selected any more.
    pub(super) fn selected_row(&self, rows: &[&ModuleView]) -> usize {
        let selected = self.selected.as_deref();
        let place = rows.iter().position(|row| Some(&*row.module) == selected);
        place.unwrap_or(0)
    }

    /// The selected module.
    pub(super) fn selected(&self) -> Option<&ModuleView> {
        let rows = self.rows();
        rows.get(self.selected_row(&rows)).copied()
    }

    /// Selects another row, as far down as this.
    pub(super) fn select(&mut self, down: isize) {
        let rows = self.rows();
        let at = self.selected_row(&rows).saturating_add_signed(down);
        let at = at.min(rows.len().saturating_sub(1));
        self.selected = rows.get(at).map(|row| row.module.clone());
    }

    pub(super) fn open_pane(&mut self, pane: Pane) {
        self.pane = Some(pane);
        self.mode = Mode::Table;
    }

    /// The first line: name and status of the system, and how many modules are where.
    pub(super) fn title(&self) -> Option<(String, String, String)> {
        let system = self.system.as_ref()?;
        let name = format::single_line(&system.name).into_owned();
        let (word, counts) = headline::answer(system, &self.modules);
        Some((name, word, headline::counts_text(&counts)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pane_that_is_scrolled_stays_where_it_is_and_counts_what_is_newer() {
        let mut pane = Pane::new("logs".to_owned());
        for n in 0..20 {
            pane.push(&format!("line {n}"));
        }
        pane.scroll(5);
        pane.push("\x1b[31mred\x1b[0m\tend");
        assert_eq!((pane.scrolled_back, pane.newer), (6, 1));
        assert_eq!(pane.lines.back().map(String::as_str), Some("red    end"));
        pane.scroll(-100);
        assert_eq!((pane.scrolled_back, pane.newer), (0, 0));
        pane.scroll(1000);
        assert_eq!(pane.scrolled_back, 20);
        pane.jump_to_now();
        for n in 0..PANE_LINES_MAX {
            pane.push(&n.to_string());
        }
        assert_eq!(pane.lines.len(), PANE_LINES_MAX);
    }

    #[test]
    fn an_answer_is_shown_from_its_first_line_on() {
        let mut pane = Pane::new("why web".to_owned());
        pane.from_start = true;
        for n in 0..20 {
            pane.push(&n.to_string());
        }
        assert_eq!((pane.below(20), pane.below(10)), (0, 11));
        pane.scroll(-2);
        assert_eq!(pane.below(10), 9);
        pane.jump_to_now();
        assert_eq!(pane.below(10), 0);
    }
}
