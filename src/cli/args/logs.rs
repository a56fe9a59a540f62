//! Options of `logs`.
//! Owns their names and examples.
//! Never reads the environment or a file.

use std::str::FromStr;

use clap::{Args, ValueEnum};
use mainstay_process::StdStream;

use crate::cli::completions;
use crate::cli::time_argument::TimeArgument;

const EXAMPLES: &str = "Examples:
  mainstay logs                            the newest lines, in order of time
  mainstay logs web -f                     what web writes, until Ctrl-C
  mainstay logs web --run last             what the newest run of web wrote
  mainstay logs web --run previous         what the run before it wrote
  mainstay logs web --stream stderr        what web wrote to stderr
  mainstay logs --since 10m --grep error   those of the last ten minutes
  mainstay logs api web --since 'yesterday 18:00' --until 19:00
  mainstay logs web --json                 one object per line

A terminal gets times, a colour for each module and the boundaries of runs; a
pipe or file gets the lines of one module as they were written, and only a
boundary between two runs is added.

Exit codes: 0 success, 1 a log cannot be read, 2 invalid command line, 3
mainstay is not running and there is no log, 4 there is no such module";

#[derive(Debug, Default, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LogsArgs {
    /// The modules [default: all]; with several, each line begins with its module
    #[arg(value_name = "MODULE", add = completions::modules())]
    pub(crate) modules: Vec<String>,
    /// Keep showing new lines
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Number of newest lines [default: 100; all with --since, --until, --run or --grep]
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) lines: Option<usize>,
    /// Only lines from this time on: an age (10m), a time (10:30, yesterday 18:00), or RFC 3339
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<TimeArgument>,
    /// Only lines up to this time
    #[arg(long, value_name = "TIME", conflicts_with = "follow")]
    pub(crate) until: Option<TimeArgument>,
    /// Only lines of one run: its number, last, or previous (the run before the newest)
    #[arg(long, value_name = "N|last|previous", conflicts_with = "follow")]
    pub(crate) run: Option<RunSelection>,
    /// Only lines of stdout, or of stderr, where logs.streams is "split"
    #[arg(long, value_enum)]
    pub(crate) stream: Option<StreamSelection>,
    /// Only lines that match this regular expression
    #[arg(long, value_name = "PATTERN")]
    pub(crate) grep: Option<String>,
    /// Begin each line with its time also in a pipe or file
    #[arg(short, long)]
    pub(crate) times: bool,
    /// Show times in UTC
    #[arg(long)]
    pub(crate) utc: bool,
    /// Nothing but the lines as they were written: no time, name or boundary
    #[arg(long, conflicts_with_all = ["times", "json"])]
    pub(crate) raw: bool,
    /// Print the objects of the protocol, one per line
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which stream is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StreamSelection {
    Stdout,
    Stderr,
}

impl From<StreamSelection> for StdStream {
    fn from(selection: StreamSelection) -> StdStream {
        match selection {
            StreamSelection::Stdout => StdStream::Stdout,
            StreamSelection::Stderr => StdStream::Stderr,
        }
    }
}

/// Which run is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunSelection {
    Last,
    /// The one before the newest: between failures the newest has only begun.
    Previous,
    Number(u64),
}

impl FromStr for RunSelection {
    type Err = String;

    fn from_str(text: &str) -> Result<RunSelection, String> {
        match text {
            "last" => Ok(RunSelection::Last),
            "previous" => Ok(RunSelection::Previous),
            number => match number.parse() {
                Ok(number) if number > 0 => Ok(RunSelection::Number(number)),
                _ => Err("use the number of a run, last, or previous".to_owned()),
            },
        }
    }
}
