//! Finding the instance: every place, in its order, on folders of the test's own.
//! Never reads this process's environment.

use super::*;

struct Place {
    folder: tempfile::TempDir,
    variables: Vec<(&'static str, String)>,
}

impl Place {
    fn new() -> Place {
        Place {
            folder: tempfile::tempdir().expect("a folder"),
            variables: Vec::new(),
        }
    }

    fn file(self, path: &str, text: &str) -> Place {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("created");
        std::fs::write(path, text).expect("written");
        self
    }

    fn variable(mut self, name: &'static str, value: &str) -> Place {
        self.variables.push((name, value.to_owned()));
        self
    }

    fn find(&self, global: &GlobalArgs) -> Result<SystemLocator, LocateError> {
        let find = |name: &str| {
            self.variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.into())
        };
        let around = ProcessEnvironment {
            variable: &find,
            current: self.folder.path().to_owned(),
            user_config: Some(self.folder.path().join("user")),
        };
        SystemLocator::find_in(global, &around)
    }

    fn name(&self, global: &GlobalArgs) -> String {
        self.find(global).expect("found").name
    }

    fn socket(&self) -> String {
        let socket = self.find(&GlobalArgs::default()).expect("found").socket;
        let below = socket.strip_prefix(self.folder.path()).unwrap_or(&socket);
        below.display().to_string()
    }
}

fn config(dir: &str) -> GlobalArgs {
    GlobalArgs {
        config: Some(dir.into()),
        ..GlobalArgs::default()
    }
}

fn named(name: &str) -> GlobalArgs {
    GlobalArgs {
        name: Some(name.to_owned()),
        ..GlobalArgs::default()
    }
}

#[test]
fn the_configuration_folder_is_looked_for_in_its_order() {
    let place = Place::new();
    assert_eq!(place.name(&GlobalArgs::default()), "mainstay");
    let place = place.file("user/mainstay.toml", "[mainstay]\nname = 'user'");
    assert_eq!(place.name(&GlobalArgs::default()), "user");
    let place = place.file("config/mainstay.toml", "[mainstay]\nname = 'here'");
    assert_eq!(place.name(&GlobalArgs::default()), "here");
    let place = place.file("other/mainstay.toml", "mainstay.name = 'variable'");
    let place = place.variable("MAINSTAY_CONFIG", "other");
    assert_eq!(place.name(&GlobalArgs::default()), "variable");
    let place = place.file("fourth/mainstay.toml", "[module.a]\ncommand = ['a']");
    assert_eq!(place.name(&config("fourth")), "mainstay");
    assert_eq!(place.name(&config("config")), "here");
}

#[test]
fn later_layers_win() {
    let place = Place::new()
        .file(
            "config/mainstay.toml",
            "[mainstay]\nname = 'file'\nruntime_dir = 'run'",
        )
        .file("config/conf.d/20.toml", "[mainstay]\nname = 'twenty'")
        .file(
            "config/conf.d/10.toml",
            "[mainstay]\nname = 'ten'\nruntime_dir = 'ten'",
        )
        .file("config/conf.d/90.txt", "not ours");
    let global = GlobalArgs::default();
    assert_eq!(place.name(&global), "twenty");
    assert_eq!(place.socket(), "ten/control.sock");
    let place = place
        .variable("MAINSTAY__MAINSTAY__NAME", "environment")
        .variable("MAINSTAY__MAINSTAY__RUNTIME_DIR", "${project}/elsewhere");
    assert_eq!(place.name(&global), "environment");
    assert_eq!(place.socket(), "elsewhere/control.sock");
    let both = GlobalArgs {
        name: Some("option".to_owned()),
        ..config("config")
    };
    assert_eq!(place.name(&both), "option");
}

#[test]
fn a_socket_wins_over_everything_and_lends_its_folder_s_name() {
    let place = Place::new()
        .file("config/mainstay.toml", "broken")
        .variable("MAINSTAY_CONTROL", "/a/b/c");
    assert_eq!(
        place.find(&GlobalArgs::default()).expect("found"),
        SystemLocator {
            name: "b".to_owned(),
            socket: "/a/b/c".into(),
            config_dir: None,
        }
    );
    let global = GlobalArgs {
        socket: Some("/x/control.sock".into()),
        ..named("app")
    };
    let found = place.find(&global).expect("found");
    assert_eq!(
        (&*found.name, found.socket),
        ("app", "/x/control.sock".into())
    );
}

#[test]
fn a_name_replaces_the_configured_one_and_needs_no_configuration() {
    let place = Place::new().file("config/mainstay.toml", "broken");
    assert_eq!(place.name(&named("app")), "app");
    let place = place.file(
        "config/mainstay.toml",
        "[mainstay]\nname = 'a'\nruntime_dir = 'run'",
    );
    let found = place.find(&named("app")).expect("found");
    assert_eq!(found.name, "app");
    assert_eq!(found.socket, place.folder.path().join("run/control.sock"));
}

#[test]
fn the_project_is_the_folder_around_the_configuration_however_it_is_written() {
    let text = "mainstay.runtime_dir = '${project}/a$${b}'";
    let place = Place::new()
        .file("x/config/mainstay.toml", text)
        .file("x/config/y/z", "");
    let found = place.find(&config("x/config/y/..")).expect("found");
    assert_eq!(
        found.socket,
        place.folder.path().join("x/a${b}/control.sock")
    );
}

#[test]
fn a_file_broken_elsewhere_still_tells_its_name() {
    let text = "# a comment\n [mainstay] # ours\nname = 'app'\n[module.x]\ncommand = [";
    let place = Place::new().file("config/mainstay.toml", text);
    assert_eq!(place.name(&GlobalArgs::default()), "app");
}

#[test]
fn what_cannot_be_told_is_said() {
    let said = |place: &Place, global: &GlobalArgs| match place.find(global) {
        Err(problem) => problem.to_string(),
        Ok(found) => panic!("{found:?}"),
    };
    let place = Place::new();
    assert!(said(&place, &config("nowhere")).starts_with("cannot find mainstay.toml in "));
    let place = place.file("config/mainstay.toml", "[mainstay]\nname = 3");
    let text = said(&place, &GlobalArgs::default());
    assert!(text.starts_with("cannot read [mainstay] in "), "{text}");
    assert!(text.ends_with("name the system with --name"), "{text}");
    let place = Place::new().file(
        "config/mainstay.toml",
        "mainstay.runtime_dir = '${state_dir}/r'",
    );
    assert!(said(&place, &GlobalArgs::default()).contains("--socket"));
}

#[cfg(unix)]
#[test]
fn when_nothing_listens_the_holder_s_last_words_are_passed_on() {
    let place = Place::new();
    let socket = place.folder.path().join("control.sock");
    let instance = SystemLocator {
        name: "app".to_owned(),
        socket: socket.clone(),
        config_dir: None,
    };
    let said = || {
        instance
            .connect()
            .map(|_| ())
            .expect_err("nobody there")
            .to_string()
    };
    let expected = format!(
        "cannot reach mainstay 'app': nothing listens on {}; start it with `mainstay up`",
        socket.display()
    );
    assert_eq!(said(), expected);
    let own = std::process::id();
    let holder = serde_json::json!({
        "pid": own, "runtime_pid": null, "state": "restarting", "restarts": 3,
        "since": "2026-11-20T12:00:00.000Z",
    });
    let place = place.file("holder.json", &holder.to_string());
    let note = format!(
        "{expected}\nits holder (pid {own}) last wrote: restarting since \
         2026-11-20T12:00:00.000Z, no runtime, restarted 3 times"
    );
    assert_eq!(said(), note);
    drop(place);
}

#[cfg(unix)]
#[expect(
    clippy::disallowed_methods,
    reason = "a process that nobody supervises"
)]
#[test]
fn a_process_that_is_gone_does_not_live() {
    assert!(lives(i32::try_from(std::process::id()).expect("small")));
    let mut child = std::process::Command::new("true").spawn().expect("started");
    let pid = i32::try_from(child.id()).expect("small");
    child.wait().expect("collected");
    assert!(!lives(pid));
    assert!(!lives(0), "that would be our whole group");
}

#[test]
fn who_cannot_be_reached_names_a_few_of_those_that_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let put = |name: &str, pid: u32| {
        let place = folder.path().join(name);
        std::fs::create_dir(&place).expect("a folder");
        let text = format!("{{\"pid\": {pid}, \"state\": \"running\"}}");
        std::fs::write(place.join("holder.json"), text).expect("a file");
    };
    put("gone", 0);
    assert_eq!(list_others(Some(folder.path()), "app"), "");
    put("app", std::process::id());
    put("web", std::process::id());
    let told = list_others(Some(folder.path()), "app");
    assert_eq!(
        told,
        "\nrunning under other names: web; name one with --name"
    );
    for more in ["a", "b", "c", "d", "e", "f"] {
        put(more, std::process::id());
    }
    let told = list_others(Some(folder.path()), "app");
    assert!(told.contains("names: a, b, c, d, e and 2 more;"), "{told}");
    assert_eq!(list_others(None, "app"), "");
}
