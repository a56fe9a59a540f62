//! Commands as one text, as program and arguments.
//! Owns the decision whether a shell is needed.
//! Never expands anything itself: what needs the shell is left to it.

/// Characters that mean something to a shell.
const SPECIAL: &[char] = &[
    '|', '&', ';', '<', '>', '(', ')', '$', '`', '*', '?', '[', ']', '{', '}', '~', '!', '#', '\n',
];
/// Characters after which `exec` would be wrong.
const COMPOUND: &[char] = &['|', '&', ';', '(', ')', '{', '}', '\n', '!'];
/// What `exec` cannot run.
const BUILTINS: &[&str] = &[
    "cd", "export", "if", "for", "while", "until", "case", "source", ".", "set", "exec", "eval",
    "trap", "ulimit", "umask", "unset",
];

/// A command that its program ran by a shell: without one where that is the same.
pub(crate) fn of_shell(command: &str) -> Vec<String> {
    let command = command.trim();
    if !command.contains(SPECIAL)
        && let Some(words) = shlex::split(command)
        && words.first().is_some_and(|word| !word.contains('='))
        && words
            .first()
            .is_some_and(|word| !BUILTINS.contains(&word.as_str()))
    {
        return words;
    }
    with_shell(&["/bin/sh", "-c"], command)
}

/// The same command, always by this shell. A simple one takes the place of the shell.
pub(crate) fn with_shell(shell: &[&str], command: &str) -> Vec<String> {
    let first = command.split_whitespace().next().unwrap_or_default();
    let first = first.trim_matches(['"', '\'']);
    let is_simple = unquoted(command).is_some_and(|rest| !rest.contains(COMPOUND))
        && !first.contains('=')
        && !BUILTINS.contains(&first)
        && !first.is_empty();
    let command = match is_simple {
        true => format!("exec {command}"),
        false => command.to_owned(),
    };
    let words = shell.iter().map(|word| (*word).to_owned());
    words.chain([command]).collect()
}

/// What is not quoted; None: a quote is not closed, or a shell would run a command inside one.
fn unquoted(command: &str) -> Option<String> {
    let (mut rest, mut signs) = (String::new(), command.chars().peekable());
    while let Some(sign) = signs.next() {
        match sign {
            '\\' if signs.peek() != Some(&'\n') => {
                signs.next();
            }
            '\'' => while signs.next()? != '\'' {},
            '"' => loop {
                match signs.next()? {
                    '"' => break,
                    '`' => return None,
                    '$' if signs.peek() == Some(&'(') => return None,
                    '\\' => {
                        signs.next();
                    }
                    _ => {}
                }
            },
            other => rest.push(other),
        }
    }
    Some(rest)
}

/// Program and arguments of a text with quotes and without a shell; None: a quote is not closed.
pub(crate) fn words(command: &str) -> Option<Vec<String>> {
    shlex::split(command).filter(|words| !words.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simple_command_takes_the_place_of_its_shell() {
        let shell = ["/bin/sh", "-c"];
        for command in [
            "./serve --port 1",
            "nginx -g 'daemon off;'",
            "nginx -g \"daemon off;\"",
            "echo it\\'s a\\;b",
            "echo \"a \\\" ; b\"",
            "'./a program' 1",
        ] {
            let words = with_shell(&shell, command);
            assert_eq!(words[2], format!("exec {command}"));
        }
        for command in [
            "",
            "a; b",
            "a 'x;' && b",
            "a 'x;' ; b",
            "A='x y' b",
            "'cd' x",
            "a 'not closed;",
            "a \"$(b; c)\"",
            "a \"`b; c`\"",
            "a \\\nb",
        ] {
            assert_eq!(with_shell(&shell, command)[2], command);
        }
    }
}
