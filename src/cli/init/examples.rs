//! The configurations of `init --example`: applications that run with what a machine has.
//! Owns what depends on the machine: a free port, and a server where python3 is there.
//! Never needs a program that was not found.

use std::net::TcpListener;

use mainstay_protocol::enums::CliExitCode;

use crate::cli::error::CliError;

const WEB: &str = include_str!("web.toml");
const DESKTOP: &str = include_str!("desktop.toml");
const WORKER: &str = include_str!("worker.toml");

/// Ports that the server of the web application may have, the first free one of them.
const PORTS: std::ops::Range<u16> = 8080..8180;

/// Returns the configuration of an example.
pub(super) fn text(example: &str, name: &str) -> Result<String, CliError> {
    if cfg!(windows) {
        let text = "cannot write the example: its modules are shell scripts, which Windows does \
                    not run; use `mainstay init` without --example";
        return Err(CliError::new(CliExitCode::Failed, text));
    }
    Ok(match example {
        "web" => web(name, has_program("python3"), free_port()),
        "desktop" => DESKTOP.replace("@NAME@", name),
        _ => WORKER.replace("@NAME@", name),
    })
}

fn web(name: &str, has_server: bool, port: u16) -> String {
    let url = format!("http://127.0.0.1:{port}/");
    let probe = format!("[[module.web.health.probes]]\nhttp = \"{url}\"");
    let (server, ready, probe) = match has_server {
        true => {
            let server = format!(
                "[\"python3\", \"-u\", \"-m\", \"http.server\", \"{port}\", \"--bind\", \
                 \"127.0.0.1\", \"--directory\", \"public\"]"
            );
            (server, format!("{{ http = \"{url}\" }}"), probe)
        }
        // Without it the rest runs, and what to put there is a comment.
        false => (
            "[\"/bin/sh\", \"-c\", \"echo python3 was not found; while :; do sleep 60; done\"]"
                .to_owned(),
            "{ settle = \"200ms\" }".to_owned(),
            format!("# {}", probe.replace('\n', "\n# ")),
        ),
    };
    WEB.replace("@NAME@", name)
        .replace("@URL@", &url)
        .replace("@SERVER@", &server)
        .replace("@READY@", &ready)
        .replace("@PROBE@", &probe)
}

fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

/// The first of the ports that nothing listens on; the first of all if there is none.
fn free_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    PORTS.clone().find(is_free).unwrap_or(PORTS.start)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_a_configuration_with_or_without_python() {
        let texts = [
            web("app", true, 8080),
            web("app", false, 8080),
            text("desktop", "app").expect("text"),
            text("worker", "app").expect("text"),
        ];
        for text in texts {
            assert!(!text.contains('@'), "{text}");
            let folder = tempfile::tempdir().expect("a folder");
            let config = folder.path().join("config");
            std::fs::create_dir(&config).expect("a folder");
            std::fs::write(config.join("mainstay.toml"), &text).expect("a file");
            let loaded = crate::config::load(&crate::config::ConfigSources::folder(&config));
            if let Err(problems) = loaded {
                panic!("{problems}\n{text}");
            }
        }
    }
}
