//! Secrets: encrypted in the configuration, plain only in memory and where a module gets them.
//! Owns the key and the form of an encrypted value (`age:` and base64).
//! Never prints a secret: the type of a plain one has neither `Debug` nor `Serialize`.

use std::path::Path;

use age::secrecy::{ExposeSecret, SecretBox};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest, Sha256};

use crate::config::KeySource;
use crate::os::{keyring, private};

/// How an encrypted value begins.
pub(crate) const PREFIX: &str = "age:";
/// The longest secret.
pub(crate) const SECRET_MAX: usize = 64 << 10;
/// The longest key file.
const KEY_FILE_MAX: u64 = 64 << 10;

/// A plain secret. It is overwritten when it is dropped.
pub(crate) struct Secret(SecretBox<Vec<u8>>);

/// The keys of one place; the first one encrypts, each of them decrypts.
pub(crate) struct SecretKeys(Vec<age::x25519::Identity>);

/// Why a key or a value cannot be used. It never holds a part of a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the key {path}: {source}; `mainstay secret set` creates one")]
    Key {
        path: String,
        source: std::io::Error,
    },
    /// The keyring has it not, or cannot be used.
    #[error(
        "cannot read the key {name} in the keyring of the kernel: {source}; \
         `mainstay secret store-key` puts it there"
    )]
    Keyring {
        name: String,
        source: std::io::Error,
    },
    /// Others may read it.
    #[error("cannot use the key {0}: others may read it; run `chmod 600` on it")]
    OpenKey(String),
    /// No key is in it.
    #[error("cannot use the key {0}: no AGE-SECRET-KEY is in it")]
    NoKey(String),
    /// A value that is not encrypted as it has to be.
    #[error("cannot decrypt it: it is damaged; set it again with `mainstay secret set`")]
    Damaged,
    /// It was encrypted for another key.
    #[error("cannot decrypt it with this key; set it again with `mainstay secret set`")]
    OtherKey,
    /// It cannot be encrypted.
    #[error("cannot encrypt it: {0}")]
    Encrypt(String),
}

impl Secret {
    pub(crate) fn new(bytes: Vec<u8>) -> Secret {
        Secret(SecretBox::new(Box::new(bytes)))
    }

    /// A random text of 64 digits: the digest of a new key.
    pub(crate) fn generate() -> Secret {
        let key = age::x25519::Identity::generate().to_string();
        let digest = Sha256::digest(key.expose_secret());
        let text: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Secret::new(text.into_bytes())
    }

    /// The bytes, for the file or the variable of a module alone.
    pub(crate) fn expose(&self) -> &[u8] {
        self.0.expose_secret()
    }
}

impl SecretKeys {
    /// A new key.
    pub(crate) fn generate() -> SecretKeys {
        SecretKeys(vec![age::x25519::Identity::generate()])
    }

    /// Reads the keys of a place.
    ///
    /// # Errors
    /// It is not there, open to others, or has no key.
    pub(crate) fn load(source: &KeySource) -> Result<SecretKeys, SecretError> {
        match source {
            KeySource::File(path) => SecretKeys::load_file(path),
            KeySource::Keyring(name) => {
                let failed = |source| SecretError::Keyring {
                    name: name.clone(),
                    source,
                };
                let bytes = keyring::read(name).map_err(failed)?;
                SecretKeys::parse(bytes, || source.to_string())
            }
        }
    }

    /// Reads a key file; only this user, or root, may have access to it.
    ///
    /// # Errors
    /// As `load`.
    pub(crate) fn load_file(path: &Path) -> Result<SecretKeys, SecretError> {
        let shown = || path.display().to_string();
        let bytes = private::read_private(path, KEY_FILE_MAX).map_err(|source| {
            match source.kind() == std::io::ErrorKind::PermissionDenied {
                true => SecretError::OpenKey(shown()),
                false => SecretError::Key {
                    path: shown(),
                    source,
                },
            }
        })?;
        SecretKeys::parse(bytes, shown)
    }

    /// The keys in the text of a key file.
    ///
    /// # Errors
    /// It has none.
    pub(crate) fn parse(
        bytes: Vec<u8>,
        shown: impl Fn() -> String,
    ) -> Result<SecretKeys, SecretError> {
        let text = Secret::new(bytes);
        let text = std::str::from_utf8(text.expose()).unwrap_or_default();
        let keys = text.lines().filter_map(|line| line.trim().parse().ok());
        let keys: Vec<age::x25519::Identity> = keys.collect();
        match keys.is_empty() {
            true => Err(SecretError::NoKey(shown())),
            false => Ok(SecretKeys(keys)),
        }
    }

    /// These keys, and those of another file after them.
    pub(crate) fn with(mut self, older: SecretKeys) -> SecretKeys {
        self.0.extend(older.0);
        self
    }

    /// Replaces the key file.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn save(&self, path: &Path) -> std::io::Result<()> {
        private::write(path, self.text().expose(), None)
    }

    /// Puts the keys into the keyring of the kernel.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn store(&self, name: &str) -> std::io::Result<()> {
        keyring::store(name, self.text().expose())
    }

    fn text(&self) -> Secret {
        let mut text = String::from("# Decrypts the secrets of mainstay. Keep a copy elsewhere.\n");
        for key in &self.0 {
            text.push_str(&format!("# public key: {}\n", key.to_public()));
            text.push_str(key.to_string().expose_secret());
            text.push('\n');
        }
        Secret::new(text.into_bytes())
    }

    /// Encrypts a value.
    ///
    /// # Errors
    /// What the library says.
    pub(crate) fn encrypt(&self, secret: &Secret) -> Result<String, SecretError> {
        let Some(key) = self.0.first() else {
            return Err(SecretError::Encrypt("there is no key".to_owned()));
        };
        let sealed = age::encrypt(&key.to_public(), secret.expose());
        let sealed = sealed.map_err(|error| SecretError::Encrypt(error.to_string()))?;
        Ok(format!("{PREFIX}{}", BASE64.encode(sealed)))
    }

    /// Decrypts a value.
    ///
    /// # Errors
    /// It is damaged, or for another key.
    pub(crate) fn decrypt(&self, sealed: &str) -> Result<Secret, SecretError> {
        let text = sealed.strip_prefix(PREFIX).ok_or(SecretError::Damaged)?;
        let bytes = BASE64.decode(text).map_err(|_| SecretError::Damaged)?;
        for key in &self.0 {
            match age::decrypt(key, &bytes) {
                Ok(plain) => return Ok(Secret::new(plain)),
                Err(age::DecryptError::NoMatchingKeys) => {}
                Err(_) => return Err(SecretError::Damaged),
            }
        }
        Err(SecretError::OtherKey)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_decrypted_by_its_key_alone() {
        let (one, other) = (SecretKeys::generate(), SecretKeys::generate());
        let sealed = one
            .encrypt(&Secret::new(b"hunter2".to_vec()))
            .expect("encrypted");
        assert!(sealed.starts_with(PREFIX) && !sealed.contains("hunter2"));
        assert_eq!(
            one.decrypt(&sealed)
                .map(|secret| secret.expose().to_vec())
                .ok(),
            Some(b"hunter2".to_vec())
        );
        assert!(matches!(other.decrypt(&sealed), Err(SecretError::OtherKey)));
        for damaged in [
            "age:",
            "age:AAAA",
            "age:*",
            "hunter2",
            &sealed[..sealed.len() - 8],
        ] {
            assert!(
                matches!(one.decrypt(damaged), Err(SecretError::Damaged)),
                "{damaged}"
            );
        }
        let both = other.with(one);
        assert!(both.decrypt(&sealed).is_ok(), "an older key decrypts");
    }

    #[test]
    fn a_key_file_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("secret.key");
        assert!(matches!(
            SecretKeys::load_file(&path),
            Err(SecretError::Key { .. })
        ));
        let keys = SecretKeys::generate();
        keys.save(&path).expect("saved");
        let sealed = keys
            .encrypt(&Secret::new(b"x".to_vec()))
            .expect("encrypted");
        assert!(SecretKeys::load_file(&path).is_ok_and(|keys| keys.decrypt(&sealed).is_ok()));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let open = std::fs::Permissions::from_mode(0o640);
            std::fs::set_permissions(&path, open).expect("changed");
            assert!(matches!(
                SecretKeys::load_file(&path),
                Err(SecretError::OpenKey(_))
            ));
        }
        std::fs::write(&path, "# none\n").expect("written");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let closed = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(&path, closed).expect("changed");
        }
        assert!(matches!(
            SecretKeys::load_file(&path),
            Err(SecretError::NoKey(_))
        ));
    }
}
