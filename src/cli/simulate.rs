//! `simulate`: many histories of the configuration under faults, in virtual time.
//! Owns the output.
//! Never starts a process and never connects to a running system.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

use mainstay_protocol::enums::CliExitCode;

use super::args::{GlobalArgs, SimulateArgs};
use super::error::CliError;
use super::table::TextTable;
use super::terminal::{self, AnsiColour, Terminal};
use super::{check, format};
use crate::config::{self, ConfigSources};
use crate::simulate::{FaultFile, Figures, Model, ModuleFaults, Percentiles, SimulationOptions};

pub(crate) fn run(args: &SimulateArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let read = ConfigSources::find(global.config.as_deref(), &args.set);
    let configuration = match read.and_then(|sources| config::load(&sources)) {
        Ok(configuration) => configuration,
        Err(problems) => {
            terminal::print_error(&check::failed(&problems));
            return Ok(CliExitCode::Configuration);
        }
    };
    let wrong = |error: crate::simulate::FaultError| {
        CliError::new(CliExitCode::Configuration, error.to_string())
    };
    let faults = match &args.faults {
        Some(path) => FaultFile::read(path).map_err(wrong)?,
        None => FaultFile::default_faults(),
    };
    let model = Model::new(&configuration, &faults).map_err(wrong)?;
    let figures = model.run(SimulationOptions {
        histories: args.seeds,
        seed: args.seed,
        lasts: args.r#for,
    });
    if args.json {
        terminal::print_json(&figures)?;
    } else {
        let is_default = args.faults.is_none();
        let text = render(&figures, is_default, Terminal::of_stdout());
        terminal::print_text(&text)?;
    }
    let converged = f64::from(figures.converged) / f64::from(figures.histories);
    match args.require {
        Some(least) if converged < least => Ok(CliExitCode::Failed),
        _ => Ok(CliExitCode::Ok),
    }
}

fn render(figures: &Figures, is_default: bool, screen: Terminal) -> String {
    let mut out = String::new();
    let lasts = Duration::from_millis(figures.lasts_ms);
    let _ = writeln!(
        out,
        "{} histories of {}, from seed {} on; nothing was started",
        figures.histories,
        format::compact_duration(lasts),
        figures.seed
    );
    faults(&mut out, figures, is_default);
    out.push('\n');
    summary(&mut out, figures);
    out.push('\n');
    modules(&mut out, figures, screen);
    because_of(&mut out, figures);
    out.push_str("\nadvice:\n");
    if figures.advice.is_empty() {
        out.push_str("  none: nothing here is lost that a key of the configuration would keep\n");
    }
    for sentence in &figures.advice {
        let _ = writeln!(out, "  - {sentence}");
    }
    out
}

/// What was simulated: modules with the same faults share a line.
fn faults(out: &mut String, figures: &Figures, is_default: bool) {
    out.push_str(match is_default {
        true => "faults (by default; --faults FILE says others):\n",
        false => "faults:\n",
    });
    let mut lines: Vec<(String, Vec<&str>)> = Vec::new();
    for module in figures.modules.iter().filter(|it| it.is_expected) {
        let text = faults_text(&module.faults);
        match lines.iter_mut().find(|(line, _)| *line == text) {
            Some((_, names)) => names.push(&module.module),
            None => lines.push((text, vec![&module.module])),
        }
    }
    for (text, names) in lines {
        let _ = writeln!(out, "  {}: {text}", names.join(", "));
    }
    let lazy = figures.modules.iter().filter(|it| !it.is_expected);
    let lazy: Vec<&str> = lazy.map(|it| it.module.as_str()).collect();
    if !lazy.is_empty() {
        let _ = writeln!(out, "  {}: not started, nobody needs it", lazy.join(", "));
    }
}

fn faults_text(faults: &ModuleFaults) -> String {
    let mut parts = Vec::new();
    let mut share = |share: f64, what: &str| {
        if share > 0.0 {
            parts.push(format!("{} of {what}", percent(share)));
        }
    };
    share(faults.start_fails, "starts fail");
    share(faults.start_hangs, "starts hang");
    share(faults.probe_fails, "probes fail by chance");
    share(faults.stop_hangs, "stops are ignored");
    let mut every = |span: Option<crate::simulate::Span>, what: &str| {
        if let Some(span) = span {
            parts.push(format!("{what} every {}", format::compact_duration(span.0)));
        }
    };
    every(faults.crashes_every, "crashes");
    every(faults.hangs_every, "hangs");
    let down = faults.down.iter();
    parts.extend(down.map(|range| format!("is down {range}")));
    if parts.is_empty() {
        parts.push("nothing fails".to_owned());
    }
    parts.push(format!("a start takes {}", faults.start_takes));
    parts.join(", ")
}

fn summary(out: &mut String, figures: &Figures) {
    let (all, converged) = (figures.histories, figures.converged);
    let _ = writeln!(
        out,
        "everything came up   in {converged} of {all} histories; {}",
        times(figures.convergence)
    );
    for (reason, histories) in &figures.startup_failures {
        let _ = writeln!(out, "startup failed       in {histories}: {reason}");
    }
    if figures.recoveries > 0 {
        let _ = writeln!(
            out,
            "all up again after   {}; {} times",
            times(figures.recovery),
            figures.recoveries
        );
    }
    let _ = writeln!(
        out,
        "everything was up    {} of the time",
        percent(figures.all_up)
    );
    for (count, what) in [
        (figures.cascades, "cascades stopped a branch"),
        (figures.stopped, "histories ended in a stop of everything"),
        (figures.endless, "histories never rest and were cut off"),
    ] {
        if count > 0 {
            let _ = writeln!(out, "{count} {what}");
        }
    }
    if let Some(seed) = figures.first_not_converged {
        let _ = writeln!(
            out,
            "first that did not   --seeds 1 --seed {seed} runs it alone"
        );
    }
}

fn times(of: Percentiles) -> String {
    format!("p50 {}, p99 {}", time(of.p50_ms), time(of.p99_ms))
}

fn time(ms: Option<u64>) -> String {
    ms.map_or_else(
        || "never".to_owned(),
        |ms| match ms {
            1000..60_000 => format!("{:.1}s", ms as f64 / 1000.0),
            ms => format::compact_duration(Duration::from_millis(ms)),
        },
    )
}

fn modules(out: &mut String, figures: &Figures, screen: Terminal) {
    let shown: Vec<_> = figures.modules.iter().filter(|it| it.is_expected).collect();
    let mut table = TextTable::new(shown.len() + 1, [false, true, true, true, true, true, true]);
    table.head([
        "MODULE",
        "UP",
        "RESTARTS",
        "AT MOST",
        "GIVEN UP",
        "FIRST UP p50",
        "p99",
    ]);
    for module in shown {
        let given_up = f64::from(module.given_up) / f64::from(figures.histories.max(1));
        let bad = (module.given_up > 0).then_some(AnsiColour::Yellow);
        table.row([
            (format::single_line(&module.module), None),
            (Cow::Owned(percent(module.up)), None),
            (Cow::Owned(format!("{:.2}", module.restarts)), None),
            (Cow::Owned(module.restarts_max.to_string()), None),
            (Cow::Owned(percent(given_up)), bad),
            (Cow::Owned(time(module.first_up.p50_ms)), None),
            (Cow::Owned(time(module.first_up.p99_ms)), None),
        ]);
    }
    table.render(out, 0, screen);
}

/// Who is never up, and who takes others along.
fn because_of(out: &mut String, figures: &Figures) {
    if !figures.never_up.is_empty() {
        out.push_str("\nnever up:\n");
    }
    for never in &figures.never_up {
        let why = match never.module == never.because_of {
            true => "it never became ready".to_owned(),
            false => format!("because of {}", never.because_of),
        };
        let _ = writeln!(
            out,
            "  {}, in {} of {} histories: {why}",
            never.module, never.histories, figures.histories
        );
    }
    if let Some(weakest) = &figures.weakest {
        let _ = writeln!(
            out,
            "\nweakest dependency: {}. Of the time in which modules are down because of others, {} \
             is because of it:\n  {} are down {} of a history, on average",
            weakest.module,
            percent(weakest.share),
            weakest.dependents.join(", "),
            time(Some(weakest.costs_ms))
        );
    }
}

/// `99.2 %`; what is not all is not shown as all.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        _ if share <= 0.0 => "0 %".to_owned(),
        _ if share >= 1.0 => "100 %".to_owned(),
        percent if percent > 99.0 => format!("{:.2} %", (percent * 100.0).floor() / 100.0),
        percent if percent < 1.0 => format!("{:.2} %", (percent * 100.0).ceil() / 100.0),
        percent => format!("{percent:.1} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/simulate.md");

    /// The block of the page that begins with this, without that.
    fn block<'p>(page: &'p str, begin: &str) -> &'p str {
        let from = page.find(begin).expect("the block") + begin.len();
        let end = page[from..].find("```").expect("its end");
        &page[from..from + end]
    }

    #[test]
    fn the_example_of_the_page_is_what_is_printed() {
        let page = std::fs::read_to_string(PAGE).expect("the page");
        let folder = tempfile::tempdir().expect("a folder");
        let config = block(&page, "```toml\n# config/mainstay.toml\n");
        std::fs::write(folder.path().join("mainstay.toml"), config).expect("a file");
        let faults = block(&page, "```toml no-config: a fault file\n# faults.toml\n");
        let faults = FaultFile::parse(faults, "faults.toml").expect("good faults");
        let config = config::load(&ConfigSources::folder(folder.path())).expect("good");
        let model = Model::new(&config, &faults).expect("a model");
        let figures = model.run(SimulationOptions {
            histories: 1000,
            seed: 1,
            lasts: Duration::from_hours(1),
        });
        let text = render(&figures, false, Terminal::default());
        let shown = block(&page, "```text\n");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(PAGE, page.replacen(shown, &text, 1)).expect("written");
            return;
        }
        assert_eq!(shown, text, "write it with UPDATE_DOCS=1");
    }

    #[test]
    fn the_default_faults_are_those_of_the_page() {
        let page = std::fs::read_to_string(PAGE).expect("the page");
        let shown = block(
            &page,
            "Without `--faults` it is\n\n```toml no-config: a fault file\n",
        );
        let shown = FaultFile::parse(shown, "the page").expect("good faults");
        assert_eq!(shown.of("x"), FaultFile::default_faults().of("x"));
    }

    #[test]
    fn what_is_not_all_is_not_shown_as_all() {
        let shown = [0.0, 0.00001, 0.3, 0.99999, 1.0].map(percent);
        assert_eq!(shown, ["0 %", "0.01 %", "30.0 %", "99.99 %", "100 %"]);
    }
}
