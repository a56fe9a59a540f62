//! The wire against its golden files: every message, every closed list, the schema.
//! Owns nothing but the comparison; `UPDATE_GOLDEN=1` rewrites the files instead.
//! Never talks to a socket.

mod config_examples;
mod conform;
mod docs;
mod enums;
mod events;
mod examples;
mod explanations;
mod golden;
mod health_examples;
mod refusals;
mod schema;
mod versions;
