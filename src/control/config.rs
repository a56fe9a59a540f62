//! `config.get`: the values in force, and where each is set.
//! Owns the rule which values are hidden.
//! Never returns the environment or the settings of a module: they may be confidential.

use std::sync::Arc;

use mainstay_protocol::config_values::{ConfigValue, ConfigValues};
use mainstay_protocol::methods::ConfigGet;
use mainstay_protocol::{ErrorCode, RequestError};
use serde_json::Value;

use super::{Answer, Caller, MethodResult};
use crate::actors::RuntimeContext;
use crate::config::is_confidential;

/// Returns the configuration in force at or below a path.
///
/// # Errors
/// `invalid_params` when there is no such key.
pub(crate) fn values(ctx: &RuntimeContext, path: &str) -> Result<Vec<ConfigValue>, RequestError> {
    let values = ctx.configuration().values(path);
    let invalid = |error| RequestError::new(ErrorCode::InvalidParams, format!("{error}"));
    let mut values = values.map_err(invalid)?;
    values.iter_mut().for_each(hide);
    Ok(values)
}

/// Hides a value that may be confidential.
pub(super) fn hide(value: &mut ConfigValue) {
    if is_confidential(&value.path, &value.value) {
        (value.value, value.hidden) = (Value::Null, true);
    }
}

impl Answer for ConfigGet {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        _: &Caller,
        params: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        let values = values(ctx, &params.path.unwrap_or_default())?;
        Ok(MethodResult::Now(ConfigValues { values }))
    }
}
