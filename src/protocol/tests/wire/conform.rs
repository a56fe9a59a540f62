//! Whether a value is what a JSON schema says, as far as our schemas go.
//! Owns the record of which fields were seen, so that an example cannot leave one out.
//! Never passes over a keyword it does not know: it panics.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// A schema document and what was seen of it.
pub(crate) struct Conform<'a> {
    document: &'a Value,
    /// `Definition.field`, for every field some example carried with a value.
    pub(crate) seen: BTreeSet<String>,
}

/// Keywords that describe or narrow what the types themselves already check.
const REMARKS: &[&str] = &[
    "description",
    "default",
    "format",
    "minimum",
    "maximum",
    "title",
];

impl<'a> Conform<'a> {
    pub(crate) fn new(document: &'a Value) -> Conform<'a> {
        Conform {
            document,
            seen: BTreeSet::new(),
        }
    }

    /// Panics with the path when `value` is not what `schema` says.
    pub(crate) fn check(&mut self, path: &str, schema: &Value, value: &Value) {
        if let Err(problem) = self.conforms(path, path, schema, value) {
            panic!("{problem}");
        }
    }

    /// `owner` is the definition whose fields `value` carries.
    fn conforms(
        &mut self,
        path: &str,
        owner: &str,
        schema: &Value,
        value: &Value,
    ) -> Result<(), String> {
        let Value::Object(keywords) = schema else {
            return if schema == &Value::Bool(true) {
                Ok(())
            } else {
                Err(path.to_owned())
            };
        };
        for (keyword, says) in keywords {
            let fits = match keyword.as_str() {
                "$ref" => self.referred(path, says, value)?,
                "type" => is_type(says, value),
                "enum" => says.as_array().is_some_and(|words| words.contains(value)),
                "const" => says == value,
                "items" => self.items(path, owner, says, value)?,
                "properties" => self.fields(path, owner, says, value)?,
                "required" => has_all(says, value),
                "additionalProperties" => self.others(path, owner, keywords, value)?,
                "anyOf" | "oneOf" => self.some_of(path, owner, says, value),
                remark if REMARKS.contains(&remark) => true,
                unknown => panic!("{path}: the schema says `{unknown}`, which is not known here"),
            };
            if !fits {
                return Err(format!("{path}: {value} is not {keyword} {says}"));
            }
        }
        Ok(())
    }

    fn referred(&mut self, path: &str, says: &Value, value: &Value) -> Result<bool, String> {
        let name = says
            .as_str()
            .and_then(|text| text.strip_prefix("#/$defs/"))
            .unwrap_or("");
        let definition = &self.document["$defs"][name];
        assert!(definition.is_object(), "{path}: no definition {says}");
        self.conforms(path, name, definition, value).map(|()| true)
    }

    fn items(
        &mut self,
        path: &str,
        owner: &str,
        says: &Value,
        value: &Value,
    ) -> Result<bool, String> {
        for (n, item) in value.as_array().into_iter().flatten().enumerate() {
            self.conforms(&format!("{path}[{n}]"), owner, says, item)?;
        }
        Ok(true)
    }

    fn fields(
        &mut self,
        path: &str,
        owner: &str,
        says: &Value,
        value: &Value,
    ) -> Result<bool, String> {
        for (field, item) in value.as_object().into_iter().flatten() {
            let Some(schema) = says.get(field) else {
                return Err(format!(
                    "{path}: the schema of {owner} does not know `{field}`"
                ));
            };
            if !item.is_null() {
                self.seen.insert(format!("{owner}.{field}"));
            }
            self.conforms(&format!("{path}.{field}"), owner, schema, item)?;
        }
        Ok(true)
    }

    fn others(
        &mut self,
        path: &str,
        owner: &str,
        keywords: &Map<String, Value>,
        value: &Value,
    ) -> Result<bool, String> {
        assert!(
            !keywords.contains_key("properties"),
            "{path}: named and free fields together"
        );
        let says = &keywords["additionalProperties"];
        for (field, item) in value.as_object().into_iter().flatten() {
            self.conforms(&format!("{path}.{field}"), owner, says, item)?;
        }
        Ok(true)
    }

    fn some_of(&mut self, path: &str, owner: &str, says: &Value, value: &Value) -> bool {
        let choices = says.as_array().expect("a list of choices");
        choices
            .iter()
            .any(|choice| self.conforms(path, owner, choice, value).is_ok())
    }
}

fn is_type(says: &Value, value: &Value) -> bool {
    let fits = |name: &Value| match name.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("number") => value.is_number(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("null") => value.is_null(),
        _ => false,
    };
    says.as_array()
        .map_or_else(|| fits(says), |names| names.iter().any(fits))
}

fn has_all(says: &Value, value: &Value) -> bool {
    let names = says
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    names.into_iter().all(|name| value.get(name).is_some())
}
