//! One way to find out from outside whether a module works.
//! Owns the one list: readiness, health and configuration use it.
//! Never runs a probe.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

/// One way to find out from outside whether a module works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// This `host:port` accepts a connection, and the process tree of the module owns the listener.
    Tcp(String),
    /// This socket accepts a connection: a path, or `@NAME` for an abstract one.
    Unix(String),
    /// This URL answers with this status.
    Http {
        /// `http://host:port/path`.
        url: String,
        /// The expected status.
        status: u16,
    },
    /// This `host:port` or `host:port/service` serves, by grpc.health.v1.
    Grpc(String),
    /// This command exits 0.
    Exec(Vec<String>),
    /// This path exists.
    File(String),
}

/// What a probe is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeRole {
    /// A start is over when it succeeded once.
    Startup,
    /// Failing restarts the module.
    #[default]
    Liveness,
    /// Failing keeps dependents from starting, and restarts nothing.
    Readiness,
}

/// Which process has to hold a port for a probe to count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListenerOwner {
    /// One of the module's own process tree: another process may hold the port.
    #[default]
    Module,
    /// Any: a proxy accepts connections for the module.
    Any,
}

/// What is probed: the kind and the target, such as `tcp 127.0.0.1:80`.
impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Probe::Tcp(address) => write!(f, "tcp {address}"),
            Probe::Unix(path) => write!(f, "unix {path}"),
            Probe::Http { url, .. } => f.write_str(url),
            Probe::Grpc(target) => write!(f, "grpc {target}"),
            Probe::Exec(argv) => write!(f, "`{}`", argv.join(" ")),
            Probe::File(path) => write!(f, "file {path}"),
        }
    }
}
