//! What the holder runs under one name: a module, a further replica of it, or a command of either.
//! Owns the text form of that name, and the only parser of it.
//! Never knows which modules there are.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::borrow::Borrow;
use core::fmt;
use core::ops::Deref;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest name in bytes: files and sockets are named after it.
const BYTES_MAX: usize = 200;

/// The name of what the holder runs: `web`, `web@2` for the second replica of it, `web#17` or
/// `web@2#17` for a short-lived command (a hook, a probe) of either.
///
/// A name read from another program may be none of these; it then names a module that no plan
/// has. [`Instance::check`] says so, and the holder starts nothing under it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instance(Arc<str>);

/// Why a text does not name an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidInstance(String);

impl fmt::Display for InvalidInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot name an instance {:?}: expected MODULE, MODULE@REPLICA or MODULE#COMMAND",
            self.0
        )
    }
}

impl core::error::Error for InvalidInstance {}

impl Instance {
    /// Replica `replica` of a module; the first one has the module's own name.
    #[must_use]
    pub fn new(module: &str, replica: u32) -> Instance {
        match replica {
            0 | 1 => Instance(module.into()),
            _ => Instance(format!("{module}@{replica}").into()),
        }
    }

    /// Command `number` of this module or replica.
    #[must_use]
    pub fn with_command(&self, number: u64) -> Instance {
        let (owner, _) = self.split_command();
        Instance(format!("{owner}#{number}").into())
    }

    /// The module.
    #[must_use]
    pub fn module(&self) -> &str {
        self.split_replica().0
    }

    /// The number of the replica, from 1 on.
    #[must_use]
    pub fn replica(&self) -> u32 {
        self.split_replica().1.unwrap_or(1)
    }

    /// The number of the command; None: it is a module or a replica.
    #[must_use]
    pub fn command(&self) -> Option<u64> {
        self.split_command().1
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is one of the forms above, and can be the name of a file.
    ///
    /// # Errors
    /// It is not.
    pub fn check(&self) -> Result<(), InvalidInstance> {
        let module = self.module();
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        let good = self.0.len() <= BYTES_MAX
            && !module.is_empty()
            && !module.starts_with('.')
            && module.chars().all(plain);
        match good {
            true => Ok(()),
            false => Err(InvalidInstance(self.0.as_ref().to_owned())),
        }
    }

    fn split_command(&self) -> (&str, Option<u64>) {
        split_number(&self.0, '#').map_or((&self.0, None), |(owner, number)| (owner, Some(number)))
    }

    fn split_replica(&self) -> (&str, Option<u32>) {
        let (owner, _) = self.split_command();
        let split = split_number(owner, '@').and_then(|(module, number)| {
            let replica = u32::try_from(number).ok().filter(|number| *number > 1)?;
            Some((module, Some(replica)))
        });
        split.unwrap_or((owner, None))
    }
}

/// The number after the last `mark`, written as [`Instance`] writes it.
fn split_number(text: &str, mark: char) -> Option<(&str, u64)> {
    let (before, digits) = text.rsplit_once(mark)?;
    let canonical = !digits.starts_with(['0', '+']) || digits == "0";
    let number = digits.parse().ok().filter(|_| canonical)?;
    Some((before, number))
}

impl FromStr for Instance {
    type Err = InvalidInstance;

    fn from_str(text: &str) -> Result<Instance, InvalidInstance> {
        let instance = Instance(text.into());
        instance.check()?;
        Ok(instance)
    }
}

impl Deref for Instance {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Instance {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Serialize for Instance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Instance {
    /// Accepts every text: a name that a newer side invented must not end the connection.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Instance, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(Instance(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn every_form_is_read_as_it_is_written() {
        for (text, module, replica, command) in [
            ("web", "web", 1, None),
            ("web@2", "web", 2, None),
            ("web#17", "web", 1, Some(17)),
            ("web@2#17", "web", 2, Some(17)),
            ("a_b-1#0", "a_b-1", 1, Some(0)),
        ] {
            let instance: Instance = text.parse().expect(text);
            assert_eq!(instance.module(), module, "{text}");
            assert_eq!(instance.replica(), replica, "{text}");
            assert_eq!(instance.command(), command, "{text}");
            let plain = Instance::new(module, replica);
            let made = command.map_or_else(|| plain.clone(), |number| plain.with_command(number));
            assert_eq!(made, instance);
            assert_eq!(made.to_string(), text);
            let json = serde_json::to_string(&instance).expect("it is JSON");
            assert_eq!(json, format!("{text:?}"));
            let read: Instance = serde_json::from_str(&json).expect("it is read");
            assert_eq!(read, instance);
        }
    }

    #[test]
    fn a_command_of_a_command_is_one_of_the_module() {
        let command = Instance::new("web", 2).with_command(1);
        assert_eq!(command.with_command(2).as_str(), "web@2#2");
    }

    #[test]
    fn other_texts_name_no_instance_and_still_arrive() {
        for text in [
            "",
            "#1",
            "@2",
            "web@",
            "web@1",
            "web@02",
            "web@0",
            "web#",
            "web#-1",
            "web#+1",
            "web#1#2",
            "web@2@3",
            "web#x",
            ".web",
            "a/b",
            "a b",
            "../x",
            "a\0b",
            "web@4294967296",
            "web#18446744073709551616",
        ] {
            assert!(text.parse::<Instance>().is_err(), "{text}");
            let json = serde_json::to_string(text).expect("it is JSON");
            let read: Instance = serde_json::from_str(&json).expect("it is read");
            assert_eq!(read.as_str(), text);
            assert!(read.check().is_err(), "{text}");
        }
        assert!("w".repeat(BYTES_MAX).parse::<Instance>().is_ok());
        assert!("w".repeat(BYTES_MAX + 1).parse::<Instance>().is_err());
    }
}
