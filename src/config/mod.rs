//! Configuration: reads files and other layers and checks them.
//! Owns the schema, the origin of each value, and every message about a wrong one.
//! Never starts a process and never watches files: the runtime does.
//!
//! ```text
//! sources ─► layers (+ overrides) ─► tree ─► reading along schema ─► lower (+ cross_checks)
//!                                                           ─► Configuration
//! ```

mod changes;
mod committed;
mod confidential;
mod cross_checks;
mod default_dirs;
mod enforceable;
mod env_file;
mod env_syntax;
mod fingerprint;
mod groups;
mod hints;
mod isolation;
mod key_source;
mod key_table;
mod launch;
mod layers;
mod lookup;
mod lower;
mod lower_module;
mod origin;
mod overrides;
mod paths;
mod problem;
mod read_context;
mod reference;
pub(crate) mod runtime_layer;
mod schema;
mod slots;
mod sources;
pub(crate) mod system_keys;
mod tree;
mod trust;
#[cfg(windows)]
mod windows_checks;
mod write_back;

pub use changes::{ConfigChanges, KeyChange};
pub use committed::CommittedConfig;
pub(crate) use confidential::is_confidential;
pub(crate) use enforceable::{NotEnforced, asked_isolation, check_enforcement};
pub(crate) use hints::closest;
pub use launch::{
    EnforcementPolicy, Feature, IpcConfig, KeySource, LaunchSpec, LogConfig, LogFormat, LogStreams,
    Principal, ProbeKind, ProbeSpec, ReloadBy, ReloadMode, ResourceRequirements, SecretUse,
    SystemConfig,
};
pub use lookup::UnknownKey;
pub(crate) use lower::load_watched;
pub use lower::{Configuration, EVENT_BUS, load, load_onto};
pub(crate) use overrides::keys;
pub use problem::{Excerpt, LayerKind, MAX_PROBLEMS, Problem, Problems, Related, SourceLocation};
pub use reference::{json_schema, reference};
pub use runtime_layer::RuntimeValue;
pub(crate) use schema::scalars::is_name;
pub use schema::{KeyClass, class_of};
pub(crate) use schema::{KeyForm, form_of};
pub use sources::ConfigSources;
pub(crate) use trust::{check as check_trusted, check_program, named_owner};
pub use write_back::FileEdit;

#[cfg(test)]
mod tests;
