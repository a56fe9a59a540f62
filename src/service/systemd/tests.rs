//! The units of systemd: golden files, and words that have to be escaped.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::super::fixture::{odd, shop};
use super::*;

#[test]
fn units_are_as_reviewed() {
    let unit = |spec: ServiceSpec| text(&spec).expect("a unit");
    insta::assert_snapshot!("systemd_system", unit(shop(Scope::System)));
    let of_user = ServiceSpec {
        runtime_dir: PathBuf::from("/run/user/1000/mainstay/shop"),
        ..shop(Scope::User)
    };
    insta::assert_snapshot!("systemd_user", unit(of_user));
    // One elsewhere is mainstay's own.
    assert!(!unit(shop(Scope::User)).contains("RuntimeDirectory"));
    insta::assert_snapshot!("systemd_odd", unit(odd(Scope::System)));
}

/// The unit of the Debian package is a template: one instance for each system in /etc/mainstay.
#[test]
fn the_unit_of_the_package_is_made_the_same_way() {
    let path = |text: &str| PathBuf::from(text).join("INSTANCE");
    let spec = ServiceSpec {
        name: "INSTANCE".to_owned(),
        name_option: true,
        config_dir: path("/etc/mainstay"),
        state_dir: path("/var/lib/mainstay"),
        log_dir: path("/var/lib/mainstay").join("logs"),
        runtime_dir: path("/run/mainstay"),
        writable: Vec::new(),
        variables: vec![("XDG_STATE_HOME".to_owned(), "/var/lib".to_owned())],
        ..shop(Scope::System)
    };
    let unit = text(&spec).expect("a unit").replace("INSTANCE", "%i");
    let unit = unit
        .split_once("[Unit]")
        .expect("comments, then the unit")
        .1;
    let expected = format!(
        "# A system of mainstay with its configuration in /etc/mainstay/NAME:\n\
         # systemctl enable --now mainstay@NAME\n[Unit]{unit}"
    );
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd/mainstay@.service");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &expected).expect("written");
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(written, expected, "UPDATE_GOLDEN=1 writes it");
}

#[test]
fn words_are_escaped_once() {
    for (word, quoted) in [
        ("/usr/bin/mainstay", "/usr/bin/mainstay"),
        ("", "\"\""),
        ("a b", "\"a b\""),
        ("100%", "100%%"),
        ("a \"b\"", "\"a \\\"b\\\"\""),
        ("back\\slash", "\"back\\\\slash\""),
        ("$HOME", "\"$HOME\""),
        ("'", "\"'\""),
        (";", "\";\""),
        ("ü", "ü"),
    ] {
        assert_eq!(quote(word), quoted, "{word}");
    }
}

#[test]
fn a_path_that_no_unit_can_name_is_refused() {
    let with = |config_dir: &OsStr| ServiceSpec {
        config_dir: config_dir.into(),
        ..shop(Scope::System)
    };
    let refused = text(&with(OsStr::from_bytes(b"/srv/\xff"))).expect_err("no UTF-8");
    assert!(
        refused
            .to_string()
            .ends_with("it is no UTF-8; use a path that is")
    );
    let program = PathBuf::from("/srv/a \"b\"/mainstay");
    let quoted = ServiceSpec {
        program,
        ..shop(Scope::System)
    };
    let refused = text(&quoted).expect_err("a program with quotation marks");
    assert!(
        refused
            .to_string()
            .starts_with("cannot start /srv/a \"b\"/mainstay from a unit: ")
    );
    let refused = text(&with(OsStr::new("/srv/a\nExecStart=/bin/false"))).expect_err("two lines");
    assert_eq!(
        refused.to_string(),
        "cannot name \"/srv/a\\nExecStart=/bin/false\" in a service: it has a control character; \
         use a path without one"
    );
}

#[test]
fn an_installation_begins_with_the_unit_and_ends_without_a_trace() {
    let user = installation(&shop(Scope::User)).expect("an installation");
    let path = "/srv/ann/.config/systemd/user/mainstay-shop.service";
    assert_eq!(user.files[0].path.to_str(), Some(path));
    let words = |commands: &[ServiceCommand]| -> Vec<String> {
        commands.iter().map(|one| one.argv.join(" ")).collect()
    };
    let start = words(&user.start);
    assert!(start.iter().all(|one| one.starts_with("systemctl --user ")));
    assert_eq!(
        start.last().map(String::as_str),
        Some("systemctl --user start mainstay-shop.service")
    );
    let system = installation(&shop(Scope::System)).expect("an installation");
    assert_eq!(
        words(&system.stop),
        [
            "systemctl stop mainstay-shop.service",
            "systemctl disable --quiet mainstay-shop.service"
        ]
    );
    let link = "/etc/systemd/system/multi-user.target.wants/mainstay-shop.service";
    assert_eq!(system.links[0].to_str(), Some(link));
    assert!(
        !words(&system.refresh)
            .iter()
            .any(|one| one.contains(" start "))
    );
}
