//! A server of the gRPC health checking protocol: all is well but a service named `bad`.
//! Owns one thread.
//! Never knows any other method.

use std::net::{SocketAddr, TcpListener};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};

/// Listens, and answers in the background; where.
pub(crate) fn serve(address: &str) -> Result<SocketAddr, String> {
    let cannot = |error: std::io::Error| format!("cannot listen on {address}: {error}");
    let listener = TcpListener::bind(address).map_err(cannot)?;
    let bound = listener.local_addr().map_err(cannot)?;
    listener.set_nonblocking(true).map_err(cannot)?;
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(cannot)?;
    std::thread::spawn(move || tokio.block_on(answer_all(listener)));
    Ok(bound)
}

async fn answer_all(listener: TcpListener) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    while let Ok((peer, _)) = listener.accept().await {
        tokio::spawn(async move {
            let Ok(mut connection) = h2::server::handshake(peer).await else {
                return;
            };
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::spawn(answer(request, respond));
            }
        });
    }
}

async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> Option<()> {
    let known = request.uri().path() == "/grpc.health.v1.Health/Check";
    let mut body = request.into_body();
    let mut question = Vec::new();
    while let Some(Ok(piece)) = body.data().await {
        question.extend_from_slice(&piece);
    }
    let response = Response::builder().header("content-type", "application/grpc");
    let mut sent = respond.send_response(response.body(()).ok()?, false).ok()?;
    let mut code = HeaderValue::from_static("12"); // unimplemented
    if known {
        let status = if question.ends_with(b"bad") { 2 } else { 1 };
        let message = Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 0x08, status]);
        sent.send_data(message, false).ok()?;
        code = HeaderValue::from_static("0");
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", code);
    sent.send_trailers(trailers).ok()
}
