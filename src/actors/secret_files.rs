//! The secrets of modules: decrypted with the plan, written before a start, removed after a stop.
//! Owns the plain values in memory, and the folder `secrets` of the runtime directory.
//! Never tells a value to anything but the module that it is for.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mainstay_policy::ModuleId;

use super::RuntimeContext;
use crate::config::{Configuration, SecretUse};
use crate::os::private;
use crate::secrets::{Secret, SecretKeys};

/// The plain values of encrypted ones. There is no way to print it.
#[derive(Default)]
pub(crate) struct SecretStore(BTreeMap<String, Arc<Secret>>);

/// The folder of all files.
pub(crate) fn folder(configuration: &Configuration) -> PathBuf {
    configuration.system.runtime_dir.join("secrets")
}

/// Removes the files of modules that the holder does not know: they ended while no runtime ran.
pub(crate) fn keep_only(configuration: &Configuration, known: &[String]) {
    for entry in fs::read_dir(folder(configuration))
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name();
        if !known.iter().any(|known| name == known.as_str()) {
            let _removed_meanwhile = fs::remove_dir_all(entry.path());
        }
    }
}

fn uses(configuration: &Configuration) -> impl Iterator<Item = (&str, &SecretUse)> {
    let modules = configuration.modules.iter();
    modules.flat_map(|(spec, launch)| {
        let secrets = launch.secrets.iter();
        secrets.map(|secret| (spec.name.as_str(), secret))
    })
}

impl RuntimeContext {
    /// Decrypts what the modules of a configuration use; blocks. What the plans in force and
    /// committed use stays.
    ///
    /// # Errors
    /// The first value that cannot be decrypted: its name, a module that uses it, and why.
    pub(crate) fn open_secrets(&self, next: &Configuration) -> Result<(), String> {
        if uses(next).next().is_none() {
            return Ok(());
        }
        let known = self.secrets.load_full();
        let mut store = SecretStore::default();
        let (planned, committed) = (self.planned(), self.committed.load_full());
        let former = uses(&planned.configuration).chain(uses(&committed.configuration));
        for (_, used) in former {
            if let Some(secret) = known.0.get(&used.sealed) {
                store.0.insert(used.sealed.clone(), Arc::clone(secret));
            }
        }
        let mut keys: Option<SecretKeys> = None;
        for (module, used) in uses(next) {
            if store.0.contains_key(&used.sealed) {
                continue;
            }
            let failed = |error: crate::secrets::SecretError| {
                format!("cannot use the secret {} of {module}: {error}", used.name)
            };
            if keys.is_none() {
                keys = Some(SecretKeys::load(&next.system.secret_key).map_err(failed)?);
            }
            if let Some(keys) = &keys {
                let secret = keys.decrypt(&used.sealed).map_err(failed)?;
                store.0.insert(used.sealed.clone(), Arc::new(secret));
            }
        }
        self.secrets.store(Arc::new(store));
        Ok(())
    }

    fn secret_folder(&self, module: ModuleId) -> PathBuf {
        folder(&self.configuration()).join(&*self.instance(module))
    }

    fn secret(&self, module: ModuleId, used: &SecretUse) -> Result<Arc<Secret>, String> {
        if let Some(secret) = self.secrets.load().0.get(&used.sealed) {
            return Ok(Arc::clone(secret));
        }
        // The key may be there by now.
        self.open_secrets(&self.configuration())?;
        let store = self.secrets.load();
        let secret = store.0.get(&used.sealed).cloned();
        secret.ok_or_else(|| {
            let name = self.name(module);
            format!(
                "cannot use the secret {} of {name}: it is not decrypted",
                used.name
            )
        })
    }

    /// Checks the secrets of a module and writes its files, for its user alone. They are small, and
    /// the folder is in memory: this is done on the way of a start.
    ///
    /// # Errors
    /// A secret cannot be decrypted or written.
    pub(crate) fn write_secrets(&self, module: ModuleId) -> Result<(), String> {
        let launch = self.launch(module);
        let folder = self.secret_folder(module);
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let is_file_of =
                |used: &SecretUse| used.variable.is_none() && entry.file_name() == *used.name;
            if !launch.secrets.iter().any(is_file_of) {
                let _is_gone = fs::remove_file(entry.path());
            }
        }
        for used in &launch.secrets {
            let secret = self.secret(module, used)?;
            if used.variable.is_some() {
                continue;
            }
            let above = folder.parent().unwrap_or(Path::new(""));
            private::traversable_dir(above)
                .and_then(|()| private::traversable_dir(&folder))
                .and_then(|()| {
                    let path = folder.join(&used.name);
                    private::write(&path, secret.expose(), launch.user.as_deref())
                })
                .map_err(|error| {
                    let name = self.name(module);
                    format!("cannot write the secret {} of {name}: {error}", used.name)
                })?;
        }
        Ok(())
    }

    /// The variables that hold secrets. For one that cannot be decrypted
    /// [`RuntimeContext::write_secrets`] refused the start.
    pub(crate) fn secret_variables(&self, module: ModuleId) -> Vec<(String, String)> {
        let launch = self.launch(module);
        let variables = launch.secrets.iter().filter_map(|used| {
            let variable = used.variable.clone()?;
            let secret = self.secret(module, used).ok()?;
            let text = String::from_utf8_lossy(secret.expose()).into_owned();
            Some((variable, text))
        });
        variables.collect()
    }

    /// Writes the files of the modules that run, after their folder was removed.
    pub(crate) fn restore_secrets(&self) {
        for module in self.plan().ids() {
            if self.snapshots.module(module).lifecycle.info.pid.is_some()
                && let Err(error) = self.write_secrets(module)
            {
                tracing::error!("{error}");
            }
        }
    }

    /// Removes the files of a module that is stopped.
    pub(crate) fn remove_secrets(&self, module: ModuleId) {
        let folder = self.secret_folder(module);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::error!("cannot remove {}: {error}", folder.display());
            }
            _ => {}
        }
    }
}
