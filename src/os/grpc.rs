//! One question of the gRPC health checking protocol (grpc.health.v1, `Check`), over HTTP/2.
//! Owns its own connection, which ends with the answer.
//! Never knows more of gRPC: one message out, one back, both of a few bytes.

use std::io;

use bytes::Bytes;
use h2::client;
use http::{Request, StatusCode};
use tokio::net::TcpStream;

/// Largest answer that is read, in bytes; a good one has seven.
const ANSWER_BYTES_MAX: usize = 1024;
/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: u8 = 1;

/// Asks whether `service` ("" is the whole server) is served at the other end of `stream`.
///
/// # Errors
/// In words, what was answered instead.
pub(super) async fn check(stream: TcpStream, address: &str, service: &str) -> io::Result<()> {
    let (mut requests, connection) = client::handshake(stream).await.map_err(io::Error::other)?;
    let asked = ask(&mut requests, address, service);
    tokio::select! {
        answered = asked => answered,
        _ended = connection => Err(io::Error::other("it hung up")),
    }
}

async fn ask(
    requests: &mut client::SendRequest<Bytes>,
    address: &str,
    service: &str,
) -> io::Result<()> {
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .map_err(io::Error::other)?;
    std::future::poll_fn(|at| requests.poll_ready(at))
        .await
        .map_err(io::Error::other)?;
    let (response, mut body) = requests
        .send_request(request, false)
        .map_err(io::Error::other)?;
    body.send_data(question(service)?, true)
        .map_err(io::Error::other)?;
    let response = response.await.map_err(io::Error::other)?;
    if response.status() != StatusCode::OK {
        let text = format!("it answers HTTP {}", response.status().as_u16());
        return Err(io::Error::other(text));
    }
    // A server that has only an error sends it in place of a reply.
    grpc_status(response.headers())?;
    let mut answer = Vec::new();
    let mut body = response.into_body();
    while let Some(piece) = body.data().await {
        let piece = piece.map_err(io::Error::other)?;
        let _room = body.flow_control().release_capacity(piece.len());
        answer.extend_from_slice(&piece);
        if answer.len() > ANSWER_BYTES_MAX {
            return Err(io::Error::other("its answer is too long"));
        }
    }
    if let Some(trailers) = body.trailers().await.map_err(io::Error::other)? {
        grpc_status(&trailers)?;
    }
    match status(&answer) {
        Some(SERVING) => Ok(()),
        Some(0) => Err(io::Error::other("its status is UNKNOWN")),
        Some(2) => Err(io::Error::other("its status is NOT_SERVING")),
        Some(3) => Err(io::Error::other("its status is SERVICE_UNKNOWN")),
        _ => Err(io::Error::other("this is not gRPC health")),
    }
}

/// The error that gRPC sends beside a reply, if any.
fn grpc_status(headers: &http::HeaderMap) -> io::Result<()> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status") {
        None | Some("0") => Ok(()),
        Some("12") => Err(io::Error::other("it does not speak grpc.health.v1")),
        Some(code) => {
            let message = text("grpc-message").unwrap_or_default();
            Err(io::Error::other(format!("gRPC error {code} {message}")))
        }
    }
}

/// `HealthCheckRequest { service }` in the frame of a message.
fn question(service: &str) -> io::Result<Bytes> {
    let length = u8::try_from(service.len())
        .ok()
        .filter(|length| *length < 126);
    let length = length.ok_or_else(|| io::Error::other("the name of the service is too long"))?;
    let mut message = Vec::new();
    if length > 0 {
        message.extend([0x0a, length]); // field 1, a text
        message.extend(service.bytes());
    }
    let mut frame = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap_or(0)];
    frame.append(&mut message);
    Ok(frame.into())
}

/// `HealthCheckResponse.status`; 0 if it is missing.
fn status(answer: &[u8]) -> Option<u8> {
    match answer {
        [0, 0, 0, 0, 0] => Some(0),
        [0, 0, 0, 0, 2, 0x08, status] => Some(*status), // field 1, a number
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_are_a_few_bytes() {
        assert_eq!(&question("").expect("short")[..], [0; 5]);
        assert_eq!(
            &question("a.B").expect("short")[..],
            b"\0\0\0\0\x05\x0a\x03a.B"
        );
        assert!(question(&"x".repeat(126)).is_err());
        assert_eq!(status(&[0, 0, 0, 0, 2, 8, 1]), Some(SERVING));
        assert_eq!(status(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(status(b"HTTP"), None);
    }
}
