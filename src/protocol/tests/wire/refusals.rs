//! A refusal of every code against its golden file.
//! Owns the examples of refusals.
//! Never repeats a code by hand: the closed list says them.

use mainstay_protocol::rpc::Response;
use mainstay_protocol::{ErrorCode, RequestError, RequestId, RpcMessage};
use serde_json::{Value, json};

use crate::golden;

#[test]
fn every_refusal_is_what_its_golden_file_says() {
    let replies = examples();
    let kept = golden::check(&golden::folder().join("refusals.json"), &json!(replies));
    for (reply, line) in replies.into_iter().zip(kept.as_array().expect("a list")) {
        let read = RpcMessage::parse(line.to_string().as_bytes()).expect("a refusal is a message");
        assert_eq!(read, RpcMessage::Reply(reply));
    }
}

/// A refusal of every code.
pub(crate) fn examples() -> Vec<Response> {
    ErrorCode::ALL.iter().map(|code| example(*code)).collect()
}

/// The first ones answer lines whose id could not be read.
fn example(code: ErrorCode) -> Response {
    let mut refusal = RequestError::new(code, format!("cannot do this: {}", code.as_str()));
    if code == ErrorCode::UnknownModule {
        refusal.data.detail = json!({ "nearest": "storage" });
    }
    let unreadable = matches!(
        code,
        ErrorCode::ParseError | ErrorCode::InvalidRequest | ErrorCode::TooLong
    );
    Response::refusal((!unreadable).then_some(RequestId::Number(7)), refusal)
}

#[test]
fn refusal_numbers_are_distinct_and_in_their_ranges() {
    let mut numbers: Vec<i32> = ErrorCode::ALL.iter().map(|code| code.number()).collect();
    assert!(
        numbers.iter().all(|n| (-32768..=-32000).contains(n)),
        "{numbers:?}"
    );
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), ErrorCode::ALL.len());
}

#[test]
fn a_line_that_is_no_message_is_refused_with_its_code() {
    let cases: [(&[u8], ErrorCode); 6] = [
        (b"{", ErrorCode::ParseError),
        (b"\xff\xfe", ErrorCode::ParseError),
        (b"[]", ErrorCode::InvalidRequest),
        (br#"{"jsonrpc":"2.0","id":1}"#, ErrorCode::InvalidRequest),
        (
            br#"{"jsonrpc":"1.0","id":1,"method":"why"}"#,
            ErrorCode::InvalidRequest,
        ),
        (br#"{"id":1,"method":"why"}"#, ErrorCode::InvalidRequest),
    ];
    for (line, code) in cases {
        let refusal = RpcMessage::parse(line).expect_err("refused");
        assert_eq!(refusal.data.code, code, "{}", String::from_utf8_lossy(line));
        assert_eq!(refusal.code, code.number());
    }
}

#[test]
fn unknown_fields_are_ignored_and_text_ids_are_kept() {
    let line = json!({"jsonrpc": "2.0", "id": "a-1", "method": "graph", "later": true});
    let Ok(RpcMessage::Request(request)) = RpcMessage::parse(line.to_string().as_bytes()) else {
        panic!("a request");
    };
    assert_eq!(request.id, Some(RequestId::Text("a-1".to_owned())));
    assert_eq!(request.params, Value::Null);
}
