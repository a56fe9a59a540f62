//! Imports of each kind of file, written and read again as a configuration.
//! Owns the samples in `samples/`, and what each becomes (`snapshots/`).
//! Never runs what it imported: `tests/it/import.rs` does.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::{Format, ImportError, import, usable_name};
use crate::config::{ConfigSources, load};

/// What the samples of these names become, as one text.
fn imported(samples: &[&str]) -> String {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/import/samples");
    let dir = tempfile::tempdir().expect("a folder");
    let project = dir.path().canonicalize().expect("a path");
    let files: Vec<PathBuf> = samples
        .iter()
        .map(|name| {
            let path = project.join(name);
            std::fs::copy(from.join(name), &path).expect("a copy");
            path
        })
        .collect();
    let found = import(&files, None).expect("an import");
    let config = project.join("config");
    let mut text = String::new();
    for (path, content) in found.files("app", &config) {
        let path_there = config.join(&path);
        std::fs::create_dir_all(path_there.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path_there, &content).expect("a file");
        let _ = writeln!(text, "==> {}\n{content}", path.display());
    }
    if let Err(problems) = load(&ConfigSources::folder(&config)) {
        panic!("{problems}\n{text}");
    }
    text.replace(&*project.to_string_lossy(), "PROJECT")
}

#[test]
fn a_procfile_is_modules() {
    insta::assert_snapshot!(imported(&["Procfile"]));
}

#[test]
fn a_compose_file_is_modules() {
    insta::assert_snapshot!(imported(&["compose.yml"]));
}

#[test]
fn a_process_compose_file_is_modules() {
    insta::assert_snapshot!(imported(&["process-compose.yaml"]));
}

#[test]
fn a_supervisor_file_is_modules() {
    insta::assert_snapshot!(imported(&["supervisord.conf"]));
}

#[test]
fn an_ecosystem_file_is_modules() {
    insta::assert_snapshot!(imported(&["ecosystem.json"]));
}

#[test]
fn service_units_are_modules_with_their_dependencies() {
    insta::assert_snapshot!(imported(&["web@1.service", "store.service"]));
}

#[test]
fn a_process_has_what_it_extends_and_runs_its_entrypoint() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("process-compose.yaml");
    let text = "processes:\n  base:\n    command: echo base\n    environment: [A=1, B=1]\n    \
        availability: {restart: exit_on_failure}\n  derived:\n    extends: base\n    \
        environment: [B=2]\n  top:\n    extends: derived\n    entrypoint: [ls, -l]\n    \
        command: unused\n  self:\n    extends: self\n    entrypoint: [ls]\n";
    std::fs::write(&path, text).expect("a file");
    let found = import(&[path], None).expect("an import");
    let of = |name: &str, key: &str| {
        let draft = found.modules.iter().find(|draft| draft.name == name);
        let value = draft.expect("a module").keys.get(key);
        value.map(toml::Value::to_string).unwrap_or_default()
    };
    assert_eq!(of("derived", "command"), of("base", "command"));
    for (key, value) in [("A", "1"), ("B", "2")] {
        let env = of("derived", "env");
        assert!(env.contains(&format!("{key} = \"{value}\"")), "{env}");
    }
    assert_eq!(of("self", "command"), "[\"ls\"]");
    // All of them end when one fails, so that each is required; of others none is.
    assert_eq!(
        (of("base", "required"), of("self", "required")),
        (String::new(), "false".into())
    );
}

#[test]
fn what_process_compose_does_unsaid_is_said() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("process-compose.yaml");
    let text = "processes:\n  a:\n    command: a\n    availability: {restart: on_failure}\n  \
        b:\n    command: b\n    is_dotenv_disabled: true\n    \
        availability: {restart: always, max_restarts: 2}\n";
    std::fs::write(&path, text).expect("a file");
    std::fs::write(dir.path().join(".env"), "PORT=1\n").expect("a file");
    let found = import(&[path], None).expect("an import");
    let keys = |name: &str| {
        let draft = found.modules.iter().find(|draft| draft.name == name);
        let keys = &draft.expect("a module").keys;
        let recovery = keys.get("recovery").expect("it is restarted").to_string();
        (keys.contains_key("env_file"), recovery)
    };
    let (has_env, recovery) = keys("a");
    assert!(
        has_env && recovery.contains("max_attempts = 0"),
        "{recovery}"
    );
    let (has_env, recovery) = keys("b");
    assert!(
        !has_env && recovery.contains("max_attempts = 2"),
        "{recovery}"
    );
}

#[test]
fn a_wrapper_and_a_namespace_are_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("process-compose.yaml");
    let text = "processes:\n  pg:\n    command: runuser -u postgres -- postgres -D data\n    \
        namespace: db\n  web:\n    command: ./web\n    namespace: default\n";
    std::fs::write(&path, text).expect("a file");
    let found = import(&[path], None).expect("an import");
    let notes = found.notes.iter().filter(|note| note.module.is_some());
    let notes: Vec<(usize, &str)> = notes.map(|note| (note.line, &*note.text)).collect();
    let wrapper = "its command runs by runuser, which may not pass the stop signal on: a stop then \
                   takes its whole shutdown_timeout; with user = \"postgres\" the command needs no \
                   runuser";
    assert_eq!(notes, [(2, wrapper), (4, "namespace is not kept")]);
}

#[test]
fn the_ways_to_reload_a_unit_are_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("a.service");
    let keys = |text: &str| {
        let unit = format!("[Service]\nExecStart=x\n{text}\n");
        std::fs::write(&path, unit).expect("a file");
        let found = import(std::slice::from_ref(&path), None).expect("an import");
        let keys = &found.modules[0].keys;
        let way = ["reload_signal", "reload_command"]
            .map(|key| keys.get(key).map(toml::Value::to_string));
        (way, found.notes.len())
    };
    let signal = |name: &str| ([Some(format!("{name:?}")), None], 0);
    for (text, expected) in [
        ("ExecReload=/bin/kill -HUP $MAINPID", signal("SIGHUP")),
        (
            "ExecReload=-/usr/bin/kill -s SIGUSR2 ${MAINPID}",
            signal("SIGUSR2"),
        ),
        ("ExecReload=kill -1 $MAINPID", signal("SIGHUP")),
        ("Type=notify-reload", signal("SIGHUP")),
        (
            "Type=notify-reload\nReloadSignal=SIGUSR1",
            signal("SIGUSR1"),
        ),
        ("ExecReload=x\nExecReload=", ([None, None], 0)),
        (
            "ExecReload=/usr/sbin/nginx -s reload",
            (
                [
                    None,
                    Some(r#"["/usr/sbin/nginx", "-s", "reload"]"#.to_owned()),
                ],
                0,
            ),
        ),
        ("ExecReload=/bin/tell $MAINPID", ([None, None], 1)),
        (
            "ExecReload=/bin/kill -HUP $MAINPID\nExecReload=/bin/wait-for-it",
            {
                let (way, _) = signal("SIGHUP");
                (way, 1)
            },
        ),
    ] {
        assert_eq!(keys(text), expected, "{text}");
    }
}

#[test]
fn what_cannot_be_read_names_the_line() {
    let dir = tempfile::tempdir().expect("a folder");
    let fails = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("a file");
        import(&[path], None).expect_err(text)
    };
    for (name, text, line) in [
        ("a.yml", "services:\n  a:\n    build: [\n", 4),
        (
            "a.yml",
            "services:\n  a: {command: x}\n  A: {command: x}\n",
            3,
        ),
        ("a.yml", "services:\n  a: {labels: []}\n", 2),
        ("a.yml", "services:\n  a: {command: '${X_NONE:?say}'}\n", 2),
        ("a.conf", "[program:a]\ncommand=%(here\n", 2),
        ("a.conf", "[program:a]\ncommand='x\n", 2),
        ("Procfile", "web: x\nnonsense\n", 2),
        ("a.service", "[Service]\nExecStart=x %i\n", 2),
        ("a.service", "[Service]\nRestart=no\n", 1),
    ] {
        let error = fails(name, text);
        assert!(
            matches!(&error, ImportError::Content { line: at, .. } if *at == line),
            "{name}: {text}: {error}"
        );
    }
    let unknown = fails("a.yaml", "a: 1\n");
    assert!(
        matches!(unknown, ImportError::UnknownFormat(_)),
        "{unknown}"
    );
    let empty = fails("Procfile", "# nothing\n");
    assert!(matches!(empty, ImportError::Empty(_)), "{empty}");
}

#[test]
fn a_tree_that_grows_by_its_aliases_is_refused() {
    let mut text = String::from("services:\n  a: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let alias = format!("*a{}, ", level - 1).repeat(10);
        let _ = writeln!(text, "  b{level}: &a{level} [{alias}]");
    }
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("a.yml");
    std::fs::write(&path, &text).expect("a file");
    let error = import(std::slice::from_ref(&path), None).expect_err("a bomb");
    assert!(error.to_string().contains("too large"), "{error}");
    std::fs::write(&path, "a: ".repeat(1000) + &"[".repeat(5000)).expect("a file");
    import(&[path], Some(Format::Compose)).expect_err("too deep");
}

#[test]
fn names_are_made_usable() {
    for (name, expected) in [
        ("Web.App", "web-app"),
        ("__pc_log", "pc_log"),
        ("", "module"),
        ("event-bus", "event-bus-1"),
        ("é", "module"),
    ] {
        assert_eq!(usable_name(name), expected);
    }
}
