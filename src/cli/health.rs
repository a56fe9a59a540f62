//! `health`: how the system and its modules are: score, issues, metrics, trends, probes.
//! Owns the output. Exits 1 when the system, or the module that was named, is not well.
//! Never probes: it prints what was reported.

use std::fmt::Write;

use mainstay_protocol::HealthStatus;
use mainstay_protocol::enums::{CliExitCode, SystemStatus};
use mainstay_protocol::health::{HealthParams, HealthReport, SystemHealth, Trend};
use mainstay_protocol::methods::name;

use super::args::{GlobalArgs, HealthArgs};
use super::error::CliError;
use super::status::health_colour;
use super::system_locator::SystemLocator;
use super::terminal::Terminal;
use super::{format, terminal};

/// Modules of one page.
const PAGE: usize = 200;

pub(crate) fn run(args: &HealthArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let mut client = SystemLocator::find(global)?.connect_to_show(&[])?;
    let mut params = HealthParams {
        module: args.module.clone(),
        limit: Some(PAGE),
        after: None,
    };
    let mut health: SystemHealth = client.call(name::HEALTH_REPORT, params.clone())?;
    while args.module.is_none() {
        params.after = health.modules.last().map(|report| report.module.clone());
        let page: SystemHealth = client.call(name::HEALTH_REPORT, params.clone())?;
        if page.modules.is_empty() {
            break;
        }
        health.modules.extend(page.modules);
    }
    if args.json {
        terminal::print_json(&health)?;
    } else {
        let screen = Terminal::of_stdout();
        terminal::print_text(&render(&health, args.module.is_some(), screen))?;
    }
    let is_well = match &args.module {
        Some(_) => health
            .modules
            .iter()
            .all(|it| it.status != HealthStatus::Unhealthy),
        None => health.status == SystemStatus::Healthy,
    };
    Ok(if is_well {
        CliExitCode::Ok
    } else {
        CliExitCode::Failed
    })
}

fn render(health: &SystemHealth, one: bool, screen: Terminal) -> String {
    let mut out = String::new();
    if !one {
        let _ = write!(out, "{}", health.status);
        if let Some(reason) = &health.reason {
            let _ = write!(out, ": {}", format::single_line(reason));
        }
        out.push('\n');
        machine(&mut out, health);
    }
    for report in &health.modules {
        module(&mut out, report, screen);
    }
    out
}

fn machine(out: &mut String, health: &SystemHealth) {
    let (usage, own) = (&health.usage, &health.self_usage);
    if usage.cores == 0 {
        let _ = writeln!(out, "machine    not measured yet");
        return;
    }
    let _ = writeln!(
        out,
        "machine    {} of {} cores, {} of {} memory\nmainstay   {} of a core, {} memory",
        format::percent(usage.cpu_percent),
        usage.cores,
        format::bytes(usage.memory_bytes),
        format::bytes(usage.memory_total_bytes),
        format::percent(own.cpu_percent),
        format::bytes(own.memory_bytes),
    );
}

fn module(out: &mut String, report: &HealthReport, screen: Terminal) {
    let _ = write!(out, "{:<12} ", format::single_line(&report.module));
    screen.paint(out, health_colour(report.status), report.status.as_str());
    let _ = write!(out, ", score {} of 100", report.score);
    if let Some(at) = report.last_check {
        let _ = write!(out, ", checked {}", format::time(at));
    }
    out.push('\n');
    for lost in &report.deductions {
        let _ = writeln!(
            out,
            "  -{:<3} {}",
            lost.points,
            format::single_line(&lost.text)
        );
    }
    for issue in &report.issues {
        let _ = writeln!(out, "  ! {}", format::single_line(issue));
    }
    for probe in &report.probes {
        let what = format::single_line(&probe.probe);
        let _ = write!(out, "  {} probe {what}: {}", probe.role, probe.health);
        if let Some(ms) = probe.response_ms {
            let _ = write!(out, ", {ms} ms");
        }
        if let Some(every) = probe.stretched_ms {
            let every = format::compact_duration(std::time::Duration::from_millis(every));
            let _ = write!(out, ", each {every}: the machine is busy");
        }
        if let Some(why) = &probe.paused {
            let _ = write!(out, ", paused: {}", format::single_line(why));
        }
        out.push('\n');
        let printed = probe.output.as_deref().unwrap_or_default();
        for line in printed.lines().filter(|line| !line.trim().is_empty()) {
            let _ = writeln!(out, "    | {}", format::single_line(line));
        }
    }
    for (name, value) in &report.metrics {
        let _ = writeln!(out, "  {} = {value}", format::single_line(name));
    }
    for trend in &report.trends {
        let _ = writeln!(out, "  {}", trend_text(trend));
    }
}

/// `memory_bytes grows by 1048576 an hour, its limit in 12m`.
pub(super) fn trend_text(trend: &Trend) -> String {
    let name = format::single_line(&trend.metric);
    let mut text = format!("{name} grows by {} an hour", trend.per_hour);
    if let Some(left) = trend.limit_in_s {
        let left = humantime::format_duration(std::time::Duration::from_secs(left));
        let _ = write!(text, ", reaches its limit in {left}");
    }
    text
}
