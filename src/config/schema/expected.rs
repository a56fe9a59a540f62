//! Describes types, for messages and for the reference.
//! Owns the name of each type.
//! Never reads a value.

use super::ValueType;

impl ValueType {
    /// "a duration such as "10s"".
    pub(crate) fn expected(self) -> String {
        match self {
            ValueType::Flag => "true or false".to_owned(),
            ValueType::Text | ValueType::Template => "text".to_owned(),
            ValueType::Name => {
                "a name of a-z, 0-9, - and _, which starts with a letter or digit and \
                           has at most 64 characters"
                    .to_owned()
            }
            ValueType::Whole { min, max } => format!("a whole number from {min} to {max}"),
            ValueType::Number { min, max } => format!("a number from {min} to {max}"),
            ValueType::Duration { zero: true } => {
                "a duration such as \"250ms\", \"10s\" or \"5m\"".to_owned()
            }
            ValueType::Duration { zero: false } => {
                "a duration above zero such as \"250ms\", \"10s\" or \"5m\"".to_owned()
            }
            ValueType::Bytes => "a size above zero such as \"10MiB\" or 65536".to_owned(),
            ValueType::Signal => "a signal that can ask to stop, such as \"SIGTERM\"".to_owned(),
            ValueType::Choice(words) => {
                let available: Vec<String> = words
                    .iter()
                    .filter(|word| word.available)
                    .map(|word| format!("{:?}", word.word))
                    .collect();
                listed(&available)
            }
            ValueType::Command => "program and arguments as a list of texts".to_owned(),
            ValueType::List(each) => format!("a list, each {}", each.expected()),
            ValueType::Map(each) => format!("a table, each value {}", each.expected()),
            ValueType::Table(section) => {
                let keys: Vec<String> = section
                    .all()
                    .filter(|key| key.available)
                    .map(|key| key.name.to_owned())
                    .collect();
                if keys.len() > 15 {
                    return "a table".to_owned();
                }
                format!("a table with any of {}", keys.join(", "))
            }
            ValueType::OneOf(forms) => {
                let each: Vec<String> = forms.iter().map(|form| form.expected()).collect();
                listed(&each)
            }
            ValueType::Any => "anything".to_owned(),
        }
    }
}

fn listed(words: &[String]) -> String {
    match words {
        [] => "nothing yet".to_owned(),
        [one] => one.clone(),
        [before @ .., last] => format!("{} or {last}", before.join(", ")),
    }
}
