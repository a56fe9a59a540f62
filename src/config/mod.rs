//! Configuration: files and other layers become a checked plan that can run.
//! Owns the schema, where each value comes from, and every message about a bad one.
//! Never starts anything and never watches files: that is the runtime's.

mod launch;
mod origin;
mod problem;
mod reading;
mod schema;
mod tree;

pub use launch::{
    Check, Ipc, Launch, LogFormat, Logs, Needs, ProbeSpec, Role, System, Who,
};
pub use problem::{Excerpt, MAX_PROBLEMS, Place, PlaceKind, Problem, Problems, Related};
pub use schema::Class;
