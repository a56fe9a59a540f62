//! What the socket and an embedding application ask alike: wishes, the end of a log, why.
//! Owns a wish from its making to its rest. Never checks permission: the connection did.

use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_policy::lifecycle::Operation;
use mainstay_policy::spec::{Kind, StartMode};
use mainstay_protocol::config::ConfigValue;
use mainstay_protocol::method::{CallParams, ChangeParams, ChangeResult, ChangeStep, Why};
use mainstay_protocol::{Refusal, RefusalCode, State, SystemStatus};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::view;
use crate::actors::House;
use crate::actors::lifecycle::LifecycleMsg;
use crate::actors::picture::Snapshot;

/// How long the actors may take to publish a change.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long waiting may take beyond the module's own timeouts.
const WAIT_MARGIN: Duration = Duration::from_secs(30);
/// Lines of a log, when nobody says how many, and at most.
const LINES: (usize, usize) = (100, 10_000);

/// Something in mainstay went wrong.
pub(crate) fn internal(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(RefusalCode::Internal, error.to_string())
}

/// The module with this name.
pub(crate) fn find(house: &House, module: &str) -> Result<ModuleId, Refusal> {
    house.find(module).ok_or_else(|| {
        let near = house
            .plan
            .modules()
            .map(|spec| (strsim::osa_distance(&spec.name, module), &spec.name))
            .min()
            .filter(|(distance, known)| *distance <= known.len() / 3 + 1)
            .map_or_else(
                || "; `mainstay status` lists all".to_owned(),
                |(_, known)| format!("; did you mean {known}?"),
            );
        let text = format!("cannot find a module named {module:.64}{near}");
        Refusal::new(RefusalCode::UnknownModule, text)
    })
}

/// A wish that was made, or (dry run) only looked at.
pub(crate) struct Change {
    module: ModuleId,
    wish: Operation,
    steps: Vec<ChangeStep>,
    /// The run it was in.
    before: u64,
}

impl Change {
    /// Makes the wish and waits until it is published; with `dry_run` only says what it would take
    /// along.
    pub(crate) async fn make(
        house: &House,
        wish: Operation,
        params: &ChangeParams,
        actor: String,
    ) -> Result<Change, Refusal> {
        let module = find(house, &params.module)?;
        if wish != Operation::Start && house.spec(module).kind == Kind::Builtin {
            let text = format!(
                "cannot stop or restart {}: it is a part of mainstay, up as long as mainstay is",
                params.module
            );
            return Err(Refusal::new(RefusalCode::NotPermitted, text));
        }
        let (answer, preview) = oneshot::channel();
        house.switchboard.lifecycle.cast(LifecycleMsg::Preview {
            module,
            wish,
            answer,
        });
        let steps = soon(preview).await?;
        let before = house.picture.module(module).generation;
        let change = Change {
            module,
            wish,
            steps,
            before,
        };
        if params.dry_run {
            return Ok(change);
        }
        if house.picture.system().standing.status == SystemStatus::Stopping {
            let text = "cannot change a module: the system is stopping";
            return Err(Refusal::new(RefusalCode::ShuttingDown, text));
        }
        let (published, noted) = oneshot::channel();
        house.switchboard.lifecycle.cast(LifecycleMsg::Wished {
            module,
            wish,
            actor,
            published,
        });
        soon(noted).await?;
        Ok(change)
    }

    /// What it takes along, and where the module stands now.
    pub(crate) fn result(&self, house: &House) -> ChangeResult {
        ChangeResult {
            steps: self.steps.clone(),
            module: view::module(house, self.module),
        }
    }

    /// Waits until it came to rest, at most as long as the module's own timeouts allow.
    pub(crate) async fn reached(&self, house: &House) {
        let spec = house.spec(self.module);
        let limit = spec.startup_timeout + spec.shutdown_timeout + WAIT_MARGIN;
        let at_rest = |now: &Snapshot| self.is_at_rest(now.state, now.generation);
        let _or_late = tokio::time::timeout(limit, seen(house, self.module, at_rest)).await;
    }

    fn is_at_rest(&self, state: State, generation: u64) -> bool {
        match self.wish {
            // Failed although it is wished down: it could not be ended.
            Operation::Stop => matches!(state, State::Stopped | State::NotStarted | State::Failed),
            Operation::Wake => !matches!(state, State::Waiting | State::Starting | State::Stopping),
            Operation::Start | Operation::Restart => {
                let renewed = self.wish == Operation::Start || generation > self.before;
                match state {
                    State::Running | State::Failed | State::Backoff => renewed,
                    // A finished task.
                    State::Stopped => generation > self.before,
                    _ => false,
                }
            }
        }
    }
}

/// Waits until the picture shows a module like this.
async fn seen(house: &House, module: ModuleId, like: impl Fn(&Snapshot) -> bool) {
    let mut edition = house.picture.edition();
    loop {
        edition.borrow_and_update();
        if like(&house.picture.module(module)) || edition.changed().await.is_err() {
            return;
        }
    }
}

async fn soon<T>(answer: oneshot::Receiver<T>) -> Result<T, Refusal> {
    match tokio::time::timeout(PUBLISH_TIMEOUT, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => {
            let text =
                "cannot tell what came of it: a part of mainstay is being restarted; ask again";
            Err(Refusal::new(RefusalCode::Busy, text))
        }
        Err(_) => Err(Refusal::new(
            RefusalCode::Timeout,
            "cannot get an answer in time",
        )),
    }
}

/// The newest lines of what a module wrote, oldest first.
pub(crate) async fn last_lines(
    house: &House,
    module: ModuleId,
    count: Option<usize>,
) -> Result<Vec<String>, Refusal> {
    let count = count.unwrap_or(LINES.0).min(LINES.1);
    let directory = &house.configuration.system.logs.directory;
    let path = directory.join(format!("{}.log", house.name(module)));
    tokio::task::spawn_blocking(move || crate::os::tail::last_lines(&path, count))
        .await
        .map_err(internal)?
        .map_err(internal)
}

/// The story of where a module stands.
pub(crate) async fn why(house: &Arc<House>, module: ModuleId) -> Result<Why, Refusal> {
    let view = view::module(house, module);
    let house = Arc::clone(house);
    let why = tokio::task::spawn_blocking(move || {
        crate::journal::why(house.chronicle.journal(), &view, house.os.wall_clock())
    });
    why.await.map_err(internal)
}

/// The configuration in force at or below a path, without what modules are given in confidence.
pub(crate) fn config_values(house: &House, path: &str) -> Result<Vec<ConfigValue>, Refusal> {
    let values = house.configuration.values(path);
    let mut values =
        values.map_err(|error| Refusal::new(RefusalCode::InvalidParams, error.to_string()))?;
    for value in &mut values {
        let mut keys = value.path.split('.').skip(2);
        if value.path.starts_with("module.") && matches!(keys.next(), Some("env" | "settings")) {
            (value.value, value.hidden) = (Value::Null, true);
        }
    }
    Ok(values)
}

/// Whom a module means, if it may call it.
pub(crate) fn callee(house: &House, caller: ModuleId, module: &str) -> Result<ModuleId, Refusal> {
    let callee = find(house, module)?;
    let may_call = &house.launch(caller).may_call;
    if may_call.iter().any(|name| name == module) {
        return Ok(callee);
    }
    let caller = house.name(caller);
    let text = format!("cannot let {caller} call {module}: add it to module.{caller}.may_call");
    Err(Refusal::new(RefusalCode::NotPermitted, text))
}

/// One module calls another. A call wakes a lazy module; what the call may take is all that is
/// waited for it.
pub(crate) async fn call_module(
    house: &House,
    callee: ModuleId,
    call: CallParams,
    limit: Duration,
) -> Result<Value, Refusal> {
    wake(house, callee, &call.from, limit).await;
    house.bus.call(&*house.os, callee, json!(call), limit).await
}

async fn wake(house: &House, callee: ModuleId, caller: &str, limit: Duration) {
    let runs = house.picture.module(callee).state == State::Running;
    if house.spec(callee).start != StartMode::Lazy || runs {
        return;
    }
    let (published, noted) = oneshot::channel();
    let change = Change {
        module: callee,
        wish: Operation::Wake,
        steps: Vec::new(),
        before: 0,
    };
    let wish = LifecycleMsg::Wished {
        module: callee,
        wish: change.wish,
        actor: format!("a call of {caller}"),
        published,
    };
    house.switchboard.lifecycle.cast(wish);
    let up = async {
        let _noted = noted.await;
        change.reached(house).await;
        tokio::select! {
            () = house.bus.arrived(callee) => {}
            () = seen(house, callee, |now| now.state != State::Running) => {}
        }
    };
    let _or_late = tokio::time::timeout(limit, up).await;
}
