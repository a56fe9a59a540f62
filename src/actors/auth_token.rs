//! TokenSigner: what a module shows to be taken for itself.
//! Owns the key in the state directory. A token names a module and a run, signed with HMAC-SHA-256.
//! Never stores a token: the key is enough to verify one.

use std::io;
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::os::private;

/// Length of the key in bytes.
const KEY_BYTES: usize = 32;

/// Signs and checks tokens.
pub(crate) struct TokenSigner {
    key: [u8; KEY_BYTES],
}

impl TokenSigner {
    /// Reads the key from `state_dir/key`, or makes one (mode 0600; on Windows it inherits who may
    /// read it from the folder).
    ///
    /// # Errors
    /// When it can neither be read nor written.
    pub(crate) fn open(state_dir: &Path) -> io::Result<TokenSigner> {
        let path = state_dir.join("key");
        match private::read_regular(&path, 2 * KEY_BYTES as u64) {
            Ok(bytes) => {
                if let Ok(key) = bytes.try_into() {
                    return Ok(TokenSigner { key });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut key = [0; KEY_BYTES];
        random(&mut key)?;
        private::write(&path, &key, None)?;
        Ok(TokenSigner { key })
    }

    /// Writes the key again after its file was removed: tokens that are out stay good.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn save(&self, state_dir: &Path) -> io::Result<()> {
        private::write(&state_dir.join("key"), &self.key, None)
    }

    /// A key of one process's life, for where no directory can be written.
    #[cfg(test)]
    pub(crate) fn for_tests() -> TokenSigner {
        TokenSigner {
            key: [7; KEY_BYTES],
        }
    }

    /// The token of one run: `INSTANCE.GENERATION.SIGNATURE`.
    pub(crate) fn sign(&self, instance: &str, generation: u64) -> String {
        let signature = self.mac(instance, generation).finalize().into_bytes();
        let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{instance}.{generation}.{hex}")
    }

    /// Returns the instance and run that a token names, if this key signed it.
    pub(crate) fn verify<'a>(&self, token: &'a str) -> Option<(&'a str, u64)> {
        let mut parts = token.rsplitn(3, '.');
        let (hex, generation, instance) =
            (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
        if !hex.is_ascii() || hex.len() % 2 == 1 {
            return None;
        }
        let signature: Option<Vec<u8>> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok())
            .collect();
        // Compared in constant time by the library.
        self.mac(instance, generation)
            .verify_slice(&signature?)
            .ok()?;
        Some((instance, generation))
    }

    fn mac(&self, instance: &str, generation: u64) -> Hmac<Sha256> {
        // The block of SHA-256 is longer than the key: padded with zeros, as RFC 2104 says.
        let mut block = [0; 64];
        block[..KEY_BYTES].copy_from_slice(&self.key);
        let mut mac = Hmac::<Sha256>::new(&block.into());
        mac.update(instance.as_bytes());
        mac.update(b"\0");
        mac.update(&generation.to_le_bytes());
        mac
    }
}

#[cfg(unix)]
fn random(bytes: &mut [u8]) -> io::Result<()> {
    io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, bytes)
}

#[cfg(windows)]
use crate::os::machine::random;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_module_and_run_alone() {
        let tokens = TokenSigner::for_tests();
        let token = tokens.sign("storage", 4);
        assert_eq!(tokens.verify(&token), Some(("storage", 4)));
        let forged = [
            token.replace("storage", "capture"),
            token.replace(".4.", ".5."),
            token[..token.len() - 2].to_owned(),
            format!("{token}.x"),
            "storage.4.zz".to_owned(),
            "storage.4.éé".to_owned(),
            String::new(),
        ];
        for forged in forged {
            assert_eq!(tokens.verify(&forged), None, "{forged}");
        }
    }

    #[test]
    fn the_key_is_kept_and_private() {
        use std::fs;
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a directory");
        let token = TokenSigner::open(dir.path()).expect("made").sign("a", 1);
        assert!(
            TokenSigner::open(dir.path())
                .expect("read")
                .verify(&token)
                .is_some()
        );
        let mode = fs::metadata(dir.path().join("key"))
            .expect("is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
