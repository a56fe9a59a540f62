//! mainstay-protocol: the messages between mainstay, its clients and its modules.
//! Owns the shape of every message (JSON-RPC 2.0, one object a line) and every closed list in it.
//! Never talks to a socket and never serialises an internal type of the runtime.

pub mod chaos;
pub mod config_change;
pub mod config_plan;
pub mod config_values;
pub mod doctor;
pub mod enums;
pub mod event;
pub mod explain;
pub mod health;
pub mod method;
pub mod methods;
pub mod rpc;
pub mod schema;
pub mod subject;
pub mod timestamp;
mod unknown_value;
pub mod view;

pub use enums::{
    AccessLevel, DesiredState, HealthStatus, ModuleImportance, ModuleState, StateCause,
    SystemStatus,
};
pub use event::{Event, EventKind};
pub use rpc::{ErrorCode, RequestError, RequestId, RpcMessage, RpcRequest};
pub use schema::schema;
pub use timestamp::Timestamp;
pub use view::{ModuleView, SystemView};

/// Version of the protocol, exchanged in `hello`. A change that an old reader cannot ignore raises
/// it.
pub const PROTOCOL: u32 = 1;

/// Longest accepted line in bytes, newline excluded (1 MiB).
pub const MAX_LINE_BYTES: usize = 1024 * 1024;

/// Environment variable with the path of the socket a module connects to.
pub const ENV_SOCKET: &str = "MAINSTAY_SOCKET";
/// Environment variable with the token a module shows in `hello`.
pub const ENV_TOKEN: &str = "MAINSTAY_TOKEN";
/// Environment variable with the module's own name.
pub const ENV_MODULE: &str = "MAINSTAY_MODULE";
/// Environment variable with the module's generation, a number that grows with every start.
pub const ENV_GENERATION: &str = "MAINSTAY_GENERATION";
/// Environment variable of a run in degraded mode: the features that are off, separated by commas.
pub const ENV_DEGRADED: &str = "MAINSTAY_DEGRADED";
/// Environment variable with the features that are on for the module, separated by commas; there
/// when any is configured.
pub const ENV_FEATURES: &str = "MAINSTAY_FEATURES";
/// Environment variable of a module with a `reload_signal` or `reload_command`: the path of a JSON
/// file with each configured feature and whether it is on for the module, now.
pub const ENV_FEATURES_FILE: &str = "MAINSTAY_FEATURES_FILE";
/// Environment variable with the path of a JSON file that holds the module's `settings` table.
pub const ENV_SETTINGS: &str = "MAINSTAY_SETTINGS";
