//! `bus tap|publish|call`: the event bus, for administrators.
//! Owns the line of an event.
//! Never passes a control character of an event to the terminal.

use std::time::Duration;

use mainstay_client::{Error as ClientError, WAIT_TIMEOUT};
use mainstay_protocol::enums::CliExitCode;
use mainstay_protocol::method::{
    BusCallParams, BusEvent, BusSubscribeParams, Empty, PublishParams, PublishResult, name,
};
use serde_json::Value;

use super::args::{BusArgs, BusVerb, GlobalArgs};
use super::error::CliError;
use super::progress::Progress;
use super::system_locator::SystemLocator;
use super::{format, terminal};

pub(crate) fn run(args: &BusArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let instance = SystemLocator::find(global)?;
    match &args.verb {
        BusVerb::Tap { subjects, json } => tap(&instance, subjects, *json),
        BusVerb::Publish { subject, payload } => publish(&instance, subject, payload.as_deref()),
        BusVerb::Call {
            module,
            method,
            params,
            timeout,
        } => {
            let call = BusCallParams {
                module: module.clone(),
                method: method.clone(),
                params: parse(params.as_deref())?,
                timeout_ms: timeout.map(millis),
            };
            let _progress = Progress::start(format!("calling {method} of {module}"));
            let mut client = instance.connect_to_change()?;
            let result: Value = client.call_within(name::BUS_REQUEST, call, WAIT_TIMEOUT)?;
            terminal::print_json(&result)?;
            Ok(CliExitCode::Ok)
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn tap(instance: &SystemLocator, subjects: &[String], json: bool) -> Result<CliExitCode, CliError> {
    let mut client = instance.connect()?;
    loop {
        let subjects = subjects.to_vec();
        let _open: Empty = client.call(name::BUS_TAP, BusSubscribeParams { subjects })?;
        for event in client.follow::<BusEvent>() {
            match event {
                Ok(event) if json => terminal::print_json_line(&event)?,
                Ok(event) => terminal::print(&line(&event))?,
                Err(ClientError::Closed { .. }) => break,
                Err(error) => return Err(error.into()),
            }
        }
        client = match instance.connect_again() {
            Err(CliError::NotRunning { .. }) if instance.is_leaving() => {
                terminal::print_error(&format!("mainstay '{}' was stopped", instance.name));
                return Ok(CliExitCode::Ok);
            }
            connected => connected?,
        };
        terminal::print_error("the connection was lost and restored; events may be missing here");
    }
}

fn line(event: &BusEvent) -> String {
    let lost = match event.lag {
        0 => String::new(),
        count => format!("({count} events are missing here)\n"),
    };
    let text = format!(
        "{}  {} from {}: {}",
        format::time(event.at),
        event.subject,
        event.from,
        event.payload
    );
    format!("{lost}{}\n", format::single_line(&text))
}

fn publish(
    instance: &SystemLocator,
    subject: &str,
    payload: Option<&str>,
) -> Result<CliExitCode, CliError> {
    let params = PublishParams {
        subject: subject.to_owned(),
        payload: parse(payload)?,
    };
    let mut client = instance.connect_to_change()?;
    let published: PublishResult = client.call(name::BUS_SEND, params)?;
    let lost = match published.dropped {
        0 => String::new(),
        count => format!(", {count} too slow for it"),
    };
    let text = format!("subscribers that got it: {}{lost}\n", published.delivered);
    terminal::print(&text)?;
    Ok(CliExitCode::Ok)
}

/// What is no JSON is text.
fn parse(text: Option<&str>) -> Result<Value, CliError> {
    let Some(text) = text else {
        return Ok(Value::Null);
    };
    let begins_json = text.trim_start().starts_with(['{', '[', '"']);
    match serde_json::from_str(text) {
        Ok(value) => Ok(value),
        Err(_) if !begins_json => Ok(Value::String(text.to_owned())),
        Err(error) => {
            let text = format!("cannot read the value: {error}; write JSON, or plain text");
            Err(CliError::new(CliExitCode::Usage, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_protocol::Timestamp;
    use serde_json::json;

    #[test]
    fn a_value_is_json_or_plain_text() {
        let value = |text: &str| parse(Some(text)).expect(text);
        assert_eq!(value("12"), json!(12));
        assert_eq!(value(r#"{"a":1}"#), json!({"a": 1}));
        assert_eq!(value("hello there"), json!("hello there"));
        assert_eq!(parse(None).ok(), Some(Value::Null));
        let failure = parse(Some("{a:1}")).expect_err("neither");
        assert_eq!(failure.code(), CliExitCode::Usage);
    }

    #[test]
    fn an_event_is_one_line_and_says_what_is_missing_before_it() {
        let event = BusEvent {
            subject: "a.b".to_owned(),
            from: "web\x1b[2J".to_owned(),
            at: Timestamp(1_795_000_000_123),
            payload: json!({"n": 1}),
            lag: 2,
        };
        let expected = "(2 events are missing here)\n\
            2026-11-18 11:06:40.123  a.b from web [2J: {\"n\":1}\n";
        assert_eq!(line(&event), expected);
    }
}
