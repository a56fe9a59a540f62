//! `config`: values of the configuration with their origins, and the verbs that change them.
//! Owns the output.
//! Never changes the configuration; reads the files only if the system is not running.

use std::fmt::Write;

use mainstay_protocol::config_values::{ConfigValue, ConfigValues};
use mainstay_protocol::enums::CliExitCode;
use serde_json::Value;

use super::args::{self, ConfigVerb, GlobalArgs};
use super::config_change;
use super::error::CliError;
use super::format;
use super::system_locator::SystemLocator;
use super::terminal;
use crate::config::ConfigSources;
use crate::runtime::first_plan;

pub(crate) fn run(args: &args::ConfigArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    match &args.verb {
        ConfigVerb::Get { path, origin, json } => get(path.as_deref(), *origin, *json, global),
        ConfigVerb::Set {
            key,
            value,
            persist,
            change,
        } => config_change::set(key, value, *persist, change, global),
        ConfigVerb::Unset {
            key,
            persist,
            change,
        } => config_change::unset(key, *persist, change, global),
        ConfigVerb::History { json } => config_change::history(*json, global),
        ConfigVerb::Diff { from, to, json } => config_change::diff(*from, *to, *json, global),
        ConfigVerb::Rollback { plan, change } => config_change::rollback(*plan, change, global),
    }
}

fn get(
    path: Option<&str>,
    origin: bool,
    json: bool,
    global: &GlobalArgs,
) -> Result<CliExitCode, CliError> {
    let path = path.unwrap_or_default();
    let values = match SystemLocator::find(global)?.connect() {
        Ok(mut client) => client.config(path)?,
        Err(CliError::NotRunning { name, .. }) => {
            terminal::print_error(&format!(
                "mainstay '{name}' is not running: read from its files"
            ));
            of_files(path, global)?
        }
        Err(failure) => return Err(failure),
    };
    if json {
        terminal::print_json(&ConfigValues { values })?;
    } else {
        terminal::print(&render(path, &values, origin))?;
    }
    Ok(CliExitCode::Ok)
}

/// Returns the values that `up` would use.
fn of_files(path: &str, global: &GlobalArgs) -> Result<Vec<ConfigValue>, CliError> {
    let name = global.name.iter();
    let sets: Vec<String> = name.map(|name| format!("mainstay.name={name}")).collect();
    let first = ConfigSources::find(global.config.as_deref(), &sets)
        .and_then(|sources| first_plan::read(&sources))
        .map_err(|problems| CliError::new(CliExitCode::Configuration, problems.to_string()))?;
    let values = first.configuration.values(path);
    values.map_err(|error| CliError::new(CliExitCode::Refused, error.to_string()))
}

/// Prints the value of one key alone, else `key = value` lines in TOML.
fn render(path: &str, values: &[ConfigValue], origin: bool) -> String {
    let mut out = String::new();
    for ConfigValue {
        path: key,
        value,
        hidden,
        origin: said,
    } in values
    {
        if *hidden {
            let _ = write!(out, "# {key} is set, and not shown");
        } else if values.len() == 1 && key == path {
            out.push_str(&format::single_line(&plain(value)));
        } else if value.is_null() {
            let _ = write!(out, "# {key} is not set");
        } else {
            let _ = write!(out, "{key} = {}", format::single_line(&toml(value)));
        }
        if origin {
            let _ = write!(out, "  # {}", format::single_line(&said.to_string()));
        }
        out.push('\n');
    }
    out
}

/// Formats a value for scripts: text without quotes, an absent value as an empty line.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => toml(other),
    }
}

pub(super) fn toml(value: &Value) -> String {
    match value {
        Value::Object(table) => {
            let each = table
                .iter()
                .map(|(key, value)| format!("{key} = {}", toml(value)));
            let each: Vec<String> = each.collect();
            format!("{{ {} }}", each.join(", "))
        }
        Value::Array(list) => {
            let each: Vec<String> = list.iter().map(toml).collect();
            format!("[{}]", each.join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use mainstay_protocol::config_values::{ConfigLayer, ConfigOrigin};
    use serde_json::json;

    use super::*;

    fn value(path: &str, value: Value, line: Option<u32>) -> ConfigValue {
        let (layer, name) = match line {
            Some(_) => (ConfigLayer::File, "config/mainstay.toml"),
            None => (ConfigLayer::Default, ""),
        };
        let name = name.to_owned();
        ConfigValue {
            path: path.to_owned(),
            value,
            hidden: false,
            origin: ConfigOrigin { layer, name, line },
        }
    }

    #[test]
    fn one_key_is_its_value() {
        let one = [value("health.interval", json!("10s"), Some(3))];
        assert_eq!(render("health.interval", &one, false), "10s\n");
        let told = "10s  # config/mainstay.toml:3\n";
        assert_eq!(render("health.interval", &one, true), told);
        let nothing = [value("module.a.user", Value::Null, None)];
        assert_eq!(render("module.a.user", &nothing, false), "\n");
    }

    #[test]
    fn a_table_is_lines_of_toml() {
        let several = [
            value("module.a.command", json!(["a", "-x"]), Some(2)),
            value("module.a.ready", json!({ "tcp": "127.0.0.1:1" }), Some(3)),
            value("module.a.user", Value::Null, None),
        ];
        let expected = "\
module.a.command = [\"a\", \"-x\"]  # config/mainstay.toml:2
module.a.ready = { tcp = \"127.0.0.1:1\" }  # config/mainstay.toml:3
# module.a.user is not set  # default
";
        assert_eq!(render("module.a", &several, true), expected);
        let mut secret = value("module.a.env.KEY", Value::Null, Some(4));
        secret.hidden = true;
        let told = render("module.a.env.KEY", &[secret], false);
        assert_eq!(told, "# module.a.env.KEY is set, and not shown\n");
    }
}
