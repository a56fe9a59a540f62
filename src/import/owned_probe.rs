//! Commands that only look at a port, as the probe that counts the module's own port alone.
//! Owns which commands those are. Never replaces one: it is proposed.

/// What a shell would do something with.
const OF_A_SHELL: [char; 9] = ['|', '&', ';', '$', '`', '<', '>', '(', '*'];

/// The probe of mainstay that looks at the same port as a command, as it stands in a file; None:
/// the command does more, or looks at another machine.
pub(crate) fn owned_probe(command: &str) -> Option<String> {
    let redirect = command.find(['>', '&', '|']).unwrap_or(command.len());
    let is_quiet = |rest: &str| {
        let known = [
            ">/dev/null",
            "> /dev/null",
            "2>&1",
            "|| exit 1",
            "&>/dev/null",
        ];
        let rest = known
            .iter()
            .fold(rest.to_owned(), |rest, it| rest.replace(it, ""));
        rest.trim().is_empty()
    };
    let (command, rest) = command.split_at(redirect);
    if command.contains(OF_A_SHELL) || !is_quiet(rest) {
        return None;
    }
    let words: Vec<&str> = command.split_whitespace().map(unquoted).collect();
    let (program, words) = words.split_first()?;
    let program = program.rsplit('/').next()?;
    match program {
        "pg_isready" => tcp(words, "5432"),
        "redis-cli" | "valkey-cli" if words.contains(&"ping") || words.contains(&"PING") => {
            tcp(words, "6379")
        }
        "mysqladmin" | "mariadb-admin" if words.contains(&"ping") => tcp(words, "3306"),
        "nc" | "ncat" => match words.iter().rev().copied().collect::<Vec<_>>()[..] {
            [port, host, ..] if words.iter().any(|word| word.starts_with("-z")) => at(host, port),
            _ => None,
        },
        "curl" | "wget" => {
            let url = words.iter().find(|word| word.starts_with("http://"))?;
            let host = url["http://".len()..].split(['/', ':']).next()?;
            is_here(host).then(|| format!("{{ http = \"{url}\" }}"))
        }
        _ => None,
    }
}

/// The same for the words of a command; what a shell runs is looked at as it would be.
pub(crate) fn owned_probe_of(argv: &[String]) -> Option<String> {
    match argv {
        [shell, option, command] if shell.ends_with("sh") && option.ends_with('c') => {
            owned_probe(command)
        }
        words => owned_probe(&words.join(" ")),
    }
}

fn unquoted(word: &str) -> &str {
    word.trim_matches(['"', '\''])
}

/// The port of `-h HOST -p PORT`, in either form.
fn tcp(words: &[&str], default: &str) -> Option<String> {
    let option = |short: &[&str], long: &str| {
        let mut found = None;
        for (place, word) in words.iter().enumerate() {
            let next = words.get(place + 1).copied();
            if short.contains(word) || *word == long {
                found = next;
            } else if let Some(value) = word.strip_prefix(long) {
                found = value.strip_prefix('=').or(found);
            } else if let Some(value) = short.iter().find_map(|it| word.strip_prefix(*it)) {
                found = Some(value);
            }
        }
        found
    };
    let host = option(&["-h"], "--host").unwrap_or("127.0.0.1");
    let port = option(&["-p", "-P"], "--port").unwrap_or(default);
    at(host, port)
}

fn at(host: &str, port: &str) -> Option<String> {
    let port: u16 = port.parse().ok()?;
    is_here(host).then(|| format!("{{ tcp = \"{host}:{port}\" }}"))
}

/// Whether it is this machine: the rule whose port it is holds on it alone.
fn is_here(host: &str) -> bool {
    host == "localhost" || host.starts_with("127.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_looks_at_a_port_of_this_machine_has_an_owned_probe() {
        for (command, probe) in [
            ("pg_isready", "{ tcp = \"127.0.0.1:5432\" }"),
            (
                "pg_isready -h 127.0.0.1 -p 5433 -U app",
                "{ tcp = \"127.0.0.1:5433\" }",
            ),
            (
                "/usr/bin/pg_isready --port=6000 -q",
                "{ tcp = \"127.0.0.1:6000\" }",
            ),
            ("redis-cli -p 7000 ping", "{ tcp = \"127.0.0.1:7000\" }"),
            (
                "redis-cli ping > /dev/null 2>&1",
                "{ tcp = \"127.0.0.1:6379\" }",
            ),
            ("nc -z localhost 8080", "{ tcp = \"localhost:8080\" }"),
            (
                "curl -fsS http://127.0.0.1:8000/health || exit 1",
                "{ http = \"http://127.0.0.1:8000/health\" }",
            ),
        ] {
            assert_eq!(owned_probe(command).as_deref(), Some(probe), "{command}");
        }
    }

    #[test]
    fn what_does_more_or_looks_elsewhere_has_none() {
        for command in [
            "",
            "./ready",
            "pg_isready -h db.example.org",
            "pg_isready -h /var/run/postgresql",
            "pg_isready && ./migrated",
            "redis-cli get ready",
            "redis-cli ping | grep PONG",
            "nc -z localhost $PORT",
            "nc localhost 80",
            "curl https://127.0.0.1/",
            "curl http://example.org/",
        ] {
            assert_eq!(owned_probe(command), None, "{command}");
        }
    }
}
