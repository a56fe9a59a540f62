//! Commands that run a program as another user by runuser, su or sudo.
//! Owns which commands those are, and the key that is proposed instead.
//! Never changes a command.

/// What a stop signal reaches instead of the program, and what to write instead; None: the
/// command has no such wrapper.
pub(crate) fn wrapper_advice(argv: &[String]) -> Option<String> {
    let of_shell;
    let words = match argv {
        [shell, option, text] if shell.ends_with("sh") && option.ends_with('c') => {
            of_shell = last_command(&shlex::split(text)?);
            &of_shell
        }
        words => words,
    };
    let (program, words) = words.split_first()?;
    let name = program.rsplit('/').next()?;
    let user = match name {
        "runuser" | "su" | "sudo" => user(name, words),
        _ => return None,
    };
    let user = user.map_or_else(|| "NAME".to_owned(), |user| user.replace('"', ""));
    Some(format!(
        "{name}, which may not pass the stop signal on: a stop then takes its whole \
         shutdown_timeout; with user = \"{user}\" the command needs no {name}"
    ))
}

/// The words of the command that a shell runs last, without `exec` and variables before it.
fn last_command(words: &[String]) -> Vec<String> {
    let ends = |word: &String| word == "&&" || word.ends_with(';');
    let begin = words.iter().rposition(ends).map_or(0, |at| at + 1);
    let words = words[begin..].iter();
    let is_before = |word: &&String| *word == "exec" || word.contains('=');
    words.skip_while(is_before).cloned().collect()
}

/// The user that a wrapper is given; None: none is found.
fn user(name: &str, words: &[String]) -> Option<String> {
    let mut words = words.iter();
    let mut found = None;
    while let Some(word) = words.next() {
        match word.as_str() {
            "-u" | "--user" => {
                found = words.next().cloned();
                break;
            }
            option if has_value(name, option) => {
                words.next();
            }
            "--" => break,
            option if option.starts_with("--user=") => {
                found = option.strip_prefix("--user=").map(ToOwned::to_owned);
                break;
            }
            option if option.starts_with("-u") => {
                found = option.strip_prefix("-u").map(ToOwned::to_owned);
                break;
            }
            option if option.starts_with('-') => {}
            user if name != "sudo" => {
                found = Some(user.to_owned());
                break;
            }
            _ => break,
        }
    }
    found.filter(|user| !user.is_empty() && !user.contains(['$', '`']))
}

/// Whether the next word belongs to this option.
fn has_value(name: &str, option: &str) -> bool {
    let options: &[&str] = match name {
        "sudo" => &["-C", "-D", "-g", "-h", "-p", "-R", "-r", "-T", "-t", "-U"],
        _ => &["-c", "-s", "-g", "-G", "-w"],
    };
    options.contains(&option)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(text: &str) -> Option<String> {
        let shell = ["/bin/sh", "-c", text].map(ToOwned::to_owned);
        let advice = wrapper_advice(&shell);
        let plain: Vec<String> = text.split_whitespace().map(ToOwned::to_owned).collect();
        if !text.contains(['&', ';', '\'', '=']) && !text.starts_with("exec ") {
            assert_eq!(wrapper_advice(&plain), advice, "{text}");
        }
        advice
    }

    #[test]
    fn a_command_by_another_user_is_found_with_the_user() {
        for (command, user) in [
            ("runuser -u postgres -- postgres -D data", "postgres"),
            ("exec runuser -u postgres -- postgres", "postgres"),
            ("/usr/sbin/runuser --user app ./serve", "app"),
            ("runuser --user=app ./serve", "app"),
            ("runuser -uapp ./serve", "app"),
            ("su - app -c './serve'", "app"),
            ("su -s /bin/sh -c ./serve app", "app"),
            ("su -c ./serve", "NAME"),
            ("sudo -u www-data -g web ./serve", "www-data"),
            ("sudo -g web -u www-data ./serve", "www-data"),
            ("sudo ./serve app", "NAME"),
            ("sudo -u $OWNER ./serve", "NAME"),
            ("cd data && PORT=1 exec sudo -u app ./serve", "app"),
            ("mkdir -p x; sudo -u app ./serve", "app"),
        ] {
            let advice = advice(command).unwrap_or_else(|| panic!("none for {command}"));
            let key = format!("user = \"{user}\"");
            assert!(advice.contains(&key), "{command}: {advice}");
        }
    }

    #[test]
    fn other_commands_have_no_advice() {
        for command in [
            "",
            "./sudo-free",
            "echo sudo",
            "sudo true && ./serve",
            "./su.sh app",
        ] {
            assert_eq!(advice(command), None, "{command}");
        }
    }
}
