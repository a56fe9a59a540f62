//! Bad values and keys: each is reported with its location, its line and what to do.
//! Owns the list of what people get wrong.
//! Never checks whole messages where a part decides.

use super::{Project, assert_has, module, problem};

#[test]
fn a_problem_shows_place_line_mark_and_advice() {
    let text = problem("[mainstay]\nname = \"x\"\n\n[module.a]\ncommand = [\"a\"]\nrequire = []\n");
    let expected = "config/mainstay.toml:6:1: cannot use module.a.require: there is no such key\n   \
                    |\n 6 | require = []\n   | ^^^^^^^\n   = did you mean `requires`?";
    assert_eq!(text, expected);
}

#[test]
fn unknown_keys_suggest_what_was_meant() {
    for (text, hint) in [
        ("[helth]\ninterval = \"1s\"", "did you mean `health`?"),
        ("[modules.a]\ncommand = [\"a\"]", "did you mean `module`?"),
        (
            "[mainstay]\nparallel = true",
            "did you mean `parallel_startup`?",
        ),
        ("[module.a]\ncomand = [\"a\"]", "did you mean `command`?"),
        (
            "[recovery]\nmax_atempts = 1",
            "did you mean `max_attempts`?",
        ),
        (
            "[recovery]\nbackoff = { inital = \"1s\" }",
            "did you mean `initial`?",
        ),
        (
            &module("max_attempts = 1"),
            "`max_attempts` belongs in [module.a.recovery]",
        ),
        ("interval = \"1s\"", "`interval` belongs in [health]"),
        ("command = [\"a\"]", "`command` belongs in [module.NAME]"),
        (
            "[health]\nxyzzy = 1",
            "`mainstay check --schema` lists every key",
        ),
        (&module("ready = { tpc = \"a:1\" }"), "did you mean `tcp`?"),
    ] {
        assert_has(&problem(text), &[hint, "there is no such key"]);
    }
}

#[test]
fn what_is_not_built_is_refused() {
    let problem = problem(&module("replicas = 2"));
    assert_has(&problem, &["module.a.replicas", "not available yet"]);
}

#[test]
fn secrets_stand_in_their_section_and_a_plain_one_is_not_shown() {
    for (text, parts) in [
        (
            module("env.PASSWORD = \"age:xyz\""),
            &["module.a.env.PASSWORD", "secrets belong in [secrets]"][..],
        ),
        (
            module("secrets = [\"b\"]"),
            &["the secret \"b\"", "`mainstay secret set b`"],
        ),
        (
            format!(
                "[secrets]\nbee = \"age:x\"\n{}",
                module("secret_env.B = \"be\"")
            ),
            &["did you mean \"bee\"?"],
        ),
    ] {
        assert_has(&problem(&text), parts);
    }
    for plain in ["\"hunter2\"", "472951", "[\"hunter2\"]"] {
        let shown = problem(&format!("[secrets]\nb = {plain}")).to_string();
        assert!(shown.contains("secrets.b: it is not encrypted"), "{shown}");
        let leaks = shown.contains("hunter2") || shown.contains("472951");
        assert!(!leaks, "{shown}");
    }
    let good = module("secrets = [\"b\"]\nenv.F = \"${secrets_dir}/b\"");
    let project = Project::of(&format!("[secrets]\nb = \"age:x\"\n{good}"));
    let (_, launch) = &project.good().modules[0];
    assert!(
        launch.env[0].1.ends_with("/secrets/a/b"),
        "{:?}",
        launch.env
    );
}

#[test]
fn wrong_values_of_the_system_say_what_is_expected() {
    for (text, parts) in [
        (
            "[mainstay]\nname = 5",
            &["cannot use 5 for mainstay.name", "a name of a-z"][..],
        ),
        ("[mainstay]\nname = \"A b\"", &["a name of a-z"]),
        ("mainstay = 5", &["a table with any of name"]),
        (
            "[health]\ninterval = \"10\"",
            &["cannot use \"10\" for health.interval", "a duration"],
        ),
        ("[health]\ninterval = 10", &["write the unit: \"10s\""]),
        ("[health]\ninterval = \"0s\"", &["a duration above zero"]),
        ("[health]\ninterval = \"-5s\"", &["a duration above zero"]),
        (
            "[health]\nunhealthy_threshold = 0",
            &["a whole number from 1"],
        ),
        (
            "[health]\nunhealthy_threshold = \"3\"",
            &["without quotes: 3"],
        ),
        ("[recovery]\nauto = \"true\"", &["without quotes: true"]),
        ("[recovery]\nmax_attempts = -1", &["a whole number from 0"]),
        ("[recovery]\nbackoff.factor = 0.5", &["a number from 1"]),
        (
            "[recovery]\nbackoff.jitter = 1.5",
            &["a number from 0 to 1"],
        ),
        (
            "[recovery]\nbackoff = { jitter = nan }",
            &["a number from 0 to 1"],
        ),
        (
            "[recovery]\nbackoff = { initial = \"20s\" }",
            &["`initial` is more than `max`"],
        ),
        ("[recovery]\nprobation = \"of\"", &["did you mean \"off\"?"]),
        (
            &module("renamed_from = \"a\""),
            &["cannot use module.a.renamed_from: that is its own name"],
        ),
        (
            &module("renamed_from = \"event-bus\""),
            &["event-bus is the runtime's own module"],
        ),
        ("[recovery]\non_failure = []", &["the ladder is empty"]),
        (
            "[recovery]\non_failure = [\"stop\", \"restart\"]",
            &["put \"stop\" last"],
        ),
        ("[ipc]\nadmins = [\"root\"]", &["\"group:NAME\""]),
        ("[ipc]\nadmins = \"user\"", &["in brackets: [\"user\"]"]),
        (
            "[logs]\nmax_bytes = \"10 MX\"",
            &["a size above zero such as \"10MiB\""],
        ),
        ("[logs]\nmax_bytes = 0", &["a size above zero"]),
    ] {
        assert_has(&problem(text), parts);
    }
}

#[test]
fn an_isolation_that_cannot_be_is_refused() {
    let hidden = "directory = \"/tmp/x\"\nisolation.private_tmp = true";
    assert_has(&problem(&module(hidden)), &["a /tmp of its own", "/tmp/x"]);
    let unknown = "isolation.capabilities = [\"CAP_FLY\"]";
    assert_has(
        &problem(&module(unknown)),
        &["CAP_FLY", "no such capability"],
    );
    let beyond = "limits.cpu_affinity = [2000]";
    assert_has(&problem(&module(beyond)), &["limits.cpu_affinity"]);
}

#[test]
fn limits_of_nothing_and_below_are_refused() {
    for (key, values) in [
        ("cpu_percent", &["0", "-1", "0.0", "1e12", "\"20%\""][..]),
        ("memory_mb", &["0", "-5", "1000000001", "1.5"]),
        ("threads", &["0", "-1"]),
        ("processes", &["0", "-1"]),
        ("io_mb_per_s", &["0", "-1"]),
        ("file_handles", &["0", "-1", "7"]),
        ("nice", &["20", "-21"]),
        ("oom_score_adj", &["1001", "-1001"]),
        ("cpu_affinity", &["[-1]", "[1024]", "0"]),
    ] {
        for value in values {
            let text = module(&format!("limits.{key} = {value}"));
            assert_has(&problem(&text), &[&format!("module.a.limits.{key}")]);
        }
    }
}

#[test]
fn a_probe_without_sense_says_why() {
    for (text, parts) in [
        (
            &module("health.probes = [{ watchdog = \"1s\", role = \"readiness\" }]"),
            &["a watchdog has no such role"][..],
        ),
        (
            &module("health.probes = [{ sdk = true, role = \"startup\" }]"),
            &["an sdk probe has no such role"],
        ),
        (
            &module("health.probes = [{ tcp = \"a:1\", role = \"startup\", interval = \"1s\" }]"),
            &["cannot use interval in", "its role is startup"],
        ),
        (
            &module("health.probes = [{ watchdog = \"0s\" }]"),
            &["module.a.health.probes.watchdog"],
        ),
        (
            &module("health.probes = [{ exec = [\"true\"], owner = \"any\" }]"),
            &["`owner` belongs to"],
        ),
        (
            &module("kind = \"task\"\nhealth.probes = [{ tcp = \"a:1\", role = \"readiness\" }]"),
            &["a task is never ready"],
        ),
    ] {
        assert_has(&problem(text), parts);
    }
}

#[test]
fn wrong_values_of_a_module_say_what_is_expected() {
    let cases: &[(&str, &[&str])] = &[
        (&module("start = \"eagre\""), &["did you mean \"eager\"?"]),
        (
            &module("stop_signal = \"SIGFOO\""),
            &["a signal that can ask to stop"],
        ),
        (
            &module("stop_signal = \"SIGSTOP\""),
            &["a signal that can ask to stop"],
        ),
        (
            &module("ready = \"redy\""),
            &["\"started\" or a table with any of notify"],
        ),
        (
            &module("ready = { notify = true, settle = \"1s\" }"),
            &["notify and settle at once"],
        ),
        (
            &module("ready = { status = 200 }"),
            &["exactly one of notify"],
        ),
        (
            &module("ready = { tcp = \"9000\" }"),
            &["module.a.ready.tcp: it has no port", "host:port"],
        ),
        (
            &module("ready = { tcp = \"127.0.0.1:99999\" }"),
            &["module.a.ready.tcp: its port is no number from 1 to 65535"],
        ),
        (
            &module("ready = { http = \"http://:80\" }"),
            &["module.a.ready.http: it is no URL"],
        ),
        (
            &module("ready = { http = \"https://a/\" }"),
            &["only plain http"],
        ),
        (
            &module("ready = { fd = 2 }"),
            &["a whole number from 3 to 255"],
        ),
        (
            &module("ready = { log = \"(\" }"),
            &["as a regular expression"],
        ),
        (
            &module("health.probes = [{ role = \"liveness\" }]"),
            &["exactly one of sdk"],
        ),
        (
            &module("health.probes = [{ sdk = true }, { sdk = true }]"),
            &["two sdk probes"],
        ),
        (
            &module("requires = [{ until = \"ready\" }]"),
            &["`module` is missing"],
        ),
        (
            &module("env = { A = 1 }"),
            &["cannot use 1 for module.a.env.A", "text"],
        ),
        (
            &module("env = { \"A=B\" = \"1\" }"),
            &["cannot name a variable"],
        ),
        (
            &module("before_start = [\"./migrate\"]"),
            &["for instance [\"./migrate\"]"],
        ),
        (
            &module("limits.file_handles = 0"),
            &["a whole number from 8"],
        ),
        (
            "[module.a]\ncommand = \"run me\"",
            &["for instance [\"run\", \"me\"]"],
        ),
        ("[module.a]\ncommand = []", &["program and arguments"]),
        (
            "[module.a]\ncommand = [\"\", \"\"]",
            &["module.a.command: its first text is empty"],
        ),
        ("[module.a]\ncommand = [\"a\\u0000\"]", &["a NUL character"]),
        (
            "[module.a]\ndescription = \"x\"",
            &["cannot start module a: it has no command"],
        ),
        (
            "[module.\"A b\"]\ncommand = [\"a\"]",
            &["cannot name a module \"A b\""],
        ),
        ("[module]\na = 5", &["cannot use 5 for module.a"]),
    ];
    for &(text, parts) in cases {
        assert_has(&problem(text), parts);
    }
}

#[test]
fn variables_must_be_known() {
    for (text, parts) in [
        (
            "env.A = \"${projct}\"",
            &["no such variable", "did you mean ${project}?"][..],
        ),
        (
            "env.A = \"${HOME}\"",
            &["no such variable", "`$${` is a plain `${`"],
        ),
        ("env.A = \"${module_dir}\"", &["this module has none"]),
        ("env.A = \"${project\"", &["is never closed"]),
    ] {
        assert_has(&problem(&module(text)), parts);
    }
    let early = problem("[mainstay]\nstate_dir = \"${runtime_dir}/s\"");
    assert_has(
        &early,
        &[
            "cannot use ${runtime_dir} in mainstay.state_dir",
            "not known here yet",
        ],
    );
}

#[test]
fn all_problems_come_at_once_in_the_order_of_the_files() {
    let project = Project::new(&[
        (
            "config/mainstay.toml",
            "[mainstay]\nmodules = [\"../m/*\"]\nnam = \"x\"\n[health]\ninterval = 1\ntimeout = 2\n",
        ),
        ("config/conf.d/a.toml", "[logs]\nkep = 1\n"),
        ("m/one/module.toml", "start = 5\n"),
        ("m/two/module.toml", "command = [\"a\"]\nwants = [\"on\"]\n"),
    ]);
    let problems = project.bad();
    let places: Vec<&str> = problems
        .iter()
        .map(|problem| problem.split(": ").next().unwrap_or_default())
        .collect();
    let expected = [
        "config/conf.d/a.toml:2:1",
        "config/mainstay.toml:3:1",
        "config/mainstay.toml:5:12",
        "config/mainstay.toml:6:11",
        "m/one/module.toml:1:1",
        "m/one/module.toml:1:9",
        "m/two/module.toml:2:10",
    ];
    assert_eq!(places, expected, "{problems:#?}");
}

#[test]
fn many_problems_are_counted_and_quick() {
    let text: String = (0..20_000)
        .map(|number| format!("k{number} = 1\n"))
        .collect();
    let problems = Project::of(&text).load().expect_err("a bad configuration");
    assert_eq!(problems.count(), 20_000);
    assert_eq!(problems.problems.len(), crate::config::MAX_PROBLEMS);
    assert!(problems.to_string().ends_with("and 19900 more"));
}

#[test]
fn problems_can_be_read_by_programs() {
    let problems = Project::of("[helth]\n")
        .load()
        .expect_err("a bad configuration");
    let json = serde_json::to_value(&problems).expect("JSON");
    let first = &json["problems"][0];
    assert_eq!(first["place"]["name"], "config/mainstay.toml");
    assert_eq!(first["place"]["line"], 1);
    assert_eq!(first["hint"], "did you mean `health`?");
    assert_eq!(first["excerpt"]["text"], "[helth]");
}

#[test]
fn a_module_that_takes_the_runtimes_name() {
    let project = Project::of("[module.mainstay]\ncommand = [\"a\"]\n");
    let problems = project.load().expect_err("the name is taken");
    assert!(
        problems.to_string().contains("the runtime's own"),
        "{problems}"
    );
}

#[test]
fn keys_and_commands_of_other_supervisors_are_translated() {
    for (key, hint) in [
        ("depends_on = [\"b\"]", "did you mean `requires`?"),
        ("working_dir = \"/\"", "did you mean `directory`?"),
        (
            "restart = \"always\"",
            "`restart` belongs in [module.a.recovery]",
        ),
        ("requirs = []", "did you mean `requires`?"),
    ] {
        let told = Project::of(&module(key)).problem();
        assert_has(&told, &[hint]);
    }
    let told = Project::of("[module.a]\ncommand = [\"sleep 1000\"]\n").problem();
    assert_has(
        &told,
        &["mainstay.toml:2:", "did you mean [\"sleep\", \"1000\"]?"],
    );
    let program = "[module.a]\ncommand = [\"./my program\"]\n";
    Project::of(program).good();
}

#[test]
fn a_module_that_would_settle_after_its_start_timed_out_is_refused_with_both_places() {
    let text = module("ready = { settle = \"2s\" }\nstartup_timeout = \"1s\"");
    assert_has(
        &problem(&text),
        &[
            "mainstay.toml:3:20: cannot use module.a.ready.settle: a would never be ready",
            "mainstay.toml:4:",
            "startup_timeout is 1 s",
            "make startup_timeout longer than 2 s",
        ],
    );
    let text = module("ready = { settle = \"30s\" }");
    assert_has(&problem(&text), &["startup_timeout, the default"]);
}

#[test]
fn what_starts_with_the_system_is_not_stopped_when_idle() {
    for (words, parts) in [
        (
            "idle_stop = \"10m\"",
            &[
                "module.a.idle_stop: nothing starts it again",
                "start = \"lazy\"",
            ][..],
        ),
        (
            "idle_stop = \"10m\"\nstart = \"lazy\"\nkind = \"task\"",
            &["module.a.idle_stop: it is no service", "leave it out"],
        ),
        (
            "idle_stop = \"0s\"\nstart = \"lazy\"",
            &["module.a.idle_stop"],
        ),
    ] {
        assert_has(&problem(&module(words)), parts);
    }
}
