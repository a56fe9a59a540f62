//! Hints for messages: keys and values as people write them, and suggestions.
//! Owns the edit distance of suggestions.
//! Never decides that a value is wrong.

use std::borrow::Cow;

use super::schema::ValueType;
use super::tree::{Node, TreeValue};

/// Joins keys by dots, with quotes where needed.
pub(crate) fn key_path(path: &[&str]) -> String {
    let bare = |key: &&str| {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        !key.is_empty() && key.bytes().all(word)
    };
    let keys: Vec<Cow<'_, str>> = path
        .iter()
        .map(|key| {
            if bare(key) {
                Cow::Borrowed(*key)
            } else {
                format!("{key:?}").into()
            }
        })
        .collect();
    keys.join(".")
}

/// Returns the closest word, if one is close.
pub(crate) fn closest<'w>(word: &str, among: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    if word.is_empty() || word.len() > 64 {
        return None;
    }
    let small = word.to_lowercase().replace('-', "_");
    // A single letter has no close name.
    let allowed = if small.len() < 2 {
        0
    } else {
        small.len().div_ceil(3).min(3)
    };
    among
        .into_iter()
        .filter_map(|other| {
            let other_small = other.to_lowercase().replace('-', "_");
            // A part of a name counts as one missing letter.
            let part = small.len() > 3
                && other_small.len() > 3
                && (other_small.starts_with(&small) || small.starts_with(&other_small));
            if other.len().abs_diff(word.len()) > allowed {
                return part.then_some((allowed + 1, other));
            }
            let distance = strsim::osa_distance(&small, &other_small);
            (distance <= allowed || part).then_some((distance, other))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other)
}

/// Returns whether two words differ by one letter at most.
pub(crate) fn is_typo(word: &str, other: &str) -> bool {
    strsim::osa_distance(word, other) <= 1
}

/// The key that has this name in other supervisors.
pub(crate) fn alias(name: &str) -> Option<&'static str> {
    Some(match name.to_lowercase().as_str() {
        "depends_on" | "depends" | "needs_modules" | "binds_to" => "requires",
        "after" | "start_after" => "wants",
        "environment" | "env_vars" => "env",
        "environment_file" | "environmentfile" | "envfile" => "env_file",
        "cwd" | "dir" | "workdir" | "working_dir" | "working_directory" | "workingdirectory" => {
            "directory"
        }
        "cmd" | "exec" | "exec_start" | "execstart" | "entrypoint" | "program" => "command",
        "kill_signal" | "stopsignal" => "stop_signal",
        "stop_timeout" | "stop_grace_period" => "shutdown_timeout",
        "pre_start" | "exec_start_pre" => "before_start",
        "post_stop" | "exec_stop_post" => "after_stop",
        _ => return None,
    })
}

/// Formats a value for a message.
pub(crate) fn show(node: &Node) -> String {
    match &node.value {
        TreeValue::Text(text) if text.chars().count() > 60 => "this text".to_owned(),
        TreeValue::Text(text) => format!("{text:?}"),
        TreeValue::Whole(value) => value.to_string(),
        TreeValue::Number(value) => format!("{value:?}"),
        TreeValue::Flag(value) => value.to_string(),
        TreeValue::Other(text) => text.clone(),
        TreeValue::List(list) if list.is_empty() => "an empty list".to_owned(),
        TreeValue::List(_) | TreeValue::Table(_) => node.kind().to_owned(),
    }
}

/// Suggests what to write instead.
pub(crate) fn advice(form: ValueType, node: &Node) -> String {
    match (form, &node.value) {
        (ValueType::Command, TreeValue::Text(text)) => {
            let words: Vec<String> = text
                .split_whitespace()
                .map(|word| format!("{word:?}"))
                .collect();
            format!("for instance [{}]", words.join(", "))
        }
        (ValueType::Duration { .. }, TreeValue::Whole(number)) if *number > 0 => {
            format!("write the unit: \"{number}s\" or \"{number}ms\"")
        }
        (ValueType::Duration { zero: false }, _) => {
            "more than zero, for instance \"10s\"".to_owned()
        }
        (ValueType::Flag, TreeValue::Text(text)) if text == "true" || text == "false" => {
            format!("without quotes: {text}")
        }
        (ValueType::Whole { .. } | ValueType::Number { .. }, TreeValue::Text(text))
            if text.parse::<f64>().is_ok() =>
        {
            format!("without quotes: {text}")
        }
        (ValueType::List(_), TreeValue::Text(text)) => format!("in brackets: [{text:?}]"),
        _ => String::new(),
    }
}

pub(crate) fn choices_of(form: ValueType, each: &mut impl FnMut(&'static str, bool)) {
    match form {
        ValueType::Choice(words) => words
            .iter()
            .for_each(|word| each(word.word, word.available)),
        ValueType::OneOf(forms) => forms.iter().for_each(|form| choices_of(*form, each)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn the_nearest_word_is_meant() {
        let words = [
            "requires",
            "required",
            "parallel_startup",
            "env",
            "env_file",
        ];
        for (word, meant) in [
            ("require", Some("requires")),
            ("Required", Some("required")),
            ("parallel", Some("parallel_startup")),
            ("envs", Some("env")),
            ("env-file", Some("env_file")),
            ("xyzzy", None),
            ("e", None),
        ] {
            assert_eq!(closest(word, words), meant, "{word}");
        }
    }
}
