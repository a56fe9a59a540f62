//! What a module may see and change of the system, from its section to what the holder sets up.
//! Owns the refusal of what would hide what the module needs.
//! Never knows what this machine can enforce.

use std::path::Path;

use mainstay_process::{CpuSet, Isolation};

use super::paths::normalize;
use super::read_context::ReadContext;
use super::schema::module::IsolationSection;
use super::schema::scalars::BoundedInt;
use super::tree::Node;

pub(super) fn lower(section: &IsolationSection, directory: &Path) -> Isolation {
    let kept = section.capabilities.as_ref();
    let kept = kept.map(|all| all.iter().fold(0, |bits, one| bits | 1_u64 << one.0));
    let paths = section.read_only.iter();
    let paths = paths.map(|path| normalize(&directory.join(&path.0)));
    Isolation {
        capabilities: kept,
        read_only: paths
            .map(|path| path.to_string_lossy().into_owned())
            .collect(),
        private_tmp: section.private_tmp,
    }
}

pub(super) fn cpu_set(cpus: &[BoundedInt<0, 1023>]) -> CpuSet {
    let mut set = CpuSet::default();
    for cpu in cpus {
        let cpu = usize::try_from(cpu.0).unwrap_or(0);
        set[cpu / 64] |= 1 << (cpu % 64);
    }
    set
}

/// What a module needs cannot lie in a directory that it does not see.
pub(super) fn check<'a>(
    name: &str,
    node: Option<&'a Node>,
    section: &IsolationSection,
    needed: &[&Path],
    at: &mut ReadContext<'a>,
) {
    let hidden = |path: &Path| path.starts_with("/tmp") || path.starts_with("/var/tmp");
    let found = needed
        .iter()
        .find(|path| section.private_tmp && hidden(path));
    if let (Some(path), Some(node)) = (found, node) {
        let path = path.display();
        let message = format!("cannot give module {name} a /tmp of its own: it needs {path}");
        let hint = "set `directory` and mainstay.runtime_dir to paths outside of /tmp";
        at.problem::<()>(node.origin, message, hint);
    }
}
