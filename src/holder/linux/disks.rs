//! The disks of this machine, as the io controller names them.
//! Never writes a limit: the control group does.

use std::fs;

/// The lines of `io.max` for this rate on each disk of the machine.
pub(super) fn disk_limits(rate: &str) -> Vec<String> {
    let folders = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let number = |folder: fs::DirEntry| fs::read_to_string(folder.path().join("dev")).ok();
    let limit = |disk: String| format!("{} rbps={rate} wbps={rate}", disk.trim());
    folders.filter_map(number).map(limit).collect()
}
