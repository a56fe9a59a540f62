//! `metrics`: prints the metrics of a running system, or replaces a file with them.
//! Owns the replacement: a reader of the file sees the old metrics or the new ones, whole.
//! Never measures anything.

use std::io::Write;
use std::path::Path;

use mainstay_protocol::doctor::MetricsText;
use mainstay_protocol::enums::CliExitCode;
use mainstay_protocol::method::Empty;
use mainstay_protocol::methods::name;

use super::args::{GlobalArgs, MetricsArgs};
use super::error::CliError;
use super::system_locator::SystemLocator;
use super::terminal;

pub(crate) fn run(args: &MetricsArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let mut client = SystemLocator::find(global)?.connect()?;
    let metrics: MetricsText = client.call(name::METRICS, Empty {})?;
    match &args.output {
        Some(path) => replace(path, &metrics.text).map_err(|error| {
            let text = format!("cannot write {}: {error}", path.display());
            CliError::new(CliExitCode::Failed, text)
        })?,
        None => terminal::print(&metrics.text)?,
    }
    Ok(CliExitCode::Ok)
}

fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    // Collectors read files that end in `.prom` alone.
    name.push(format!(".{}.tmp", std::process::id()));
    let new = path.with_file_name(name);
    let _of_an_earlier_process = std::fs::remove_file(&new);
    // Another user may write in that folder: a link is not followed.
    let mut file = std::fs::File::create_new(&new)?;
    let written = file.write_all(text.as_bytes());
    let replaced = written.and_then(|()| std::fs::rename(&new, path));
    replaced.inspect_err(|_| {
        let _left_behind = std::fs::remove_file(&new);
    })
}
