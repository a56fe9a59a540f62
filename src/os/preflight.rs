//! What keeps a command, a user or a group from being used on this machine, in words.
//! Owns nothing: it looks at files and at the lists of users.
//! Never executes anything; what it does not see may still be wrong.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

pub(crate) use mainstay_holder::make_dir as make_folder;

/// Where programs are looked for when no PATH is set.
const DEFAULT_PATH: &str = "/usr/local/bin:/bin:/usr/bin";
/// As much of a first line as the kernel reads.
const FIRST_LINE_BYTES: usize = 256;

/// The PATH that a program with this environment is looked for in, if it is started from this one.
pub(crate) fn search_path(env: &[(String, String)], clear_env: bool) -> String {
    let own = env.iter().rfind(|(name, _)| name == "PATH");
    let kept = || std::env::var("PATH").ok().filter(|_| !clear_env);
    let path = own.map(|(_, path)| path.clone()).or_else(kept);
    path.unwrap_or_else(|| DEFAULT_PATH.to_owned())
}

/// Returns why `program` cannot be executed in `directory`, with `path` searched as execvp
/// does; none if no reason is found.
#[must_use]
pub(crate) fn check_program(program: &str, directory: &Path, path: &str) -> Option<String> {
    if program.contains('/') {
        return file(&directory.join(program), program, directory);
    }
    let folders = path.split(':').map(|folder| directory.join(folder));
    let mut found = folders
        .map(|folder| folder.join(program))
        .filter(|file| file.is_file())
        .map(|found| file(&found, program, directory))
        .peekable();
    if found.peek().is_none() {
        // Of the folders a person thinks when the message is short; `why --full` lists them.
        let text = "it is in no folder of PATH; install it, or name it with its path";
        return Some(text.to_owned());
    }
    // One that works is taken, whatever is wrong with those before it.
    let problems: Vec<String> = found.collect::<Option<_>>()?;
    problems.into_iter().next()
}

fn file(file: &Path, program: &str, directory: &Path) -> Option<String> {
    let shown = file.display();
    let found = match file.metadata() {
        Ok(found) => found,
        Err(error) => return Some(unreachable(&error, file, program, directory)),
    };
    if found.is_dir() {
        return Some("it is a directory; name the program in it".to_owned());
    }
    if !found.is_file() {
        return Some(
            "it is a pipe, a socket or a device; name a file that is a program".to_owned(),
        );
    }
    if !may_be_executed(&found) {
        return Some(format!("it is not executable; `chmod +x {shown}`"));
    }
    script(&first_line(file).ok()?, directory)
}

fn unreachable(error: &io::Error, file: &Path, program: &str, directory: &Path) -> String {
    match error.kind() {
        io::ErrorKind::NotFound if file.is_symlink() => {
            "it is a link to a file that does not exist".to_owned()
        }
        io::ErrorKind::NotFound if Path::new(program).is_absolute() => {
            "there is no such file; install it, or correct the path".to_owned()
        }
        io::ErrorKind::NotFound => {
            let directory = directory.display();
            format!("there is no such file in {directory}; build it there, or correct the path")
        }
        io::ErrorKind::NotADirectory => "a part of its path is a file".to_owned(),
        _ => format!("it cannot be looked at: {error}"),
    }
}

/// What is wrong with the interpreter of a script; nothing for any other file.
fn script(line: &[u8], directory: &Path) -> Option<String> {
    let line = line.strip_prefix(b"#!")?;
    let line = String::from_utf8_lossy(line.split(|byte| *byte == b'\n').next()?);
    if line.ends_with('\r') {
        return Some(
            "its first line ends with a carriage return; save it with the line ends of Unix"
                .to_owned(),
        );
    }
    let Some(interpreter) = line.split_whitespace().next() else {
        return Some("its first line names no interpreter; begin it with `#!/bin/sh`".to_owned());
    };
    if directory.join(interpreter).exists() {
        return None;
    }
    Some(format!(
        "its interpreter {interpreter} does not exist; install that, or correct its first line"
    ))
}

/// Nothing if it is not a regular file (any more): opening a fifo waits for its other end.
fn first_line(path: &Path) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let bytes = FIRST_LINE_BYTES as u64;
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    if file.metadata()?.is_file() {
        file.take(bytes).read_to_end(&mut line)?;
    }
    Ok(line)
}

/// What a person does about a program that could not be executed, with this error.
#[must_use]
pub(crate) fn advice(name: &str, directory: &Path, path: &str, errno: i32) -> Option<String> {
    check_program(name, directory, path).or_else(|| {
        let said = match errno {
            libc::EACCES => {
                "its user may not execute it or enter a folder above it, or its file system is \
                 mounted noexec"
            }
            libc::ENOENT => "it is there, but not what loads it: it was built for another system",
            libc::ENOEXEC if is_binary(name, directory, path) => {
                "it was built for another machine or another system"
            }
            libc::ENOEXEC => {
                "it is no program, and its first line names no interpreter; begin it with \
                 `#!/bin/sh` or the like"
            }
            libc::ETXTBSY => "it is being written just now",
            libc::E2BIG => "its arguments and variables are too long together",
            _ => return None,
        };
        Some(said.to_owned())
    })
}

fn is_binary(name: &str, directory: &Path, path: &str) -> bool {
    let places: Vec<PathBuf> = if name.contains('/') {
        vec![directory.join(name)]
    } else {
        let folders = path.split(':');
        folders
            .map(|folder| directory.join(folder).join(name))
            .collect()
    };
    let first = places.iter().find(|place| place.is_file());
    first.is_some_and(|file| first_line(file).is_ok_and(|line| line.contains(&0)))
}

fn may_be_executed(found: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    found.permissions().mode() & 0o111 != 0
}

/// Whether there is a user of this name; any number is one.
#[must_use]
pub(crate) fn has_user(name: &str) -> bool {
    name.parse::<u32>().is_ok() || !matches!(nix::unistd::User::from_name(name), Ok(None))
}

/// Whether there is a group of this name; any number is one.
#[must_use]
pub(crate) fn has_group(name: &str) -> bool {
    name.parse::<u32>().is_ok() || !matches!(nix::unistd::Group::from_name(name), Ok(None))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn write(file: &Path, text: &str, mode: u32) {
        std::fs::write(file, text).unwrap();
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn each_way_not_to_be_executable_has_its_next_step() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        write(&at.join("plain"), "#!/bin/sh\n", 0o644);
        write(&at.join("lost"), "#!/no/such/shell -e\n", 0o755);
        write(&at.join("windows"), "#!/bin/sh\r\necho\r\n", 0o755);
        write(&at.join("empty"), "#!\n", 0o755);
        write(&at.join("good"), "#! /bin/sh\n", 0o755);
        write(&at.join("text"), "echo\n", 0o755);
        std::os::unix::fs::symlink("gone", at.join("link")).unwrap();
        std::fs::create_dir(at.join("folder")).unwrap();
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o755);
        nix::unistd::mkfifo(&at.join("fifo"), mode).unwrap();
        let cases = [
            ("./fifo", "a pipe, a socket or a device"),
            ("./plain", "chmod +x"),
            ("./lost", "interpreter /no/such/shell does not exist"),
            ("./windows", "carriage return"),
            ("./empty", "names no interpreter"),
            ("./link", "a link to a file"),
            ("./folder", "a directory"),
            ("./none", "in /"),
            ("/none/at/all", "no such file; install"),
            ("./good/er", "a part of its path is a file"),
            ("none", "in no folder of PATH; install it"),
        ];
        for (name, said) in cases {
            let problem = check_program(name, at, "/nowhere").unwrap();
            assert!(problem.contains(said), "{name}: {problem}");
        }
        let path = format!("/nowhere:{}", at.display());
        for name in ["good", "./good", "text"] {
            assert_eq!(check_program(name, at, &path), None, "{name}");
        }
        assert!(
            check_program("plain", at, &path)
                .unwrap()
                .contains("chmod +x")
        );
        let text = advice("text", at, &path, libc::ENOEXEC).unwrap();
        assert!(text.contains("#!/bin/sh"), "{text}");
        let noexec = advice("good", at, &path, libc::EACCES).unwrap();
        assert!(noexec.contains("noexec"), "{noexec}");
    }

    #[test]
    fn users_are_looked_for_by_name() {
        assert!(has_user("root") && has_user("12345"));
        assert!(!has_user("nobody-of-this-name") && !has_group("no-group-of-this-name"));
    }
}
