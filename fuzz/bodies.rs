//! What is done with bytes from outside: for the fuzzer, and for the ordinary tests.
//! Owns one function a kind of input; each must come back, whatever the bytes are.
//! Never judges what is refused, only that it is refused in order.

use std::path::Path;

use mainstay::config::{ConfigSources, load};
use mainstay_holder::Decoder;
use mainstay_holder::messages::{HolderMessage, HolderRequest};
use mainstay_protocol::method::{CallParams, HealthReportParams, name};
use mainstay_protocol::methods::{self, Method};
use mainstay_protocol::rpc::Response;
use mainstay_protocol::{RpcMessage, RpcRequest};
use serde::de::DeserializeOwned;

/// A line on the socket: read as a message, its parameters as those of its method.
pub fn ipc_line(bytes: &[u8]) {
    match RpcMessage::parse(bytes) {
        Ok(RpcMessage::Request(request)) => asked(request),
        Ok(RpcMessage::Reply(reply)) => written(&reply),
        Err(refusal) => {
            assert!(
                refusal.message.starts_with("cannot "),
                "{}",
                refusal.message
            );
            written(&Response::refusal(None, refusal));
        }
    }
}

fn asked(request: RpcRequest) {
    let again = serde_json::to_vec(&request).expect("what was read can be written");
    let again = RpcMessage::parse(&again).expect("and read again");
    if is_exact(&request.params) {
        assert_eq!(again, RpcMessage::Request(request.clone()));
    }
    read_params(&request.method, request.params);
}

macro_rules! define_read_params {
    ($(
        #[doc = $summary:literal]
        $method:ident $constant:ident $name:literal $level:ident $effect:ident
        $params:ty => $result:ty, $example:literal;
    )+) => {
        /// Reads the parameters as those of their method; nothing for an unknown method.
        fn read_params(method: &str, params: serde_json::Value) {
            match method {
                $($name => fits::<<methods::$method as Method>::Params>(params),)+
                name::HEALTH_CHECK => fits::<HealthReportParams>(params),
                name::CALL => fits::<CallParams>(params),
                _ => {}
            }
        }
    };
}
mainstay_protocol::method_table!(define_read_params);

/// Fractions, and numbers of more than 64 bits, may lose digits from text to text.
fn is_exact(value: &serde_json::Value) -> bool {
    use serde_json::Value;
    match value {
        Value::Number(number) => number.is_i64() || number.is_u64(),
        Value::Array(values) => values.iter().all(is_exact),
        Value::Object(fields) => fields.values().all(is_exact),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

fn fits<T: DeserializeOwned>(params: serde_json::Value) {
    let _read_or_not = serde_json::from_value::<T>(params);
}

fn written(reply: &Response) {
    serde_json::to_vec(reply).expect("a reply can be written");
}

/// What the holder and the runtime read of each other: however the bytes are cut, the frames are
/// the same.
pub fn holder_frames(bytes: &[u8]) {
    let pieces = bytes.first().map_or(1, |first| usize::from(*first) + 1);
    assert_eq!(
        frames::<HolderRequest>(bytes, bytes.len().max(1)),
        frames::<HolderRequest>(bytes, pieces)
    );
    assert_eq!(
        frames::<HolderMessage>(bytes, bytes.len().max(1)),
        frames::<HolderMessage>(bytes, pieces)
    );
}

/// How many frames there are before the end or the first bad one, and whether there was one.
fn frames<T: DeserializeOwned>(bytes: &[u8], piece: usize) -> (usize, bool) {
    let mut decoder = Decoder::default();
    let mut count = 0;
    for piece in bytes.chunks(piece) {
        decoder.push(piece);
        loop {
            match decoder.next::<T>() {
                Ok(Some(_)) => count += 1,
                Ok(None) => break,
                Err(_) => return (count, true),
            }
        }
    }
    (count, false)
}

/// A configuration file of any content, in this folder.
pub fn configuration(folder: &Path, bytes: &[u8]) {
    std::fs::write(folder.join("mainstay.toml"), bytes).expect("a file of our own");
    if let Err(problems) = load(&ConfigSources::folder(folder)) {
        assert!(problems.count() > 0);
        assert!(!problems.to_string().is_empty(), "it says what is wrong");
    }
}

/// An env file of any content, in this folder: as it is, and with its variables replaced.
pub fn env_file(folder: &Path, bytes: &[u8]) {
    let file = folder.join("env");
    std::fs::write(&file, bytes).expect("a file of our own");
    let module = |name: &str, more: &str| {
        format!("[module.{name}]\ncommand = [\"x\"]\nenv_file = {file:?}\n{more}\n")
    };
    let text = module("plain", "") + &module("expanded", "env_expand = true");
    std::fs::write(folder.join("mainstay.toml"), text).expect("a file of our own");
    match load(&ConfigSources::folder(folder)) {
        Ok(configuration) => {
            let variables = configuration
                .modules
                .iter()
                .flat_map(|(_, launch)| &launch.env);
            for (name, value) in variables {
                assert!(
                    !name.contains(['=', '\0']) && !value.contains('\0'),
                    "{name:?}"
                );
            }
        }
        Err(problems) => {
            for problem in &problems.problems {
                let place = problem.place.as_ref().expect("a place");
                assert!(problem.message.starts_with("cannot "), "{problem}");
                assert!(
                    place.name.ends_with("env") || place.line.is_some(),
                    "{problem}"
                );
            }
        }
    }
}
