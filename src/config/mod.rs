//! Configuration: reads files and other layers and checks them.
//! Owns the schema, the origin of each value, and every message about a wrong one.
//! Never starts a process and never watches files: the runtime does.
//!
//! ```text
//! sources ─► layers (+ overrides) ─► tree ─► reading along schema ─► lower (+ across)
//!                                                                    ─► Configuration
//! ```

mod across;
mod effective;
mod env_file;
mod folders;
mod hints;
mod launch;
mod layers;
mod lower;
mod lower_module;
mod origin;
mod overrides;
mod places;
mod problem;
mod reading;
mod reference;
mod schema;
mod sources;
mod table;
mod tree;
mod value;
#[cfg(windows)]
mod windows;

pub use effective::Effective;
pub use launch::{Check, Ipc, Launch, LogFormat, Logs, Needs, ProbeSpec, Role, System, Who};
pub(crate) use layers::read_text;
pub use lower::{Configuration, EVENT_BUS, load, load_onto};
pub use problem::{Excerpt, MAX_PROBLEMS, Place, PlaceKind, Problem, Problems, Related};
pub use reference::{json_schema, reference};
pub(crate) use schema::values::is_name;
pub use schema::{Class, class_of};
pub use sources::Sources;
pub use value::NoSuchKey;

#[cfg(test)]
mod tests;
