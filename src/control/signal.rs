//! `module.signal`: a signal to the main process of a module, on request.
//! Owns the rows of the audit.
//! Never decides what follows: recovery does, as after a signal of anybody else.

use std::sync::Arc;

use mainstay_process::Signal;
use mainstay_protocol::method::SignalResult;
use mainstay_protocol::methods::ModuleSignal;
use mainstay_protocol::{ErrorCode, RequestError};

use super::modules::find_module;
use super::{Answer, Caller, MethodResult, audit};
use crate::actors::RuntimeContext;
use crate::os_text::{signal_name, signal_number};

/// The largest number of a signal on any system.
const NUMBER_MAX: i32 = 64;

impl Answer for ModuleSignal {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        caller: &Caller,
        params: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        let module = find_module(ctx, &params.module)?;
        let name = &params.module;
        let refused = |text: String| RequestError::new(ErrorCode::InvalidParams, text);
        let signal = parse(&params.signal).ok_or_else(|| {
            let word = &params.signal;
            refused(format!(
                "cannot signal {name}: there is no signal {word:.32} here; name one as SIGHUP or 1"
            ))
        })?;
        let instance = ctx.instance(module);
        let live = ctx.os.live_process(&instance);
        let found = live.and_then(|live| Some((live.process()?, live.generation)));
        let (pid, generation) = found.ok_or_else(|| {
            refused(format!(
                "cannot signal {name}: it has no process; start it with `mainstay start {name}`"
            ))
        })?;
        let signal_text = signal_name(signal);
        let operation = format!("signal {signal_text}");
        audit::record(ctx, caller, Some((module, generation)), &operation);
        ctx.os.signal(&instance, generation, signal);
        let signal = signal_text;
        Ok(MethodResult::Now(SignalResult { signal, pid }))
    }
}

/// The signal of a name, with or without SIG, or of a number.
fn parse(text: &str) -> Option<Signal> {
    let name = text.to_ascii_uppercase();
    let number = text.parse().ok();
    let number = number.filter(|number| cfg!(unix) && (1..=NUMBER_MAX).contains(number));
    number
        .map(Signal)
        .or_else(|| signal_number(&name))
        .or_else(|| signal_number(&format!("SIG{name}")))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_a_name_or_a_number() {
        for text in ["SIGHUP", "HUP", "hup", "1"] {
            assert_eq!(parse(text), Some(Signal::HANGUP), "{text}");
        }
        for text in ["", "0", "65", "-9", "SIGFOO", "SIG"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
