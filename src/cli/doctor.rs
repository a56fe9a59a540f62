//! `doctor`: which mechanism enforces which limit here, what is missing, and how to get it.
//! Owns the output. A running system answers for itself; else this process answers for one that is
//! started from here. Never changes anything.

use std::fmt::Write;
use std::path::PathBuf;

use mainstay_protocol::doctor::DoctorReport;
use mainstay_protocol::enums::CliExitCode;
use mainstay_protocol::method::Empty;
use mainstay_protocol::methods::name;

use super::args::{DoctorArgs, GlobalArgs};
use super::error::CliError;
use super::system_locator::SystemLocator;
use super::{format, terminal};
use crate::config::{self, ConfigSources};
use crate::os::{Enforcement, machine_report};

pub(crate) fn run(args: &DoctorArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let running = SystemLocator::find(global).ok();
    let running = running.and_then(|system| system.connect().ok());
    let (report, head) = match running {
        Some(mut client) => {
            let report: DoctorReport = client.call(name::DOCTOR, Empty {})?;
            (report, "limits of the running system:")
        }
        None => (
            of_this_process(global),
            "limits of a system that is started from here:",
        ),
    };
    if args.json {
        terminal::print_json(&report)?;
    } else {
        terminal::print_text(&render(&report, head))?;
    }
    Ok(CliExitCode::Ok)
}

fn of_this_process(global: &GlobalArgs) -> DoctorReport {
    let no_groups = std::env::var("MAINSTAY_CGROUP").is_ok_and(|word| word == "off");
    let enforcement = Enforcement::detect(if no_groups { "walk" } else { "cgroup2" }, true);
    let sources = ConfigSources::find(global.config.as_deref(), &[]);
    let configuration = sources.and_then(|sources| config::load(&sources)).ok();
    let state_dir = configuration.map(|configuration| configuration.system.state_dir);
    machine_report::report(
        &enforcement,
        &state_dir.unwrap_or_else(|| PathBuf::from("/")),
    )
}

fn render(report: &DoctorReport, head: &str) -> String {
    let mut out = format!("{head}\n");
    for limit in &report.limits {
        let by = limit.mechanism.as_deref().unwrap_or("not enforced");
        let _ = writeln!(out, "  {:<14} {by:<13} {}", limit.limit, limit.effect);
        if let Some(missing) = &limit.missing {
            let _ = writeln!(out, "  {:<14} {}", "", format::single_line(missing));
        }
    }
    let mut remedies: Vec<&str> = Vec::new();
    for remedy in report
        .limits
        .iter()
        .filter_map(|limit| limit.remedy.as_deref())
    {
        if !remedies.contains(&remedy) {
            remedies.push(remedy);
        }
    }
    for remedy in remedies {
        let _ = writeln!(out, "  to enforce more: {remedy}");
    }
    out.push_str("this machine:\n");
    for check in &report.checks {
        let mark = if check.ok { "ok" } else { "!!" };
        let text = format::single_line(&check.text);
        let _ = write!(out, "  {mark} {:<27} {text}", check.name);
        match &check.remedy {
            Some(remedy) => drop(writeln!(out, "; {remedy}")),
            None => out.push('\n'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_protocol::doctor::{LimitSupport, MachineCheck};

    #[test]
    fn what_is_missing_stands_below_its_limit_and_its_remedy_once() {
        let limit = |limit: &str, mechanism: Option<&str>| LimitSupport {
            limit: limit.to_owned(),
            mechanism: mechanism.map(str::to_owned),
            effect: "reported".to_owned(),
            missing: Some("no controller".to_owned()),
            remedy: Some("use `Delegate=yes`".to_owned()),
        };
        let report = DoctorReport {
            limits: vec![
                limit("cpu_percent", Some("governor")),
                limit("memory_mb", None),
            ],
            checks: vec![MachineCheck {
                name: "disk".to_owned(),
                ok: false,
                text: "1 MiB free".to_owned(),
                remedy: Some("free some space".to_owned()),
            }],
        };
        let text = render(&report, "limits:");
        let right = "limits:\n  cpu_percent    governor      reported\n                 no controller\n  \
                     memory_mb      not enforced  reported\n                 no controller\n  \
                     to enforce more: use `Delegate=yes`\nthis machine:\n  \
                     !! disk                        1 MiB free; free some space\n";
        assert_eq!(text, right);
    }
}
