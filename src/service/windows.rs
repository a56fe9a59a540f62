//! The service of Windows, and the commands that install it.
//! Owns its command line and the rules of quoting in it.
//! Never runs anything.

use std::path::Path;

use super::{Installation, PathError, Scope, ServiceCommand, ServiceSpec, text_of};

/// Where Windows keeps what `sc.exe` cannot set.
const REGISTRY: &str = r"HKLM\SYSTEM\CurrentControlSet\Services";
/// After a day without a failure the first delay counts again; in seconds.
const RESET_PERIOD: &str = "86400";
/// What follows the first, second and each later failure, delays in milliseconds.
const FAILURE_ACTIONS: &str = "restart/1000/restart/5000/restart/30000";

/// What Windows calls it.
pub(crate) fn service_name(spec: &ServiceSpec) -> String {
    format!("mainstay-{}", spec.name)
}

/// Everything that its installation does.
///
/// # Errors
/// A service for one user: Windows has none; a path that cannot be in a command line.
pub(crate) fn installation(spec: &ServiceSpec) -> Result<Installation, PathError> {
    if spec.scope == Scope::User {
        return Err(PathError::NoUserServices);
    }
    let name = service_name(spec);
    let line = command_line(spec)?;
    let title = format!("mainstay system {}", spec.name);
    let sc = |words: &[&str]| ServiceCommand::new(&[&["sc.exe"], words].concat());
    let window = spec.stop_window().as_millis().to_string();
    let key = format!(r"{REGISTRY}\{name}");
    let text = "Supervises the modules of its configuration";
    let define = vec![
        sc(&[
            "config",
            &name,
            "binPath=",
            &line,
            "start=",
            "auto",
            "DisplayName=",
            &title,
        ]),
        sc(&["description", &name, text]),
        sc(&[
            "failure",
            &name,
            "reset=",
            RESET_PERIOD,
            "actions=",
            FAILURE_ACTIONS,
        ]),
        sc(&["failureflag", &name, "1"]),
        // How long Windows waits for it at a shutdown.
        ServiceCommand::new(&[
            "reg.exe",
            "add",
            &key,
            "/v",
            "PreshutdownTimeout",
            "/t",
            "REG_DWORD",
            "/d",
            &window,
            "/f",
        ]),
    ];
    let mut start = vec![
        // It may be there already: what follows brings it up to date.
        sc(&["create", &name, "binPath=", &line, "start=", "auto"]).may_fail(),
    ];
    start.extend(define.iter().cloned());
    start.push(sc(&["start", &name]));
    Ok(Installation {
        directories: vec![spec.state_dir.clone(), spec.log_dir.clone()],
        files: Vec::new(),
        start,
        refresh: define,
        stop: vec![
            sc(&["stop", &name]).may_fail(),
            sc(&["delete", &name]).may_fail(),
        ],
        links: Vec::new(),
        clean: Vec::new(),
        surrounding: None,
        rights: vec!["it runs as LocalSystem from the boot on, and so does each module".to_owned()],
        unit: name,
    })
}

/// The command line of the service. The directories are named: those of LocalSystem are others.
fn command_line(spec: &ServiceSpec) -> Result<String, PathError> {
    let mut words = spec.command(&["service", "run"])?;
    let keys = [
        ("state_dir", &spec.state_dir),
        ("runtime_dir", &spec.runtime_dir),
    ];
    for (key, path) in keys {
        words.push("--set".to_owned());
        words.push(format!("mainstay.{key}={}", toml_text(path)?));
    }
    let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
    Ok(quoted.join(" "))
}

/// A path as a literal string of TOML, which has no escapes.
fn toml_text(path: &Path) -> Result<String, PathError> {
    Ok(format!("'{}'", text_of(path)?.replace('$', "$$")))
}

/// One word of a command line: backslashes are doubled before a quotation mark, and nowhere else.
fn quote(word: &str) -> String {
    if !word.is_empty() && !word.contains([' ', '\t', '"']) {
        return word.to_owned();
    }
    let (mut text, mut backslashes) = (String::from("\""), 0);
    for one in word.chars() {
        if one == '"' {
            text.push_str(&"\\".repeat(backslashes + 1));
        }
        backslashes = if one == '\\' { backslashes + 1 } else { 0 };
        text.push(one);
    }
    text.push_str(&"\\".repeat(backslashes));
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;

    fn shop() -> ServiceSpec {
        let runtime_dir = PathBuf::from(r"C:\Temp\mainstay\shop");
        let home = PathBuf::from(r"C:\Users\ann");
        let named = ServiceSpec::named("shop".to_owned(), Scope::System, runtime_dir, home);
        ServiceSpec {
            program: PathBuf::from(r"C:\Program Files\mainstay\mainstay.exe"),
            config_dir: PathBuf::from(r"C:\shop 100%\config"),
            state_dir: PathBuf::from(r"C:\state"),
            shutdown_timeout: Duration::from_secs(30),
            ..named
        }
    }

    #[test]
    fn the_commands_are_as_reviewed() {
        let all = installation(&shop()).expect("an installation");
        let lines = |commands: &[ServiceCommand]| -> String {
            let lines = commands.iter().map(|one| format!("{:?}\n", one.argv));
            lines.collect()
        };
        let text = format!("{}\n{}", lines(&all.start), lines(&all.stop));
        insta::assert_snapshot!("windows_commands", text);
    }

    #[test]
    fn words_are_quoted_as_windows_reads_them() {
        for (word, quoted) in [
            (r"C:\a", r"C:\a"),
            ("", r#""""#),
            (r"C:\a b\", r#""C:\a b\\""#),
            (r#"a"b"#, r#""a\"b""#),
            (r#"a\"b c"#, r#""a\\\"b c""#),
            ("100%", "100%"),
        ] {
            assert_eq!(quote(word), quoted, "{word}");
        }
    }

    #[test]
    fn windows_has_no_service_for_one_user() {
        let user = ServiceSpec {
            scope: Scope::User,
            ..shop()
        };
        let refused = installation(&user).expect_err("refused");
        assert!(
            refused
                .to_string()
                .starts_with("cannot install a service for one user")
        );
    }
}
