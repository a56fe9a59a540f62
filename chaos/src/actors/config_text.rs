//! Random configurations for the real runtime, and what becomes of them in a reload.
//! Owns the text. Never makes a cycle, unless a file is to be refused.

use std::fmt::Write as _;
use std::path::Path;

use crate::rng::Rng;

/// One module.
#[derive(Debug, Clone)]
struct ModuleText {
    name: String,
    kind: &'static str,
    lines: Vec<String>,
    requires: Vec<String>,
    wants: Vec<String>,
}

/// A whole file.
#[derive(Debug, Clone)]
pub(super) struct ConfigText {
    system: String,
    modules: Vec<ModuleText>,
    groups: String,
    next: u32,
}

impl ConfigText {
    pub(super) fn generate(
        rng: &mut Rng,
        folder: &Path,
        modules: u32,
        is_wild: bool,
    ) -> ConfigText {
        let shutdown = rng.pick(&["3s", "10s", "30s"]);
        let parallel = !rng.permille(150);
        let tokens = rng.pick(&[0, 1, 4]);
        let share = rng.pick(&["0.3", "0.5", "1.0"]);
        let watch = rng.pick(&["2s", "10s"]);
        let attempts = rng.pick(&[0, 1, 3, 5]);
        let system = format!(
            "[mainstay]\nname = \"sim\"\nreload = \"manual\"\nstate_dir = \"{0}/state\"\n\
             runtime_dir = \"{0}/run\"\nreload_watch = \"{watch}\"\nstartup_timeout = \"60s\"\n\
             shutdown_timeout = \"{shutdown}\"\nparallel_startup = {parallel}\n\
             [recovery]\nmax_attempts = {attempts}\nwindow = \"30s\"\nstable_after = \"2s\"\n\
             concurrent_restarts = {tokens}\n\
             cascade = {{ share = {share}, window = \"30s\" }}\n\
             backoff = {{ initial = \"50ms\", max = \"2s\" }}\n\
             probation = {{ initial = \"3s\", max = \"20s\" }}\n",
            folder.display()
        );
        let mut text = ConfigText {
            system,
            modules: Vec::new(),
            groups: String::new(),
            next: 0,
        };
        for _ in 0..modules {
            text.add(rng, is_wild);
        }
        text.regroup(rng);
        text
    }

    fn add(&mut self, rng: &mut Rng, is_wild: bool) {
        let name = format!("m{}", self.next);
        self.next += 1;
        let kind = if rng.permille(150) { "task" } else { "service" };
        let mut module = ModuleText {
            name,
            kind,
            lines: Vec::new(),
            requires: Vec::new(),
            wants: Vec::new(),
        };
        for _ in 0..rng.below(3).min(self.modules.len() as u64) {
            let at = usize::try_from(rng.below(self.modules.len() as u64)).unwrap_or(0);
            let need = self.modules[at].name.clone();
            let known = module.requires.contains(&need) || module.wants.contains(&need);
            match rng.permille(600) {
                _ if known => {}
                true => module.requires.push(need),
                false => module.wants.push(need),
            }
        }
        module.lines = lines(rng, kind, is_wild);
        self.modules.push(module);
    }

    fn regroup(&mut self, rng: &mut Rng) {
        self.groups.clear();
        let mut free: Vec<String> = self.modules.iter().map(|it| it.name.clone()).collect();
        for nth in 0..rng.below(3) {
            let mut members = Vec::new();
            for _ in 0..2 + rng.below(3) {
                if !free.is_empty() {
                    let at = usize::try_from(rng.below(free.len() as u64)).unwrap_or(0);
                    members.push(format!("{:?}", free.swap_remove(at)));
                }
            }
            if members.len() < 2 {
                return;
            }
            let strategy = rng.pick(&["one_for_one", "one_for_all", "rest_for_one"]);
            let most = rng.pick(&[1, 3, 10]);
            let then = rng.pick(&["stop_group", "stop_group", "degrade", "restart_system"]);
            let _infallible = write!(
                self.groups,
                "[group.g{nth}]\nmembers = [{}]\nstrategy = \"{strategy}\"\n\
                 max_restarts = {most}\nwithin = \"30s\"\n\
                 on_exceeded = \"{then}\"\n",
                members.join(", ")
            );
        }
    }

    /// Edits the text as a person would; returns a description of the edit.
    pub(super) fn edit(&mut self, rng: &mut Rng, is_wild: bool) -> String {
        let at = usize::try_from(rng.below(self.modules.len() as u64)).unwrap_or(0);
        match rng.below(10) {
            0..=1 => {
                self.add(rng, is_wild);
                format!("m{} added", self.next - 1)
            }
            2..=3 if self.modules.len() > 2 => {
                let gone = self.modules.remove(at).name;
                for module in &mut self.modules {
                    module.requires.retain(|need| *need != gone);
                    module.wants.retain(|need| *need != gone);
                }
                self.regroup(rng);
                format!("{gone} removed")
            }
            4 => {
                self.regroup(rng);
                "groups changed".to_owned()
            }
            _ => {
                let module = &mut self.modules[at];
                module.lines = lines(rng, module.kind, is_wild);
                format!("{} changed", module.name)
            }
        }
    }

    pub(super) fn render(&self) -> String {
        let mut text = self.system.clone();
        for module in &self.modules {
            let list = |names: &[String]| {
                let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
                names.join(", ")
            };
            let _infallible = write!(
                text,
                "[module.{}]\nkind = \"{}\"\nrequires = [{}]\nwants = [{}]\n{}\n",
                module.name,
                module.kind,
                list(&module.requires),
                list(&module.wants),
                module.lines.join("\n")
            );
        }
        text + &self.groups
    }
}

fn lines(rng: &mut Rng, kind: &'static str, is_wild: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let ready = match (kind, rng.below(4)) {
        ("service", 0) => "notify",
        ("service", 1) => "settle",
        ("service", 2) => "exec",
        _ => "started",
    };
    let word = if kind == "task" { "task" } else { ready };
    lines.push(format!("command = [\"program\", \"{word}\"]"));
    match ready {
        "notify" => lines.push("ready = { notify = true }".to_owned()),
        "settle" => lines.push("ready = { settle = \"100ms\" }".to_owned()),
        "exec" => lines.push("ready = { exec = [\"ready\"] }".to_owned()),
        _ => {}
    }
    let required = rng.permille(if is_wild { 100 } else { 200 });
    lines.push(format!("required = {required}"));
    if kind == "service" && rng.permille(150) {
        lines.push("start = \"lazy\"".to_owned());
    }
    for (share, line) in [
        (120, "before_start = [[\"before\"]]"),
        (120, "after_stop = [[\"after\"]]"),
    ] {
        if rng.permille(share) {
            lines.push(line.to_owned());
        }
    }
    lines.push(format!(
        "startup_timeout = \"{}\"",
        rng.pick(&["1s", "5s", "10s"])
    ));
    lines.push(format!(
        "shutdown_timeout = \"{}\"",
        rng.pick(&["50ms", "1s", "5s"])
    ));
    if kind == "service" && rng.permille(300) {
        let probe = match rng.permille(500) {
            true => "{ exec = [\"health\"] }",
            false => "{ watchdog = \"20s\" }",
        };
        lines.push(format!("health = {{ probes = [{probe}] }}"));
    }
    let restart = match kind {
        "task" => rng.pick(&["never", "on_failure"]),
        _ => rng.pick(&["always", "always", "on_failure"]),
    };
    let with = rng.pick(&["notify", "restart", "ignore"]);
    let ladder = rng.pick(&[
        "[\"restart\"]",
        "[\"restart\"]",
        "[\"restart\", \"stop\"]",
        "[\"restart\", \"degrade\"]",
    ]);
    let degrade = match ladder.contains("degrade") {
        true => ", degrade = { disable = [\"search\"] }",
        false => "",
    };
    lines.push(format!(
        "recovery = {{ restart = \"{restart}\", on_dependency_restart = \"{with}\", \
         on_failure = {ladder}{degrade} }}"
    ));
    lines
}
