//! Installations that the tests of every service manager share.
//! Owns an ordinary one and an odd one.
//! Never used by the product.

use std::path::PathBuf;
use std::time::Duration;

use super::{Scope, ServiceSpec};

/// An ordinary system.
pub(crate) fn shop(scope: Scope) -> ServiceSpec {
    let path = |text: &str| PathBuf::from(text);
    ServiceSpec {
        name: "shop".to_owned(),
        name_option: false,
        scope,
        program: path("/usr/bin/mainstay"),
        config_dir: path("/srv/shop/config"),
        state_dir: path("/var/lib/mainstay/shop"),
        runtime_dir: path("/run/mainstay/shop"),
        log_dir: path("/var/lib/mainstay/shop/logs"),
        home: path("/srv/ann"),
        writable: vec![path("/srv/shop")],
        variables: Vec::new(),
        mounts: false,
        startup_timeout: Duration::from_secs(60),
        shutdown_timeout: Duration::from_secs(30),
    }
}

/// A system in folders with everything that has a meaning in a definition.
pub(crate) fn odd(scope: Scope) -> ServiceSpec {
    let folder = PathBuf::from("/srv/a b/\"q\" 'p'/100%s/$HOME/back\\slash/<ü&>");
    ServiceSpec {
        name_option: true,
        program: PathBuf::from("/srv/a b/100%s/$HOME/ü/mainstay"),
        config_dir: folder.join("x".repeat(300)),
        state_dir: folder.join("state"),
        writable: vec![folder.join("data")],
        variables: vec![("XDG_STATE_HOME".to_owned(), "/srv/a b/%$\"".to_owned())],
        mounts: true,
        ..shop(scope)
    }
}
