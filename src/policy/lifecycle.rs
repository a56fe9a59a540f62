//! All modules: who may start now, who falls and rises with whom, the ordered stop.
//! Owns wishes, attempts and order; calls `recovery::decide` inline.
//! Never runs or signals anything: it returns effects; never reads a clock.
// CONTRACT (types below are fixed; the implementer fills in states and logic).

pub enum Wish { Start, Stop, Restart }
pub enum Event {
    /// Wish up every eager module (and what it needs) and begin the first start.
    Boot,
    Wished { module: ModuleId, wish: Wish },
    /// Ordered stop of everything; `budget` replaces the configured one.
    StopAll { budget: Option<Duration> },
    /// From the module's own state machine.
    Reported { module: ModuleId, report: Report },
    /// From the health actor; `restart` = a liveness probe failed for good.
    Health { module: ModuleId, generation: u64, health: Health, restart: bool },
    /// The runtime returned; once per known module, before Boot/Resume.
    Adopted { module: ModuleId, record: Record /* see below */, alive: Option<Alive { generation, pid }> },
    /// After the Adopted events: go on from there instead of Boot.
    Resume,
    Woke,
}
pub enum Effect {
    Run { module: ModuleId, generation: u64 },
    Halt { module: ModuleId, generation: u64, grace: Duration },
    /// A dependent that goes on is told that `about` restarted / failed / is back.
    Tell { module: ModuleId, about: ModuleId, news: News /* Restarting, Back, Failed */ },
    /// A state change to publish and journal. `by` = the module that led to it.
    Moved { module: ModuleId, from: State, to: State, cause: Cause, by: Option<ModuleId> },
    /// A failure was judged: attempt n, next try after `delay` (None: given up, `probation` if any).
    Judged { module: ModuleId, failure: Failure, attempt: u32, verdict: Verdict },
    /// The first start is over: every eager module is ready, done, or (optional) failed.
    StartupCompleted,
    /// The first start failed: (CriticalModuleFailed{module} | TimedOut{missing}); what runs is being stopped.
    StartupFailed { reason: StartupFailure },
    /// Everything is down after StopAll (or a failed start). `forced` counts kills.
    AllStopped { forced: u32 },
}
// State, Cause, Health: policy's own enums with the words of DESIGN §3 (same order as protocol::words).
//
// impl Lifecycle {
//   pub fn new(plan: Plan, seed: u64) -> Lifecycle      // Plan: plan.rs
//   pub fn note(&mut self, now: Time, event: Event)
//   pub fn settle(&mut self, now: Time) -> Option<Effect>      // call until None; cost O(what changed), never O(all) per event
//   pub fn deadline(&self) -> Option<Time>
//   pub fn view(&self, module: ModuleId) -> View { state, wanted, since, cause, generation, pid, ready, attempts, restarts, waiting_on: Vec<ModuleId>, retry_at: Option<Time>, last_ending }
//   pub fn record(&self, module) -> Record      // what must survive the runtime: wanted, ready, attempts, rung, failed/backoff deadline, intent; small (≤ 512 bytes serialised by the actor)
//   pub fn system(&self) -> System { status, failing: Vec<ModuleId>, degraded: Vec<ModuleId>, starting: bool, stopping: bool }
//   pub fn preview(&self, module, wish) -> Vec<Step { module, action: Start|Stop|Restart|Tell, because: ModuleId }>   // dry run: what a wish takes along, in order
//   pub fn plan(&self) -> &Plan
// }
