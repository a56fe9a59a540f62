//! What good configurations are lowered to.
//! Owns the defaults as far as other parts rely on them.
//! Never repeats the table: the reference page shows it.

use std::time::Duration;

use mainstay_policy::spec::{
    DependencyCondition, Importance, Kind, ModuleId, OnDependencyRestart, Readiness, RestartPolicy,
    StartMode, Strategy,
};
use mainstay_process::{Probe, Signal};

use super::{Project, join, module};
use crate::config::{Configuration, LaunchSpec, LogFormat, Principal, ProbeKind};

fn launch(good: &Configuration) -> &LaunchSpec {
    &good.modules[0].1
}

#[test]
fn defaults_are_those_of_the_table() {
    let project = Project::of(&format!(
        "[mainstay]\nstate_dir = \"state\"\n{}",
        module("")
    ));
    let good = project.good();
    let (system, (spec, launch)) = (&good.system, &good.modules[0]);
    assert_eq!(system.name, "mainstay");
    assert_eq!(system.state_dir, project.path("state"));
    assert_eq!(system.logs.directory, project.path("state/logs"));
    assert_eq!((system.logs.max_bytes, system.logs.keep), (10 << 20, 5));
    assert_eq!(system.logs.format, LogFormat::Text);
    assert_eq!(system.ipc.admins, [Principal::User]);
    assert_eq!(system.check_interval, Duration::from_secs(10));
    assert!(good.system_spec.parallel_startup);
    assert_eq!(good.system_spec.shutdown_timeout, Duration::from_secs(30));
    assert_eq!(good.system_spec.concurrent_restarts, 4);
    assert_eq!(
        (spec.kind, spec.start, spec.importance),
        (Kind::Service, StartMode::Eager, Importance::Normal)
    );
    assert!(spec.required && !spec.has_probes && spec.edges.is_empty());
    assert_eq!(spec.readiness, Readiness::Started);
    assert_eq!(spec.startup_timeout, Duration::from_secs(30));
    assert_eq!(spec.shutdown_timeout, Duration::from_secs(10));
    assert_eq!(spec.on_dependency_restart, OnDependencyRestart::Notify);
    let recovery = &spec.recovery;
    assert_eq!(recovery.restart, RestartPolicy::Always);
    assert_eq!(
        (recovery.max_attempts, recovery.window),
        (3, Duration::from_secs(300))
    );
    assert_eq!(recovery.backoff.floor, Duration::from_millis(50));
    assert_eq!(recovery.on_failure, [Strategy::Restart]);
    assert_eq!(recovery.clean_exit_codes, [0]);
    assert_eq!(
        recovery.probation.map(|times| times.max),
        Some(Duration::from_secs(300))
    );
    assert_eq!(launch.directory, project.path(""));
    assert_eq!(launch.stop_signal, Signal::TERMINATE);
    assert_eq!(launch.argv, ["a"]);
}

#[test]
fn a_task_is_not_restarted_unless_it_says_so() {
    let restart = |lines: &str| {
        let good = Project::of(&module(lines)).good();
        good.modules[0].0.recovery.restart
    };
    assert_eq!(restart("kind = \"task\""), RestartPolicy::Never);
    let said = "kind = \"task\"\nrecovery.restart = \"on_failure\"";
    assert_eq!(restart(said), RestartPolicy::OnFailure);
}

#[test]
fn every_readiness_has_its_form() {
    for (text, expected) in [
        ("\"started\"", Readiness::Started),
        (
            "{ settle = \"1s\" }",
            Readiness::Settle(Duration::from_secs(1)),
        ),
        ("{ notify = true }", Readiness::Notify),
        ("{ log = \"^up\" }", Readiness::Log("^up".into())),
        ("{ fd = 3 }", Readiness::Fd(3)),
        (
            "{ tcp = \"127.0.0.1:9\" }",
            Readiness::Probe(Probe::Tcp("127.0.0.1:9".into())),
        ),
        (
            "{ unix = \"/s\" }",
            Readiness::Probe(Probe::Unix("/s".into())),
        ),
        (
            "{ exec = [\"true\"] }",
            Readiness::Probe(Probe::Exec(vec!["true".into()])),
        ),
        (
            "{ file = \"/f\" }",
            Readiness::Probe(Probe::File("/f".into())),
        ),
        (
            "{ grpc = \"a:1/b.C\" }",
            Readiness::Probe(Probe::Grpc("a:1/b.C".into())),
        ),
        (
            "{ http = \"http://a:1/x\", status = 204 }",
            Readiness::Probe(Probe::Http {
                url: "http://a:1/x".into(),
                status: 204,
            }),
        ),
    ] {
        let good = Project::of(&module(&format!("ready = {text}"))).good();
        assert_eq!(good.modules[0].0.readiness, expected);
    }
}

#[test]
fn probes_have_roles_and_say_who_may_hold_their_port() {
    use mainstay_process::{ListenerOwner, ProbeRole};
    let project = Project::of(
        "[module.a]\ncommand = [\"x\"]\nready = { tcp = \"h:1\", owner = \"any\" }\n\
         health.probes = [{ http = \"http://h/\", role = \"startup\", timeout = \"1s\" }, \
         { grpc = \"h:2\", role = \"readiness\", owner = \"any\", adaptive = false }, \
         { watchdog = \"8766h\" }]",
    );
    let good = project.good();
    let (spec, launch) = &good.modules[0];
    assert!(spec.has_startup_probes && spec.has_readiness_probes && spec.has_probes);
    assert_eq!(launch.ready_owner, ListenerOwner::Any);
    let probes = &launch.probes;
    let roles = [
        ProbeRole::Startup,
        ProbeRole::Readiness,
        ProbeRole::Liveness,
    ];
    assert!(probes.iter().map(|probe| probe.role).eq(roles));
    assert_eq!(probes[0].owner, ListenerOwner::Module);
    assert_eq!(probes[1].owner, ListenerOwner::Any);
    assert!(probes[0].adaptive && !probes[1].adaptive);
    assert_eq!(spec.watchdog, Some(Duration::from_hours(8766)), "a year");
}

#[test]
fn probes_take_their_rates_from_the_nearest() {
    let text = "[health]\ninterval = \"9s\"\ntimeout = \"8s\"\n[module.a]\ncommand = [\"a\"]\n\
                [module.a.health]\ntimeout = \"7s\"\nunhealthy_threshold = 5\nprobes = [{ exec = [\"./c\"], \
                unhealthy_threshold = 6 }, { watchdog = \"2s\" }, { sdk = true }]\n";
    let project = Project::of(text);
    let good = project.good();
    let probes = &launch(&good).probes;
    assert_eq!(
        probes[0].check,
        ProbeKind::Probe(Probe::Exec(vec![join(&project.path(""), "c")]))
    );
    let rates = (probes[0].interval.as_secs(), probes[0].timeout.as_secs());
    assert_eq!((rates, probes[0].unhealthy_threshold), ((9, 7), 6));
    assert_eq!(
        (&probes[2].check, probes[2].unhealthy_threshold),
        (&ProbeKind::Sdk, 5)
    );
    assert_eq!(good.modules[0].0.watchdog, Some(Duration::from_secs(2)));
    assert!(good.modules[0].0.has_probes);
}

#[test]
fn paths_and_variables_are_resolved() {
    let lines = "directory = \"sub\"\nenv = { A = \"${project}/x\", B = \"$${project}\" }\n\
                 settings = { path = \"${state_dir}\", list = [1, 2.5, { on = true }] }\n\
                 ready = { unix = \"s.sock\" }\nbefore_start = [[\"./migrate\", \"./arg\"]]\n";
    let project = Project::of(&format!(
        "[mainstay]\nstate_dir = \"st\"\n{}",
        module(lines)
    ));
    let good = project.good();
    let (root, launch) = (project.path(""), launch(&good));
    assert_eq!(launch.directory, project.path("sub"));
    assert_eq!(launch.env[0].1, join(&root, "x"));
    assert_eq!(launch.env[1].1, "${project}");
    assert_eq!(
        launch.before_start,
        [vec![join(&root, "sub/migrate"), "./arg".to_owned()]]
    );
    assert_eq!(
        good.modules[0].0.readiness,
        Readiness::Probe(Probe::Unix(join(&root, "sub/s.sock")))
    );
    let expected =
        serde_json::json!({ "path": join(&root, "st"), "list": [1, 2.5, { "on": true }] });
    assert_eq!(serde_json::Value::from(launch.settings.clone()), expected);
}

#[test]
fn edges_refer_by_slot_and_a_first_plan_gives_slots_in_the_order_of_names() {
    let text = "[module.z]\ncommand = [\"z\"]\nrequires = [\"m\", { module = \"b\", until = \"completed\" }]\n\
                wants = [{ module = \"event-bus\", until = \"started\" }]\n\
                [module.m]\ncommand = [\"m\"]\n[module.b]\ncommand = [\"b\"]\nkind = \"task\"\n";
    let good = Project::of(text).good();
    let names: Vec<&str> = good
        .modules
        .iter()
        .map(|(spec, _)| spec.name.as_str())
        .collect();
    assert_eq!(names, ["b", "event-bus", "m", "z"]);
    let edges: Vec<(ModuleId, bool, DependencyCondition)> = good.modules[3]
        .0
        .edges
        .iter()
        .map(|edge| (edge.to, edge.hard, edge.until))
        .collect();
    let expected = [
        (ModuleId(2), true, DependencyCondition::Ready),
        (ModuleId(0), true, DependencyCondition::Completed),
        (ModuleId(1), false, DependencyCondition::Started),
    ];
    assert_eq!(edges, expected);
    assert_eq!(good.modules[3].1.may_call, ["m", "b", "event-bus"]);
    assert_eq!(good.waves(), [vec!["b", "event-bus", "m"], vec!["z"]]);
}

/// The configuration that follows another: what had a slot keeps it, whatever its name's place.
#[test]
fn the_next_configuration_keeps_the_slots_of_the_one_before() {
    let module = |name: &str, rest: &str| format!("[module.{name}]\ncommand = [\"x\"]\n{rest}");
    let first = Project::of(&(module("b", "") + &module("z", "requires = [\"b\"]\n"))).good();
    let (b, z) = (first.ids.find("b"), first.ids.find("z"));
    let second = Project::of(&(module("a", "") + &module("z", "requires = [\"a\"]\n")));
    let second = crate::config::load_onto(&second.sources, &first).expect("good");
    let a = second.ids.find("a").expect("a slot");
    assert_eq!((second.ids.find("b"), second.ids.find("z")), (b, z));
    assert!(Some(a) > z, "no slot is used again");
    let names: Vec<&str> = second.modules.iter().map(|(spec, _)| &*spec.name).collect();
    assert_eq!(names, ["a", "event-bus", "z"]);
    let (spec, _) = z.and_then(|id| second.module(id)).expect("z");
    assert_eq!((spec.id, spec.edges[0].to), (z.unwrap_or_default(), a));
    assert!(b.is_some_and(|id| second.module(id).is_none()), "b is gone");
}
