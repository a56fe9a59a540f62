//! The features of each module, by the plan in force and by whether it is degraded.
//! Owns how a module learns of them: variables at its start, `feature.set` over its connection, a
//! file if it has a `reload_signal` or `reload_command`. Never restarts a module for a feature.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_policy::feature::is_in_share;
use mainstay_protocol::method::{FeatureParams, name};
use serde_json::json;

use super::{RuntimeContext, feature_files, settings_files};
use crate::config::{Configuration, Feature};
use crate::os::{machine_id, private};

/// Timeout of telling a module.
const TELL_TIMEOUT: Duration = Duration::from_secs(30);
/// What is read of a file that may hold the features already, bytes.
const FORMER_MAX: u64 = 1 << 20;

impl RuntimeContext {
    /// Each configured feature, and whether it is on for a module.
    pub(crate) fn features(&self, module: ModuleId) -> BTreeMap<String, bool> {
        let configuration = self.configuration();
        let all = configuration.system.features.keys();
        all.map(|name| (name.clone(), self.has_feature(module, name)))
            .collect()
    }

    /// Whether a feature is on for a module at the moment.
    fn has_feature(&self, module: ModuleId, name: &str) -> bool {
        let is_degraded = self.degraded.get(module).load(Ordering::Relaxed);
        let off = &self.launch(module).degrade.disable;
        let is_off = is_degraded && off.iter().any(|off| off == name);
        self.feature(module, name) == Some(true) && !is_off
    }

    /// Whether a feature is on for a module that is not degraded; None: it is not configured.
    pub(crate) fn feature(&self, module: ModuleId, name: &str) -> Option<bool> {
        let configuration = self.configuration();
        let system = &configuration.system;
        system.features.get(name).map(|feature| match feature {
            Feature::Switch(value) => *value,
            Feature::Percent(percent) => {
                let instance = self.instance(module);
                let instance = format!("{}/{}/{instance}", machine_id::machine_id(), system.name);
                is_in_share(name, &instance, *percent)
            }
        })
    }

    /// Where a module that is told by a signal or a command finds its features; none without any.
    pub(super) fn features_file(&self, module: ModuleId) -> Option<PathBuf> {
        let configuration = self.configuration();
        let is_told = self.launch(module).reload.is_some();
        let has_file = is_told && !configuration.system.features.is_empty();
        let folder = || settings_files::folder(&configuration).join("features");
        has_file.then(|| folder().join(format!("{}.json", self.instance(module))))
    }

    /// The features that are on, for the environment.
    pub(super) fn features_text(&self, module: ModuleId) -> String {
        let features = self.features(module);
        let on = features.into_iter().filter(|(_, on)| *on);
        let on: Vec<String> = on.map(|(name, _)| name).collect();
        on.join(",")
    }
}

/// Tells a module that connects: a feature may have changed since it was started.
pub(crate) fn on_connected(ctx: &Arc<RuntimeContext>, module: ModuleId) {
    let names = ctx.features(module).into_keys().collect();
    tell(ctx, module, names);
}

/// Writes the features of all modules that read them from a file; blocks.
pub(crate) fn write_all(ctx: &RuntimeContext) {
    for module in ctx.plan().ids() {
        write(ctx, module);
    }
}

/// Writes the features of a module to its file; returns whether it had other ones there. Blocks.
pub(super) fn write(ctx: &RuntimeContext, module: ModuleId) -> bool {
    let Some(path) = ctx.features_file(module) else {
        return false;
    };
    // Read first: it may take long, and what holds then is written. It is the module's own, which
    // may have made it as long as it likes.
    let former = private::read_regular(&path, FORMER_MAX).ok();
    let text = serde_json::to_vec_pretty(&ctx.features(module)).unwrap_or_default();
    if former.as_deref() == Some(&text) {
        return false;
    }
    let (launch, folder) = (ctx.launch(module), path.parent().unwrap_or(Path::new(".")));
    let parents = folder.parent().map_or(Ok(()), private::traversable_dir);
    let written = parents
        .and_then(|()| private::traversable_dir(folder))
        .and_then(|()| private::write(&path, &text, launch.user.as_deref()));
    if let Err(error) = written {
        let module = &*ctx.name(module);
        tracing::error!(module, %error, "cannot write the features of the module");
        return false;
    }
    former.is_some()
}

/// Tells the modules what another plan changed.
pub(super) fn on_plan(ctx: &Arc<RuntimeContext>, former: &Configuration) {
    let next = ctx.configuration();
    for module in ctx.plan().ids() {
        feature_files::refresh(ctx, module);
    }
    let (before, after) = (&former.system.features, &next.system.features);
    let names = before.keys().chain(after.keys());
    let names: Vec<&String> = names
        .filter(|name| before.get(*name) != after.get(*name))
        .collect();
    if !names.is_empty() {
        for module in ctx.plan().ids() {
            tell(
                ctx,
                module,
                names.iter().map(|name| (*name).clone()).collect(),
            );
        }
    }
}

/// Tells a module the values of these features, if it is connected.
fn tell(ctx: &Arc<RuntimeContext>, module: ModuleId, names: Vec<String>) {
    if names.is_empty() {
        return;
    }
    let ctx = Arc::clone(ctx);
    tokio::spawn(async move {
        for feature in names {
            let value = ctx.has_feature(module, &feature).into();
            let params = json!(FeatureParams {
                name: feature,
                value
            });
            let told = ctx
                .bus
                .request(module, name::FEATURE_SET, params, TELL_TIMEOUT);
            if let Err(error) = told.await {
                // Most modules have no connection.
                tracing::debug!(
                    module = &*ctx.name(module),
                    "feature.set: {}",
                    error.message
                );
                return;
            }
        }
    });
}
