//! Supervision groups, resets and degraded mode: what is lowered, and what is refused where.
//! Owns one row for each rule. Never runs a module.

use std::path::PathBuf;
use std::time::Duration;

use mainstay_policy::group::{GroupId, GroupMember, GroupSpec, GroupStrategy, OnExceeded};
use mainstay_policy::spec::Strategy;

use super::{Project, assert_has};

/// Modules a, b, c and what follows.
fn project(rest: &str) -> Project {
    let module = |name: &str| format!("[module.{name}]\ncommand = [\"true\"]\n");
    let modules: String = ["a", "b", "c"].map(module).concat();
    Project::of(&format!("{modules}{rest}"))
}

fn problem(rest: &str) -> String {
    project(rest).problem()
}

#[test]
fn groups_are_lowered_with_their_defaults() {
    let good = project(
        "[group.outer]\nmembers = [\"c\", \"group:inner\"]\nstrategy = \"rest_for_one\"\n\
         max_restarts = 0\nwithin = \"1m\"\non_exceeded = \"shutdown\"\n\
         [group.inner]\nmembers = [\"b\", \"a\"]\n",
    )
    .good();
    let module = |name| GroupMember::Module(good.ids.find(name).expect("a module"));
    let inner = GroupSpec {
        name: "inner".to_owned(),
        members: vec![module("b"), module("a")],
        strategy: GroupStrategy::OneForOne,
        max_restarts: 5,
        within: Duration::from_secs(30),
        on_exceeded: OnExceeded::Escalate,
    };
    let outer = GroupSpec {
        name: "outer".to_owned(),
        members: vec![module("c"), GroupMember::Group(GroupId(0))],
        strategy: GroupStrategy::RestForOne,
        max_restarts: 0,
        within: Duration::from_secs(60),
        on_exceeded: OnExceeded::Shutdown,
    };
    assert_eq!(good.system_spec.groups, [inner, outer]);
    let top = project("[group.g]\nmembers = [\"a\"]\n").good();
    assert_eq!(top.system_spec.groups[0].on_exceeded, OnExceeded::StopGroup);
}

#[test]
fn groups_that_cannot_be_are_refused_with_place_and_hint() {
    for (rest, parts) in [
        (
            "[group.g]\nmembers = [\"a\", \"b\"]\n[group.h]\nmembers = [\"b\"]\n",
            &[
                "10:12",
                "cannot form group h: b is in group g too",
                "one group at most",
                "8:17",
            ][..],
        ),
        (
            "[group.g]\nmembers = [\"a\", \"a\"]\n",
            &["it names a twice", "8:17"],
        ),
        (
            "[module.storage]\ncommand = [\"true\"]\n[group.g]\nmembers = [\"storag\"]\n",
            &[
                "there is no module \"storag\"",
                "did you mean \"storage\"?",
                "10:12",
            ],
        ),
        (
            "[group.g]\nmembers = [\"group:hh\"]\n[group.hhh]\nmembers = [\"a\"]\n",
            &["there is no group \"hh\"", "did you mean \"group:hhh\"?"],
        ),
        (
            "[group.g]\nmembers = [\"group:h\"]\n[group.h]\nmembers = [\"group:g\"]\n",
            &[
                "they contain each other",
                "g → h → g",
                "remove one of these members",
            ],
        ),
        (
            "[group.g]\nmembers = [\"group:g\"]\n",
            &["they contain each other", "g → g"],
        ),
        (
            "[group.g]\nmembers = [\"a\"]\non_exceeded = \"escalate\"\n",
            &[
                "cannot escalate from group g",
                "no group contains it",
                "9:15",
            ],
        ),
        ("[group.g]\nmembers = []\n", &["it has no members"]),
        (
            "[group.g]\nstrategy = \"all\"\nmembers = [\"a\"]\n",
            &["one_for_all"],
        ),
        (
            "[group.g]\nmembers = [\"event-bus\"]\n",
            &["runtime's own module"],
        ),
        ("[group.g]\nmember = [\"a\"]\n", &["did you mean `members`"]),
        ("[group.g]\nmembers = [\"A b\"]\n", &["it names no module"]),
    ] {
        assert_has(&problem(rest), parts);
    }
}

#[test]
fn resets_and_degraded_mode_are_lowered() {
    let project = Project::of(
        "[mainstay]\nstate_dir = \"${project}/state\"\n[module.a]\ncommand = [\"true\"]\n\
         [module.a.recovery]\n\
         on_failure = [\"restart\", \"restart_with_reset\", \"degrade\", \"restart_system\", \"stop\"]\n\
         reset = { remove = [\"${state_dir}/cache\", \"tmp/x\"], clear_queues = true }\n\
         degrade = { disable = [\"thumbnails\"], reduce_load = 0.5 }\n",
    );
    let good = project.good();
    let (spec, launch) = &good.modules[0];
    use Strategy::{Degrade, Restart, RestartSystem, RestartWithReset, Stop};
    let ladder = [Restart, RestartWithReset, Degrade, RestartSystem, Stop];
    assert_eq!(spec.recovery.on_failure, ladder);
    let (root, state) = (&good.system.project, &good.system.state_dir);
    let named = |root: &PathBuf, path: &str| (root.clone(), PathBuf::from(path));
    let remove = [named(state, "cache"), named(root, "tmp/x")];
    assert_eq!(launch.reset.remove, remove);
    assert!(launch.reset.clear_queues);
    assert_eq!(launch.degrade.disable, ["thumbnails"]);
    assert_eq!(launch.degrade.reduce_load, Some(0.5));
}

#[test]
fn a_reset_stays_inside_of_what_belongs_to_the_module() {
    for (path, why) in [
        ("/etc/passwd", "not inside of the state directory"),
        ("${state_dir}", "not inside of the state directory"),
        ("${state_dir}/../x", "not inside of the state directory"),
        ("${project}", "not inside of the state directory"),
        ("${state_dir}/journal.db", "mainstay's own"),
        ("${state_dir}/journal.db-wal", "mainstay's own"),
        ("${state_dir}/key", "mainstay's own"),
        ("${state_dir}/plans", "mainstay's own"),
        ("${state_dir}/staged.json", "mainstay's own"),
        ("${state_dir}/recovery/a", "mainstay's own"),
        ("${state_dir}/logs", "mainstay's own"),
        ("${state_dir}/logs/a.log", "mainstay's own"),
        ("config/mainstay.toml", "mainstay's own"),
        ("config", "mainstay's own"),
    ] {
        let text = format!(
            "[mainstay]\nstate_dir = \"/var/lib/x\"\n[module.a]\ncommand = [\"true\"]\n\
             [module.a.recovery]\nreset = {{ remove = [\"{path}\"] }}\n"
        );
        let problem = Project::of(&text).problem();
        assert_has(&problem, &["module.a.recovery.reset.remove", why, "6:"]);
    }
}
