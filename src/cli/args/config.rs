//! Options of the verbs of the configuration, its secrets and the audit.
//! Owns their names.
//! Never reads the environment or a file.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::instance_name;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mainstay plan                       what the files would change
  mainstay plan new.toml --json")]
pub(crate) struct PlanArgs {
    /// A file instead of mainstay.toml, or a folder instead of the configuration folder
    pub(crate) path: Option<PathBuf>,
    /// Print the object of the protocol
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mainstay reload --wait              until it is committed or rolled back
  mainstay reload --expect-plan 7")]
pub(crate) struct ReloadArgs {
    /// Return when the plan is committed or rolled back
    #[arg(long)]
    pub(crate) wait: bool,
    /// Refuse if another plan than this one is in force
    #[arg(long, value_name = "NUMBER")]
    pub(crate) expect_plan: Option<u64>,
    /// Print the object of the protocol
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mainstay config get health.interval --origin
  mainstay config set module.web.env.LEVEL debug
  mainstay config history
  mainstay config rollback")]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) verb: ConfigVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Print a value, or all values of a table, as the running system uses them
    Get {
        /// A key, such as health.interval or module.storage [default: everything]
        path: Option<String>,
        /// Print the origin of each value: file and line, a variable, an option, the default
        #[arg(long)]
        origin: bool,
        /// Print the object of the protocol
        #[arg(long)]
        json: bool,
    },
    /// Set one value of the running system: watched, then committed or rolled back
    Set {
        /// The key, such as health.interval or module.storage.env.LEVEL
        key: String,
        /// The value; "-": read it from the standard input
        #[arg(allow_hyphen_values = true)]
        value: String,
        /// Write it into the file that sets the key, comments kept
        #[arg(long)]
        persist: bool,
        #[command(flatten)]
        change: ConfigChangeArgs,
    },
    /// Drop what `config set` set
    Unset {
        /// The key, or a table of keys
        key: String,
        /// Remove it from its file too
        #[arg(long)]
        persist: bool,
        #[command(flatten)]
        change: ConfigChangeArgs,
    },
    /// List the plans that are kept: who applied each, when, and what became of it
    History {
        /// Print the object of the protocol
        #[arg(long)]
        json: bool,
    },
    /// Show what differs: the files from the plan in force, or one plan from another
    Diff {
        /// A plan of the history [default: the plan in force, and the files]
        from: Option<u64>,
        /// Another one [default: the plan in force]
        to: Option<u64>,
        /// Print the object of the protocol
        #[arg(long)]
        json: bool,
    },
    /// Go back to a plan of the history: watched, then committed or rolled back
    Rollback {
        /// Its number [default: the newest committed one that differs]
        plan: Option<u64>,
        #[command(flatten)]
        change: ConfigChangeArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ConfigChangeArgs {
    /// Show what would change and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Refuse if another plan than this one is in force
    #[arg(long, value_name = "PLAN")]
    pub(crate) if_plan: Option<u64>,
    /// Return when the plan is committed or rolled back
    #[arg(long)]
    pub(crate) wait: bool,
    /// Print the object of the protocol
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mainstay secret set db-password < password.txt
  mainstay secret set token --generate
  mainstay secret store-key --from /media/usb/secret.key
  mainstay secret list")]
pub(crate) struct SecretArgs {
    #[command(subcommand)]
    pub(crate) verb: SecretVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SecretVerb {
    /// Encrypt a value, read from standard input, under a name
    Set(SecretValueArgs),
    /// Replace the value of a name; the modules that use it are restarted
    Rotate(SecretValueArgs),
    /// Encrypt all values for a new key, which replaces the old one
    Rekey,
    /// Put the key into the keyring of the kernel, where `secret_key = "keyring:NAME"`
    StoreKey(StoreKeyArgs),
    /// List the names and the modules that use each
    List,
}

#[derive(Debug, Args)]
pub(crate) struct StoreKeyArgs {
    /// The key file [default: standard input]
    #[arg(long, value_name = "FILE", conflicts_with = "new")]
    pub(crate) from: Option<PathBuf>,
    /// Make a key and write it to this file, to be kept elsewhere: a restart of the machine
    /// empties the keyring
    #[arg(long, value_name = "FILE")]
    pub(crate) new: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct SecretValueArgs {
    /// Its name
    #[arg(value_parser = instance_name)]
    pub(crate) name: String,
    /// Read the value from this file instead
    #[arg(long, value_name = "FILE", conflicts_with = "generate")]
    pub(crate) from: Option<PathBuf>,
    /// Make up a random value
    #[arg(long)]
    pub(crate) generate: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mainstay audit list -n 50
  mainstay audit verify")]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    pub(crate) verb: AuditVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditVerb {
    /// List requests, their requesters and their results
    List {
        /// Number of newest actions [default: 20]
        #[arg(short = 'n', long, value_name = "COUNT")]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=5000))]
        limit: Option<u32>,
        /// Print one object per line
        #[arg(long)]
        json: bool,
    },
    /// Check that no administrative row of the journal was changed, removed, reordered or cut off
    Verify {
        /// The journal [default: journal.db in the state directory of the configuration]
        journal: Option<PathBuf>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
}
