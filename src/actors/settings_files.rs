//! The settings of modules as files: they may be long, and they change while a module runs.
//! Owns the folder. Only the module's user may read a file: it may be as secret as an environment.
//! Never notifies a module that its file changed.

use std::fs;
use std::path::{Path, PathBuf};

use mainstay_policy::{ModuleId, ModuleSpec};

use super::RuntimeContext;
use crate::config::{Configuration, LaunchSpec};
use crate::os::private;

impl RuntimeContext {
    /// Where a module finds its settings; None when it has none.
    pub(crate) fn settings_file(&self, module: ModuleId) -> Option<PathBuf> {
        let launch = self.launch(module);
        let folder = folder(&self.configuration());
        (!launch.settings.is_empty()).then(|| file(&folder, &self.instance(module)))
    }
}

/// The folder of the files.
pub(crate) fn folder(configuration: &Configuration) -> PathBuf {
    configuration.system.runtime_dir.join("settings")
}

/// Named as the holder calls the module: a running process has the path in its environment.
fn file(folder: &Path, instance: &str) -> PathBuf {
    folder.join(format!("{instance}.json"))
}

/// Writes the settings of all modules.
pub(crate) fn write_all(configuration: &Configuration) {
    for (spec, launch) in &configuration.modules {
        if !launch.settings.is_empty() {
            write(configuration, spec, launch);
        }
    }
}

/// Writes those that differ from what was in force.
pub(crate) fn write_changed(former: &Configuration, next: &Configuration) {
    for (spec, launch) in &next.modules {
        let before = former.module(spec.id);
        if before.map(|(_, launch)| &launch.settings) == Some(&launch.settings) {
            continue;
        }
        match launch.settings.is_empty() {
            true => {
                let file = file(&folder(next), &instance(next, spec));
                let _there_was_none = fs::remove_file(file);
            }
            false => write(next, spec, launch),
        }
    }
}

fn instance(configuration: &Configuration, spec: &ModuleSpec) -> String {
    let instance = configuration.ids.instance(spec.id);
    instance.map_or_else(|| spec.name.clone(), ToString::to_string)
}

fn write(configuration: &Configuration, spec: &ModuleSpec, launch: &LaunchSpec) {
    let folder = folder(configuration);
    let file = file(&folder, &instance(configuration, spec));
    let text = serde_json::to_vec_pretty(&launch.settings).unwrap_or_default();
    let written = private::traversable_dir(&folder)
        .and_then(|()| private::write(&file, &text, launch.user.as_deref()));
    if let Err(error) = written {
        let module = &*spec.name;
        tracing::error!(module, %error, "cannot write the settings of the module");
    }
}
