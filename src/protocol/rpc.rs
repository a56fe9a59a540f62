//! JSON-RPC 2.0 as mainstay speaks it: one JSON object a line, both directions.
//! Owns the envelope and the closed list of refusals.
//! Never interprets a method's parameters.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::enums::wire_enum;

/// Names a request within one connection and one direction.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum RequestId {
    /// A number, as mainstay's clients use.
    Number(u64),
    /// A text, as others may.
    Text(String),
}

/// The two letters of version every message carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Version {
    /// JSON-RPC 2.0.
    #[serde(rename = "2.0")]
    V2,
}

/// A call (with `id`) or a notification (without).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RpcRequest {
    /// Always `"2.0"`.
    pub jsonrpc: Version,
    /// Absent in a notification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RequestId>,
    /// For instance `module.restart`.
    pub method: String,
    /// An object; absent means `{}`.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub params: Value,
}

/// The response to a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Response {
    /// Always `"2.0"`.
    pub jsonrpc: Version,
    /// The id of the call; null when it could not be read.
    pub id: Option<RequestId>,
    /// The result; absent in an error response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why not; absent in a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RequestError>,
}

/// Any message, one a line.
#[derive(Debug, Clone, PartialEq)]
pub enum RpcMessage {
    /// A call or a notification.
    Request(RpcRequest),
    /// A response.
    Reply(Response),
}

/// A received line, before it is known to be a request or a response.
#[derive(Deserialize)]
struct Envelope {
    jsonrpc: Version,
    #[serde(default)]
    id: Option<RequestId>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    params: Value,
    #[serde(default, deserialize_with = "present")]
    result: Option<Value>,
    #[serde(default)]
    error: Option<RequestError>,
}

/// A result of null is a result.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

impl RpcMessage {
    /// Reads one line.
    ///
    /// # Errors
    /// `parse_error` when it is not JSON, `invalid_request` when it is not JSON-RPC 2.0.
    pub fn parse(line: &[u8]) -> Result<RpcMessage, RequestError> {
        let envelope: Envelope = serde_json::from_slice(line).map_err(|error| {
            let code = match error.classify() {
                serde_json::error::Category::Data => ErrorCode::InvalidRequest,
                _ => ErrorCode::ParseError,
            };
            RequestError::new(code, format!("cannot read the message: {error}"))
        })?;
        let Envelope {
            jsonrpc,
            id,
            method,
            params,
            result,
            error,
        } = envelope;
        match method {
            Some(method) => Ok(RpcMessage::Request(RpcRequest {
                jsonrpc,
                id,
                method,
                params,
            })),
            None if result.is_some() || error.is_some() => Ok(RpcMessage::Reply(Response {
                jsonrpc,
                id,
                result,
                error,
            })),
            None => Err(RequestError::new(
                ErrorCode::InvalidRequest,
                "cannot read the message: it has neither a method nor a result",
            )),
        }
    }
}

impl RpcRequest {
    /// Returns a call, which expects a response.
    #[must_use]
    pub fn call(id: u64, method: impl Into<String>, params: Value) -> RpcRequest {
        let id = Some(RequestId::Number(id));
        RpcRequest {
            jsonrpc: Version::V2,
            id,
            method: method.into(),
            params,
        }
    }

    /// Returns a notification, which has no response.
    #[must_use]
    pub fn notification(method: impl Into<String>, params: Value) -> RpcRequest {
        RpcRequest {
            jsonrpc: Version::V2,
            id: None,
            method: method.into(),
            params,
        }
    }
}

impl Response {
    /// A success.
    #[must_use]
    pub fn success(id: RequestId, result: Value) -> Response {
        Response {
            jsonrpc: Version::V2,
            id: Some(id),
            result: Some(result),
            error: None,
        }
    }

    /// An error response.
    #[must_use]
    pub fn refusal(id: Option<RequestId>, refusal: RequestError) -> Response {
        Response {
            jsonrpc: Version::V2,
            id,
            result: None,
            error: Some(refusal),
        }
    }
}

wire_enum! {
    /// Why mainstay refused a request; `error.data.code` in JSON.
    ErrorCode {
        /// The line is not JSON.
        ParseError = "parse_error",
        /// The line is not JSON-RPC 2.0.
        InvalidRequest = "invalid_request",
        /// No such method.
        UnknownMethod = "unknown_method",
        /// The parameters do not fit the method.
        InvalidParams = "invalid_params",
        /// The line is longer than 1 MiB; the connection closes.
        TooLong = "too_long",
        /// `hello` must come first.
        HelloRequired = "hello_required",
        /// The protocol version is not supported.
        UnsupportedProtocol = "unsupported_protocol",
        /// The token is not of a run that is current.
        InvalidToken = "invalid_token",
        /// No module has this name.
        UnknownModule = "unknown_module",
        /// The connection's level does not allow it.
        NotPermitted = "not_permitted",
        /// Another change is in progress.
        Busy = "busy",
        /// The configuration is invalid.
        InvalidConfig = "invalid_config",
        /// Too many requests a second.
        RateLimited = "rate_limited",
        /// A timeout expired.
        Timeout = "timeout",
        /// The system is stopping.
        ShuttingDown = "shutting_down",
        /// The called module is not connected, or does not answer calls.
        Unavailable = "unavailable",
        /// The called module failed too often; its circuit breaker refuses calls for a time.
        BreakerOpen = "breaker_open",
        /// The called module answered with an error of its own.
        ModuleError = "module_error",
        /// Too many connections.
        TooManyConnections = "too_many_connections",
        /// Planned, not built in this version.
        NotAvailableYet = "not_available_yet",
        /// A fault in mainstay; its log has the details.
        Internal = "internal",
    }
}

impl ErrorCode {
    /// The JSON-RPC number that goes with the code: the standard ones where there is one,
    /// else -32000 minus the position in the list.
    #[must_use]
    pub fn number(self) -> i32 {
        match self {
            ErrorCode::ParseError => -32700,
            ErrorCode::InvalidRequest => -32600,
            ErrorCode::UnknownMethod => -32601,
            ErrorCode::InvalidParams => -32602,
            ErrorCode::Internal => -32603,
            other => {
                let known = ErrorCode::ALL.iter().position(|code| *code == other);
                let position = known.and_then(|at| i32::try_from(at).ok());
                -32000 - position.unwrap_or(99)
            }
        }
    }
}

/// The `error` member of a reply.
#[derive(
    Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, thiserror::Error,
)]
#[error("{message}")]
pub struct RequestError {
    /// The JSON-RPC number.
    pub code: i32,
    /// One sentence: what, which, and the next step.
    pub message: String,
    /// The code a program acts on.
    pub data: ErrorData,
}

/// `error.data`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ErrorData {
    /// The error code.
    pub code: ErrorCode,
    /// More, where a code carries more.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub detail: Value,
}

impl RequestError {
    /// A refusal with its sentence.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> RequestError {
        let data = ErrorData {
            code,
            detail: Value::Null,
        };
        RequestError {
            code: code.number(),
            message: message.into(),
            data,
        }
    }
}
