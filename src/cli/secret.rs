//! `secret`: encrypted values of the configuration.
//! Owns the file `conf.d/secrets.toml` and the key that decrypts it.
//! Never prints a value: it is read from standard input or a file, and only encrypted.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use mainstay_protocol::enums::CliExitCode;

use super::args::{GlobalArgs, SecretArgs, SecretValueArgs, SecretVerb, StoreKeyArgs};
use super::error::CliError;
use super::terminal;
use crate::config::{self, ConfigSources, Configuration, KeySource};
use crate::os::private;
use crate::secrets::{SECRET_MAX, Secret, SecretKeys};

/// The longest key that is read from standard input.
const KEY_BYTES_MAX: u64 = 64 << 10;

pub(crate) fn run(args: &SecretArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let sources = ConfigSources::find(global.config.as_deref(), &[]);
    let configuration = sources
        .and_then(|sources| config::load(&sources))
        .map_err(|problems| CliError::new(CliExitCode::Configuration, problems.to_string()))?;
    let file = SecretFile::read(&configuration)?;
    match &args.verb {
        SecretVerb::Set(value) => set(value, &configuration, file, false),
        SecretVerb::Rotate(value) => set(value, &configuration, file, true),
        SecretVerb::Rekey => rekey(&configuration, file),
        SecretVerb::StoreKey(args) => store_key(args, &configuration),
        SecretVerb::List => list(&configuration),
    }
}

fn failed(text: impl std::fmt::Display) -> CliError {
    CliError::new(CliExitCode::Failed, text.to_string())
}

fn set(
    args: &SecretValueArgs,
    configuration: &Configuration,
    mut file: SecretFile,
    replaces: bool,
) -> Result<CliExitCode, CliError> {
    if replaces && !configuration.system.secrets.contains_key(&args.name) {
        let text = format!(
            "cannot rotate {}: there is no such secret; `mainstay secret set {0}` makes one",
            args.name
        );
        return Err(failed(text));
    }
    let source = &configuration.system.secret_key;
    let mut is_new = false;
    if let KeySource::File(path) = source
        && path.symlink_metadata().is_err()
    {
        make_key(path)?;
        is_new = true;
    }
    let keys = SecretKeys::load(source).map_err(failed)?;
    let sealed = keys.encrypt(&value(args)?).map_err(failed)?;
    file.values.insert(args.name.clone(), sealed);
    file.write()?;
    let mut text = format!("wrote {} to {}\n", args.name, file.path.display());
    if is_new {
        let _ = writeln!(
            text,
            "made the key {source}: keep a copy elsewhere, without it no secret can be read"
        );
    }
    let users = users(configuration, &args.name);
    match users.is_empty() {
        true => text.push_str(&format!(
            "no module uses it yet: `secrets = [\"{}\"]` in a module gives it the file \
             ${{secrets_dir}}/{0}\n",
            args.name
        )),
        false => text.push_str(&format!("used by {}\n", users.join(", "))),
    }
    terminal::print(&text)?;
    Ok(CliExitCode::Ok)
}

/// Makes a key file; returns its keys.
fn make_key(path: &Path) -> Result<SecretKeys, CliError> {
    let keys = SecretKeys::generate();
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = private::private_dir(folder).and_then(|()| keys.save(path));
    written.map_err(|error| failed(format!("cannot write {}: {error}", path.display())))?;
    Ok(keys)
}

/// Puts a key into the keyring that the configuration names.
fn store_key(args: &StoreKeyArgs, configuration: &Configuration) -> Result<CliExitCode, CliError> {
    let KeySource::Keyring(name) = &configuration.system.secret_key else {
        let text = "cannot store the key: mainstay.secret_key is a file; write \
                    `secret_key = \"keyring:NAME\"` first";
        return Err(failed(text));
    };
    let keys = match (&args.new, &args.from) {
        (Some(path), _) if path.symlink_metadata().is_ok() => {
            let text = format!("cannot write {}: there is such a file", path.display());
            return Err(failed(text));
        }
        (Some(path), _) => make_key(path)?,
        (None, Some(path)) => SecretKeys::load_file(path).map_err(failed)?,
        (None, None) => {
            let mut bytes = Vec::new();
            let mut input = std::io::stdin().take(KEY_BYTES_MAX);
            input.read_to_end(&mut bytes).map_err(failed)?;
            SecretKeys::parse(bytes, || "on standard input".to_owned()).map_err(failed)?
        }
    };
    keys.store(name).map_err(|error| {
        failed(format!(
            "cannot put the key {name} into the keyring of the kernel: {error}"
        ))
    })?;
    let copy = args.new.as_deref().map_or_else(String::new, |path| {
        format!("wrote it to {}: keep it elsewhere\n", path.display())
    });
    terminal::print(&format!(
        "the key {name} is in the keyring of the kernel until the machine ends\n{copy}"
    ))?;
    Ok(CliExitCode::Ok)
}

/// The value: made up, from a file, or from standard input without its last line break.
fn value(args: &SecretValueArgs) -> Result<Secret, CliError> {
    if args.generate {
        return Ok(Secret::generate());
    }
    let limit = u64::try_from(SECRET_MAX + 2).unwrap_or(u64::MAX);
    let mut bytes = match &args.from {
        Some(path) => private::read_regular(path, limit)
            .map_err(|error| failed(format!("cannot read {}: {error}", path.display())))?,
        None => {
            if std::io::stdin().is_terminal() {
                terminal::print_error("type the value, then Enter and Ctrl-D");
            }
            let mut bytes = Vec::new();
            let mut input = std::io::stdin().take(limit);
            input.read_to_end(&mut bytes).map_err(failed)?;
            bytes
        }
    };
    for end in [b'\n', b'\r'] {
        if bytes.last() == Some(&end) {
            bytes.pop();
        }
    }
    if bytes.is_empty() || bytes.len() > SECRET_MAX {
        let text = format!(
            "cannot use the value: it has {} bytes, 1 to {SECRET_MAX} can be kept",
            bytes.len()
        );
        return Err(failed(text));
    }
    Ok(Secret::new(bytes))
}

/// Encrypts everything for a new key. Until all is written the file has both keys.
fn rekey(configuration: &Configuration, mut file: SecretFile) -> Result<CliExitCode, CliError> {
    let all = configuration.system.secrets.iter();
    let elsewhere = all.filter(|(name, _)| !file.values.contains_key(*name));
    let elsewhere: Vec<&str> = elsewhere.map(|(name, _)| name.as_str()).collect();
    if !elsewhere.is_empty() {
        let text = format!(
            "cannot rekey: {} is written elsewhere than in {}; move it there",
            elsewhere.join(", "),
            file.path.display()
        );
        return Err(failed(text));
    }
    let KeySource::File(path) = &configuration.system.secret_key else {
        let text = "cannot rekey: the new key would be in the keyring alone; write a file as \
                    mainstay.secret_key, rekey, then run `mainstay secret store-key`";
        return Err(failed(text));
    };
    let old = SecretKeys::load_file(path).map_err(failed)?;
    let new = SecretKeys::generate();
    for (name, sealed) in &mut file.values {
        let named = |error| failed(format!("cannot rekey {name}: {error}"));
        let plain = old.decrypt(sealed).map_err(named)?;
        *sealed = new.encrypt(&plain).map_err(named)?;
    }
    let write = |keys: &SecretKeys| {
        let written = keys.save(path);
        written.map_err(|error| failed(format!("cannot write {}: {error}", path.display())))
    };
    // The plan in force, and those before it, need the former key: it stays.
    write(&new.with(old))?;
    file.write()?;
    let count = file.values.len();
    terminal::print(&format!(
        "encrypted {count} secrets for a new key in {}: keep a copy elsewhere\n",
        path.display()
    ))?;
    Ok(CliExitCode::Ok)
}

fn list(configuration: &Configuration) -> Result<CliExitCode, CliError> {
    let mut text = String::new();
    let names = configuration.system.secrets.keys();
    let width = names.map(String::len).max().unwrap_or_default();
    for name in configuration.system.secrets.keys() {
        let users = users(configuration, name);
        let users = match users.is_empty() {
            true => "used by no module".to_owned(),
            false => users.join(", "),
        };
        let _ = writeln!(text, "{name:width$}  {users}");
    }
    terminal::print(&text)?;
    Ok(CliExitCode::Ok)
}

/// The modules that use a secret.
fn users(configuration: &Configuration, name: &str) -> Vec<String> {
    let modules = configuration.modules.iter();
    let using = modules.filter(|(_, launch)| launch.secrets.iter().any(|used| used.name == name));
    using.map(|(spec, _)| spec.name.clone()).collect()
}

/// `conf.d/secrets.toml`.
struct SecretFile {
    path: PathBuf,
    values: BTreeMap<String, String>,
}

impl SecretFile {
    fn read(configuration: &Configuration) -> Result<SecretFile, CliError> {
        let path = configuration.system.config_dir.join("conf.d/secrets.toml");
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            read => {
                read.map_err(|error| failed(format!("cannot read {}: {error}", path.display())))?
            }
        };
        let table: toml::Table = text
            .parse()
            .map_err(|error: toml::de::Error| failed(error.message()))?;
        let mut values = BTreeMap::new();
        let secrets = table.get("secrets").and_then(toml::Value::as_table);
        for (name, value) in secrets.into_iter().flatten() {
            let value = value.as_str().unwrap_or_default();
            values.insert(name.clone(), value.to_owned());
        }
        let others = table.keys().find(|key| *key != "secrets");
        if let Some(key) = others {
            let text = format!(
                "cannot change {}: it has [{key}] in it; move that to another file",
                path.display()
            );
            return Err(failed(text));
        }
        Ok(SecretFile { path, values })
    }

    fn write(&self) -> Result<(), CliError> {
        let mut text = String::from(
            "# Written by `mainstay secret`. The values are encrypted with age.\n\n[secrets]\n",
        );
        for (name, value) in &self.values {
            let _ = writeln!(text, "{name} = \"{value}\"");
        }
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let owner = private::other_owner(&self.path);
        private::shared_dir(folder, owner.as_deref())
            .and_then(|()| private::write(&self.path, text.as_bytes(), owner.as_deref()))
            .map_err(|error| failed(format!("cannot write {}: {error}", self.path.display())))
    }
}
