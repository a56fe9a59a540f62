//! Options of the verbs that prepare: `init`, `import`, `check`, completions, manual pages; `call`.
//! Owns their names.
//! Never reads the environment or a file.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::cli::call;
use crate::import::Format;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mainstay init                    one module, every key explained
  mainstay init --example web      a small web application that runs here
  mainstay init shop --example worker")]
pub(crate) struct InitArgs {
    /// Name of the system [default: the name of the current folder]
    pub(crate) instance: Option<String>,
    /// An application that runs here, to begin with
    #[arg(long, value_parser = ["web", "desktop", "worker"])]
    pub(crate) example: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mainstay import Procfile
  mainstay import compose.yaml --output config
  mainstay import /etc/systemd/system/shop-*.service")]
pub(crate) struct ImportArgs {
    /// Procfile, compose file, process-compose.yaml, supervisord.conf, ecosystem.json of pm2, or
    /// service units of systemd
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Folder that is written [default: ./config]
    #[arg(long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// What the file is [default: by its name and content]
    #[arg(long, value_parser = import_format())]
    pub(crate) format: Option<Format>,
    /// Overwrite files that are there
    #[arg(long)]
    pub(crate) force: bool,
}

fn import_format() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(Format::ALL.map(|(name, _)| name)).map(|text| {
        let found = Format::ALL.iter().find(|(name, _)| *name == text);
        found.map_or(Format::Procfile, |(_, format)| *format)
    })
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mainstay check
  mainstay check --set health.interval=10s
  mainstay check --schema > mainstay.schema.json")]
pub(crate) struct CheckArgs {
    /// Print the JSON schema of the configuration instead
    #[arg(long)]
    pub(crate) schema: bool,
    /// Override one value of the configuration, such as health.interval=10s
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Print the problems as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mainstay call system.status
  mainstay call module.get '{\"module\":\"web\"}'")]
pub(crate) struct CallArgs {
    /// The method
    #[arg(value_parser = call::methods())]
    pub(crate) method: String,
    /// Its parameters, a JSON object [default: none]
    pub(crate) params: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  source <(mainstay completions bash)                   in ~/.bashrc
  mainstay completions fish > ~/.config/fish/completions/mainstay.fish")]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mainstay man ~/.local/share/man/man1
  mainstay man | man -l -")]
pub(crate) struct ManArgs {
    /// The folder [default: the first page is printed]
    #[arg(value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
}
