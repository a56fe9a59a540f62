//! A limit on processes and threads: what cannot be made is named with the limit.
//! Owns a control group of its own, where root may make one.
//! Never leaves it behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::daemon::{binary, prepare, skip, wait_for};

struct Group(PathBuf);

impl Group {
    fn new() -> Option<Group> {
        let name = format!("mainstay-limit-test-{}", std::process::id());
        let places = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"];
        let path = places.iter().map(|place| Path::new(place).join(&name));
        path.into_iter().find_map(|path| {
            fs::create_dir(&path).ok()?;
            let group = Group(path);
            group.0.join("pids.max").exists().then_some(group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        wait_for("an empty group", || fs::remove_dir(&self.0).ok());
    }
}

#[test]
fn a_limit_on_processes_is_named_and_nothing_panics() {
    let Some(group) = Group::new() else {
        return skip("no control group with a limit of processes can be made here");
    };
    for limit in [2, 3, 5, 8] {
        fs::write(group.0.join("pids.max"), limit.to_string()).expect("a limit");
        let dir = prepare("", "[module.a]\ncommand = [\"sleep\", \"1000\"]\n");
        let procs = group.0.join("cgroup.procs");
        let script = format!("echo $$ > {}; exec \"$0\" \"$@\"", procs.display());
        let mut command = Command::new("sh");
        command.args(["-c", &script, binary(), "--config"]);
        command.arg(dir.path().join("config")).arg("up");
        let printed = dir.path().join("printed");
        let to = || {
            Stdio::from(
                fs::File::options()
                    .append(true)
                    .create(true)
                    .open(&printed)
                    .expect("a file"),
            )
        };
        let child = command.stdout(to()).stderr(to()).spawn().expect("a shell");
        let child = std::cell::RefCell::new(child);
        let ended = wait_for("its end", || child.borrow_mut().try_wait().ok().flatten());
        let text = fs::read_to_string(&printed).expect("what it printed");
        assert!(
            ended.is_some_and(|status| !status.success()),
            "{limit}: {text}"
        );
        assert!(!text.contains("panicked"), "{limit}: {text}");
        let named = format!("limit of {limit} processes");
        assert!(
            text.contains(&named) && text.contains("pids.max"),
            "{limit}: {text}"
        );
    }
}
