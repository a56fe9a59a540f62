//! A failure for a person who has not read the code.
//! Owns what is printed and its order: what is broken, by which faults, what happened, why.
//! Never decides what is broken.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use crate::explain;
use crate::shrink::{self, Shrunk};
use crate::sim::SimFailure;

/// A failure for a person: shrunk, if that is possible and no long trace is asked for.
#[must_use]
pub fn report(failure: &SimFailure) -> String {
    let build = build();
    let shrunk = match failure.options.trace {
        0 => shrink::shrink(failure.options),
        _ => None,
    };
    let Some(shrunk) = shrunk else {
        return format!("{failure}\n{build}");
    };
    let Shrunk {
        failure: small,
        before: (faults, choices, modules),
        ..
    } = &shrunk;
    let mut text = format!(
        "{}\nfound at t={} with everything in it; shrunk in {} runs to {} of {faults} faults, {} \
         of {choices} other choices and {} of {modules} modules\n{build}\n\n",
        small.headline(),
        explain::seconds(failure.at),
        shrunk.replays,
        shrunk.faults.len(),
        shrunk.choices.len(),
        shrunk.modules,
    );
    let parts = [
        ("faults that are left", &shrunk.faults),
        (
            "other choices that are left (all others are calm)",
            &shrunk.choices,
        ),
    ];
    for (what, left) in parts.iter().filter(|(_, left)| !left.is_empty()) {
        let _infallible = writeln!(text, "{what}");
        for (place, line) in left.iter() {
            let _infallible = writeln!(text, "  {place:>4}  {line}");
        }
    }
    let kept: Vec<String> = shrunk.kept.iter().map(ToString::to_string).collect();
    let _infallible = write!(
        text,
        "\n{}\nagain: {} --keep {}\nwhole: {} --trace 1000",
        small.story(),
        failure.command(),
        kept.join(","),
        failure.command(),
    );
    text
}

/// The version and the commit.
pub(crate) fn build() -> String {
    format!("chaos {}, commit {}", env!("CARGO_PKG_VERSION"), commit())
}

/// The commit that is checked out where the simulator was built.
#[expect(clippy::disallowed_methods, reason = "the commit is asked of git")]
fn commit() -> String {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty", "--exclude=*"]);
    let git = git.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    let said = git.output().ok().filter(|output| output.status.success());
    said.map_or_else(
        || "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
