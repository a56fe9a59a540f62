//! Encrypted values, as they are written in `[secrets]`.
//! Owns their form.
//! Never shows one that is not encrypted, nor the line that it is in.

use super::{FromConfig, ValueType};
use crate::config::read_context::ReadContext;
use crate::config::tree::{Node, TreeValue};

/// An encrypted value: `age:` and base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SealedSecret(pub(crate) String);

impl FromConfig for SealedSecret {
    const FORM: ValueType = ValueType::Text;

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        match &node.value {
            TreeValue::Text(text) if text.starts_with("age:") => Some(SealedSecret(text.clone())),
            _ => {
                let name = at.path();
                let name = name.strip_prefix("secrets.").unwrap_or(&name);
                let message = format!("cannot use secrets.{name}: it is not encrypted");
                let hint = format!("`mainstay secret set {name}` encrypts a value");
                at.secret_problem(node.origin, message, &hint)
            }
        }
    }

    fn show(&self) -> String {
        String::new()
    }
}
