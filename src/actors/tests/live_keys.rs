//! Every key of class live is applied in place: read from the schema, changed, and looked for
//! where it is used.
//! Owns which part uses which key. Never passes a key that it does not know.

use super::*;
use crate::actors::config::edit::ConfigEdit;
use crate::actors::config::{ReloadOutcome, ReloadReply};
use crate::config::json_schema;
use crate::secrets::{Secret, SecretKeys};
use serde_json::Value;

const BASE: &str = "reload_watch = \"0s\"\n\
    [module.one]\ncommand = [\"one\"]\nhealth.probes = [{ exec = [\"check\"] }]\n\
    [module.two]\ncommand = [\"two\"]\n\
    [module.late]\ncommand = [\"late\"]\nstart = \"lazy\"\nsockets = { web = \"/tmp/late.sock\" }\n\
    [group.g]\nmembers = [\"two\"]\n\
    [features]\nf = true\n";

/// Where a key is looked for.
#[derive(Debug, Clone, Copy)]
enum Used {
    /// Policy and actors read it from the plan in force each time.
    BySystemPolicy,
    ByRuntime,
    /// They read it from what the module follows.
    ByModulePolicy,
    ByModuleActors,
    /// The same of a lazy module: no other can have the key.
    ByLazyActors,
    /// What has a copy is told: the last deed that begins with this.
    Told(&'static str),
    /// The features that a module has.
    ByFeatures,
    /// The modules that there are.
    AsModules,
}

impl Used {
    fn value(self, rig: &Rig) -> String {
        let one = rig.ctx.find("one").expect("a module");
        match self {
            Used::BySystemPolicy => format!("{:?}", rig.ctx.plan().system()),
            Used::ByRuntime => format!("{:?}", rig.ctx.configuration().system),
            Used::ByModulePolicy => format!("{:?}", rig.ctx.spec(one)),
            Used::ByModuleActors => format!("{:?}", rig.ctx.launch(one)),
            Used::ByLazyActors => {
                let late = rig.ctx.find("late").expect("a module");
                format!("{:?}", rig.ctx.launch(late))
            }
            Used::Told(what) => {
                let deeds = rig.os.deeds();
                let last = deeds.iter().rev().find(|deed| deed.starts_with(what));
                last.cloned().unwrap_or_default()
            }
            Used::ByFeatures => rig.ctx.features_text(one),
            Used::AsModules => {
                let plan = rig.ctx.plan();
                let names: Vec<&str> = plan.modules().map(|it| it.name.as_str()).collect();
                names.join(" ")
            }
        }
    }
}

/// Where a key of the system, or one of every module, is used.
fn used(path: &str) -> Option<Used> {
    let of_module = path.strip_prefix("module.one.");
    Some(match of_module.unwrap_or(path) {
        "mainstay.parallel_startup" | "mainstay.module_start_delay" => Used::BySystemPolicy,
        "mainstay.startup_timeout" | "recovery.concurrent_restarts" => Used::BySystemPolicy,
        "recovery.cascade.share" | "recovery.cascade.window" => Used::BySystemPolicy,
        "group.g.members" | "group.g.strategy" | "group.g.max_restarts" => Used::BySystemPolicy,
        "group.g.within" | "group.g.on_exceeded" => Used::BySystemPolicy,
        "mainstay.secret_key" | "mainstay.reload" | "mainstay.reload_watch" => Used::ByRuntime,
        "resources.check_interval" | "resources.throttle_threshold" => Used::ByRuntime,
        "resources.enforcement" | "ipc.requests_per_second" | "logs.format" => Used::ByRuntime,
        "logs.streams" => Used::ByRuntime,
        "chaos.allowed" | "forensics.keep" | "forensics.max_bytes" => Used::ByRuntime,
        "secrets.NAME" => Used::ByRuntime,
        "ipc.observers" | "ipc.operators" | "ipc.admins" => Used::Told("reconfigure"),
        "logs.max_bytes" | "logs.keep" => Used::Told("reconfigure"),
        "mainstay.shutdown_timeout" => Used::Told("reconfigure"),
        "mainstay.modules" => Used::AsModules,
        "features.NAME" => Used::ByFeatures,
        "health.interval" | "health.timeout" | "health.unhealthy_threshold" => Used::ByModuleActors,
        "health.healthy_threshold" | "health.initial_delay" => Used::ByModuleActors,
        "health.adaptive" | "health.probes" => Used::ByModuleActors,
        "recovery.auto" | "recovery.max_attempts" | "recovery.window" => Used::ByModulePolicy,
        "recovery.backoff.initial" | "recovery.backoff.factor" => Used::ByModulePolicy,
        "recovery.backoff.max" | "recovery.backoff.jitter" => Used::ByModulePolicy,
        "recovery.backoff.floor" | "recovery.stable_after" => Used::ByModulePolicy,
        "recovery.probation" | "recovery.on_failure" | "recovery.restart" => Used::ByModulePolicy,
        "recovery.clean_exit_codes" | "recovery.on_dependency_restart" => Used::ByModulePolicy,
        "recovery.reset.remove" | "recovery.reset.clear_queues" => Used::ByModuleActors,
        "recovery.degrade.disable" | "recovery.degrade.reduce_load" => Used::ByModuleActors,
        "resources.dwell" | "resources.release" | "resources.rungs" => Used::ByModulePolicy,
        "description" | "version" | "needs.memory_mb" | "needs.disk_mb" => Used::ByModuleActors,
        "stop_signal" | "reload_signal" | "reload_command" => Used::ByModuleActors,
        "may_call" | "before_start" | "after_stop" | "prewarm" => Used::ByModuleActors,
        "idle_stop" => Used::ByLazyActors,
        "watch" | "watch_ignore" => Used::ByModuleActors,
        "requires" | "wants" | "required" | "importance" | "ready" => Used::ByModulePolicy,
        "startup_timeout" | "shutdown_timeout" | "rungs" | "start" => Used::ByModulePolicy,
        "limits.memory_mb" => Used::ByModulePolicy,
        "renamed_from" => Used::AsModules,
        "limits.cpu_percent" | "limits.threads" => Used::Told("limit one"),
        "limits.processes" | "limits.io_mb_per_s" => Used::Told("limit one"),
        _ => return None,
    })
}

/// Values of keys whose form says too little.
const VALUES: &[(&str, &str)] = &[
    ("mainstay.modules", "[\"more/*\"]"),
    ("mainstay.secret_key", "\"other.key\""),
    ("recovery.backoff.floor", "\"70ms\""),
    ("recovery.probation", "\"off\""),
    ("recovery.on_failure", "[\"restart\", \"stop\"]"),
    ("recovery.degrade.disable", "[\"thumbnails\"]"),
    ("recovery.reset.remove", "[\"cache\"]"),
    ("resources.rungs", "[\"notice\"]"),
    ("rungs", "[\"notice\", \"stop\"]"),
    ("ipc.observers", "[\"any\"]"),
    ("ipc.operators", "[\"uid:7\"]"),
    ("ipc.admins", "[\"uid:7\"]"),
    ("features.NAME", "true"),
    ("requires", "[\"two\"]"),
    ("wants", "[\"two\"]"),
    ("may_call", "[\"two\"]"),
    ("ready", "{ settle = \"1s\" }"),
    ("health.probes", "[{ exec = [\"other\"] }]"),
    ("watch", "[\"*.py\"]"),
    ("watch_ignore", "[\"*.pyc\"]"),
    ("before_start", "[[\"first\"]]"),
    ("after_stop", "[[\"last\"]]"),
    ("prewarm", "[[\"warm\"]]"),
    ("reload_command", "[\"tell\"]"),
    ("stop_signal", "\"SIGINT\""),
    ("reload_signal", "\"SIGHUP\""),
    ("clean_exit_codes", "[0, 7]"),
    ("group.g.members", "[\"one\"]"),
    ("description", "\"another\""),
    ("version", "\"another\""),
    ("renamed_from", "\"late\""),
    ("mainstay.reload", "\"auto\""),
    ("group.g.on_exceeded", "\"shutdown\""),
    ("restart", "\"never\""),
];

/// A value of this form that is not the default.
fn other_value(path: &str, form: &Value, keys: &SecretKeys) -> String {
    if path == "secrets.NAME" {
        let sealed = keys.encrypt(&Secret::new(b"hush".to_vec()));
        return format!("{:?}", sealed.expect("a value"));
    }
    let short = path.strip_prefix("module.one.").unwrap_or(path);
    let known = VALUES.iter().find(|(key, _)| {
        let ends = short.strip_suffix(key);
        ends.is_some_and(|before| before.is_empty() || before == "recovery.")
    });
    if let Some((_, value)) = known {
        return (*value).to_owned();
    }
    let default = &form["default"];
    if let Some(words) = form["enum"].as_array() {
        let other = words.iter().find(|word| *word != default);
        return other.expect("another word").to_string();
    }
    match (form["type"].as_str(), form["examples"][0].as_str()) {
        (Some("boolean"), _) => (*default != Value::Bool(true)).to_string(),
        (Some("integer"), _) => (default.as_i64().unwrap_or(6) + 1).to_string(),
        (Some("number"), _) => (form["minimum"].as_f64().unwrap_or(0.0) + 0.25).to_string(),
        (Some("string"), Some("10s")) => "\"7s\"".to_owned(),
        (_, Some("10MiB")) => "\"3MiB\"".to_owned(),
        _ => panic!("{path} needs a value in VALUES: {form}"),
    }
}

/// The keys of class live in a part of the schema, each with its form.
fn live_keys(schema: &Value, part: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    if let Some(named) = part.get("additionalProperties").filter(|it| it.is_object()) {
        let (below, name) = match path {
            "module" => (&schema["$defs"]["module"], "one"),
            "group" => (named, "g"),
            _ => (named, "NAME"),
        };
        let path = format!("{path}.{name}");
        if below.get("properties").is_none() {
            return found.push((path, named.clone()));
        }
        return live_keys(schema, below, &path, found);
    }
    for (name, form) in part["properties"].as_object().into_iter().flatten() {
        let below = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        let is_open = path.is_empty() && form.get("additionalProperties").is_some();
        if form.get("properties").is_some() || is_open {
            live_keys(schema, form, &below, found);
        } else if form["x-change"] == "live" {
            found.push((below, form.clone()));
        }
    }
}

impl Rig {
    /// Requests one change, and waits until it is committed.
    async fn change(&self, edit: Option<ConfigEdit>, what: &str) -> Result<(), String> {
        let (reply, outcome) = self.request(edit).await;
        match reply {
            Ok(ReloadReply::Applied(_) | ReloadReply::Committing(_)) => {}
            other => return Err(format!("{what}: {other:?}")),
        }
        match outcome.await {
            Ok(ReloadOutcome::Committed) => Ok(()),
            other => Err(format!("{what}: {other:?}")),
        }
    }

    /// Sets a key: as a request, or in the file if only that can.
    async fn set(&self, path: &str, value: &str) -> Result<(), String> {
        let (before, after) = match path {
            "mainstay.modules" => ("[mainstay]\n", format!("[mainstay]\nmodules = {value}\n")),
            "module.one.renamed_from" => {
                let after = "[module.later]\nrenamed_from = \"late\"\n";
                ("[module.late]\n", after.to_owned())
            }
            _ => ("", String::new()),
        };
        let edit = before.is_empty().then(|| ConfigEdit::Set {
            path: path.to_owned(),
            value: value.to_owned(),
            persist: false,
        });
        if edit.is_none() {
            let file = self._dir.path().join("mainstay.toml");
            let text = std::fs::read_to_string(&file).expect("the configuration");
            std::fs::write(&file, text.replace(before, &after)).expect("a file");
        }
        self.change(edit, &format!("{path} = {value}")).await
    }

    async fn unset(&self, path: &str) -> Result<(), String> {
        let edit = match path {
            // What it renamed stays so.
            "mainstay.modules" | "module.one.renamed_from" => return Ok(()),
            _ => ConfigEdit::Unset {
                path: path.to_owned(),
                persist: false,
            },
        };
        self.change(Some(edit), path).await
    }

    /// What was done to processes.
    fn touched(&self) -> Vec<String> {
        let mut deeds = self.os.deeds();
        let is_of_a_process = |deed: &String| {
            let verb = deed.split(' ').next().unwrap_or_default();
            ["spawn", "signal", "kill", "tell", "forget"].contains(&verb)
        };
        deeds.retain(is_of_a_process);
        deeds
    }
}

#[tokio::test(start_paused = true)]
async fn every_live_key_is_applied_in_place_and_used() {
    let rig = Rig::start_with(&["cpu", "memory", "pids", "io"], BASE).await;
    let more = rig._dir.path().join("more/three");
    std::fs::create_dir_all(&more).expect("a folder");
    let three = "command = [\"three\"]\nstart = \"lazy\"\n";
    std::fs::write(more.join("module.toml"), three).expect("a file");
    let keys = SecretKeys::generate();
    keys.save(&rig._dir.path().join("state/secret.key"))
        .expect("a key");
    let schema = json_schema();
    let mut found = Vec::new();
    live_keys(&schema, &schema, "", &mut found);
    assert!(found.len() > 90, "{}", found.len());
    let mut wrong = Vec::new();
    for (path, form) in &found {
        let Some(used) = used(path) else {
            wrong.push(format!("{path}: say in `used` which part uses it"));
            continue;
        };
        let path = &match used {
            Used::ByLazyActors => path.replace(".one.", ".late."),
            _ => path.clone(),
        };
        let value = other_value(path, form, &keys);
        let (touched, before) = (rig.touched(), used.value(&rig));
        if let Err(error) = rig.set(path, &value).await {
            wrong.push(error);
            continue;
        }
        if rig.touched() != touched {
            wrong.push(format!("{path} = {value} touched a process"));
        }
        if used.value(&rig) == before {
            wrong.push(format!("{path} = {value} did not arrive: {used:?}"));
        }
        let waiting = &rig.ctx.configuration().waiting;
        if !waiting.is_empty() {
            wrong.push(format!("{path} waits for the next start"));
        }
        rig.unset(path).await.expect("applied");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn limits_and_a_shorter_interval_hold_at_once() {
    let rare = "[resources]\ncheck_interval = \"1h\"\n";
    let rig = Rig::start_with(&["cpu", "memory"], &format!("{BASE}{rare}")).await;
    rig.set("module.one.limits.cpu_percent", "64")
        .await
        .expect("applied");
    rig.until("the limit", |rig| {
        rig.os
            .deeds()
            .iter()
            .any(|deed| deed.starts_with("limit one"))
    })
    .await;
    let sampled = || rig.os.samples.load(Ordering::Relaxed);
    let before = sampled();
    rig.set("resources.check_interval", "\"5s\"")
        .await
        .expect("applied");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(sampled() > before);
}

#[tokio::test(start_paused = true)]
async fn a_module_that_becomes_lazy_starts_on_a_connection() {
    let rig = Rig::start(BASE).await;
    let listened = |rig: &Rig| {
        rig.os
            .deeds()
            .iter()
            .filter(|deed| *deed == "listen late")
            .count()
    };
    let before = listened(&rig);
    rig.set("module.late.start", "\"eager\"")
        .await
        .expect("applied");
    rig.set("module.late.start", "\"lazy\"")
        .await
        .expect("applied");
    assert!(listened(&rig) > before);
}
