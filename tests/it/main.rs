//! The real daemon, end to end: one binary for all integration tests.
//! Owns the list of them. Never a test itself.

mod daemon;
mod first_light;
