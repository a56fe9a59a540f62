//! New settings of a module that runs: prepared, then used or forgotten.
//! Owns the handler, and the change that it prepared.
//! Never uses settings that nobody committed.

use std::sync::{Mutex, PoisonError};

use mainstay_protocol::config_change::{SettingsAnswer, SettingsVerdict};
use serde_json::Value;

/// What a module makes of new settings.
pub enum ConfigChange {
    /// It uses them once this is called: when every module that is concerned has accepted.
    Apply(Box<dyn FnOnce() + Send>),
    /// It can only begin with them: mainstay restarts it.
    Restart,
}

impl ConfigChange {
    /// It uses them once `apply` is called.
    pub fn apply(apply: impl FnOnce() + Send + 'static) -> ConfigChange {
        ConfigChange::Apply(Box::new(apply))
    }
}

impl std::fmt::Debug for ConfigChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ConfigChange::Apply(_) => "Apply",
            ConfigChange::Restart => "Restart",
        })
    }
}

type Handler = Box<dyn FnMut(Value) -> Result<ConfigChange, String> + Send>;

/// The handler of settings.
#[derive(Default)]
pub(crate) struct ConfigCallback {
    handler: Mutex<Option<Handler>>,
    prepared: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl ConfigCallback {
    pub(crate) fn set(&self, handler: Handler) {
        *lock(&self.handler) = Some(handler);
    }

    pub(crate) fn prepare(&self, settings: Value) -> SettingsAnswer {
        self.abort();
        let verdict = |verdict| SettingsAnswer {
            verdict,
            reason: None,
        };
        let mut handler = lock(&self.handler);
        match handler.as_mut().map(|handler| handler(settings)) {
            None => verdict(SettingsVerdict::Unhandled),
            Some(Ok(ConfigChange::Restart)) => verdict(SettingsVerdict::Restart),
            Some(Ok(ConfigChange::Apply(apply))) => {
                *lock(&self.prepared) = Some(apply);
                verdict(SettingsVerdict::Accepted)
            }
            Some(Err(reason)) => SettingsAnswer {
                verdict: SettingsVerdict::Refused,
                reason: Some(reason),
            },
        }
    }

    /// Uses what was prepared; false: nothing was.
    pub(crate) fn commit(&self) -> bool {
        let prepared = lock(&self.prepared).take();
        prepared.map(|apply| apply()).is_some()
    }

    pub(crate) fn abort(&self) {
        lock(&self.prepared).take();
    }
}

/// A handler that panicked under its lock is called again.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
