//! Values of several forms: dependencies, probation, the recovery ladder, principals.
//! Owns the distinction of the forms.
//! Never guesses: a value of no form is a problem.

use std::cmp::Ordering;
use std::fmt;

use mainstay_policy::spec::{DependencyCondition, Strategy};
use serde::{Deserialize, Serialize};

use super::scalars::{ModuleName, Template, is_name};
use super::system::ProbationSection;
use super::{FromConfig, ValueType, section};
use crate::config::origin::Origin;
use crate::config::read_context::ReadContext;
use crate::config::tree::{Node, TreeValue};

/// Env files: one path, or several in a list.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct EnvFilePaths(pub(crate) Vec<Template>);

impl FromConfig for EnvFilePaths {
    const FORM: ValueType = ValueType::OneOf(&[Template::FORM, ValueType::List(&Template::FORM)]);

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        match &node.value {
            TreeValue::List(_) => Vec::<Template>::read(node, at).map(EnvFilePaths),
            _ => Template::read(node, at).map(|path| EnvFilePaths(vec![path])),
        }
    }

    fn show(&self) -> String {
        match &self.0[..] {
            [] => String::new(),
            paths => paths.to_vec().show(),
        }
    }
}

/// The recovery ladder, never empty; "stop" is last.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RecoveryLadder(pub(crate) Vec<Strategy>);

impl FromConfig for RecoveryLadder {
    const FORM: ValueType = ValueType::List(&Strategy::FORM);

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        let rungs = Vec::<Strategy>::read(node, at)?;
        let stop = rungs.iter().position(|rung| *rung == Strategy::Stop);
        if stop.is_some_and(|place| place + 1 < rungs.len()) {
            let message = format!("cannot use {}: nothing comes after \"stop\"", at.path());
            return at.problem(node.origin, message, "put \"stop\" last");
        }
        if matches!(&node.value, TreeValue::List(list) if list.is_empty()) {
            let message = format!("cannot use {}: the ladder is empty", at.path());
            return at.problem(
                node.origin,
                message,
                "for instance [\"restart\"] or [\"stop\"]",
            );
        }
        Some(RecoveryLadder(rungs))
    }

    fn show(&self) -> String {
        self.0.show()
    }
}

/// Probation, or none.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RawProbation {
    Off,
    On(ProbationSection),
}

impl Default for RawProbation {
    fn default() -> RawProbation {
        RawProbation::On(ProbationSection::default())
    }
}

impl FromConfig for RawProbation {
    const FORM: ValueType = ValueType::OneOf(&[ProbationSection::FORM, OFF]);

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        let mut value = RawProbation::default();
        value.update(node, at);
        Some(value)
    }

    fn update<'a>(&mut self, node: &'a Node, at: &mut ReadContext<'a>) {
        match &node.value {
            TreeValue::Text(text) if text == "off" => *self = RawProbation::Off,
            TreeValue::Table(_) => {
                let mut times = match self {
                    RawProbation::Off => ProbationSection::default(),
                    RawProbation::On(times) => times.clone(),
                };
                times.update(node, at);
                *self = RawProbation::On(times);
            }
            _ => {
                at.type_error::<()>(node, Self::FORM);
            }
        }
    }

    fn show(&self) -> String {
        match self {
            RawProbation::Off => "\"off\"".to_owned(),
            RawProbation::On(times) => times.show(),
        }
    }
}

const OFF: ValueType = ValueType::Choice(&[super::Choice {
    word: "off",
    available: true,
}]);

/// A principal of the local socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Principal {
    /// The user that mainstay runs as (and root).
    User,
    /// Members of this group, by name or number.
    Group(String),
    /// This user, by number.
    Uid(u32),
    /// Every user.
    Everyone,
}

impl FromConfig for Principal {
    const FORM: ValueType = ValueType::Text;

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        let text = at.text(node, Self::FORM)?;
        let who = match text.split_once(':') {
            None if text == "user" => Some(Principal::User),
            None if text == "any" => Some(Principal::Everyone),
            Some(("group", name)) if !name.is_empty() => Some(Principal::Group(name.to_owned())),
            Some(("uid", number)) => number.parse().ok().map(Principal::Uid),
            _ => None,
        };
        if who.is_none() {
            let message = format!(
                "cannot use {text:?} for {}: it names no user or group",
                at.path()
            );
            let hint = "\"user\" (who runs mainstay), \"group:NAME\", \"uid:N\" or \"any\"";
            return at.problem(node.origin, message, hint);
        }
        who
    }

    fn show(&self) -> String {
        match self {
            Principal::User => "user".to_owned(),
            Principal::Group(name) => format!("group:{name}"),
            Principal::Uid(number) => format!("uid:{number}"),
            Principal::Everyone => "any".to_owned(),
        }
        .show()
    }
}

/// A member of a group as written: "MODULE" or "group:NAME". Where it stands does not tell two
/// apart.
#[derive(Debug, Clone)]
pub(crate) struct RawMember {
    pub(crate) name: String,
    pub(crate) is_group: bool,
    pub(crate) origin: Origin,
}

impl RawMember {
    fn key(&self) -> (bool, &str) {
        (self.is_group, &self.name)
    }
}

impl PartialEq for RawMember {
    fn eq(&self, other: &RawMember) -> bool {
        self.key() == other.key()
    }
}

impl Eq for RawMember {}

impl PartialOrd for RawMember {
    fn partial_cmp(&self, other: &RawMember) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for RawMember {
    fn cmp(&self, other: &RawMember) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl fmt::Display for RawMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if self.is_group { "group:" } else { "" };
        write!(f, "{prefix}{}", self.name)
    }
}

impl FromConfig for RawMember {
    const FORM: ValueType = ValueType::Text;

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        let text = at.text(node, Self::FORM)?;
        let (is_group, name) = match text.strip_prefix("group:") {
            Some(name) => (true, name),
            None => (false, text),
        };
        if !is_name(name) {
            let message = format!("cannot use {text:?} for {}: it names no module", at.path());
            return at.problem(node.origin, message, "\"MODULE\" or \"group:NAME\"");
        }
        Some(RawMember {
            name: name.to_owned(),
            is_group,
            origin: node.origin,
        })
    }

    fn show(&self) -> String {
        self.to_string().show()
    }
}

/// A dependency as written: "name" or { module, until }.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RawDependency {
    pub(crate) module: ModuleName,
    pub(crate) until: DependencyCondition,
}

section! {
    /// A dependency and its condition.
    DependencySection {
        /// The module.
        Live module: Option<ModuleName> = None;
        /// The dependency condition.
        Live until: DependencyCondition = DependencyCondition::Ready;
    }
}

impl FromConfig for RawDependency {
    const FORM: ValueType = ValueType::OneOf(&[ValueType::Name, DependencySection::FORM]);

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        match &node.value {
            TreeValue::Text(_) => ModuleName::read(node, at).map(|module| RawDependency {
                module,
                until: DependencyCondition::Ready,
            }),
            TreeValue::Table(table) => {
                let read = DependencySection::read(node, at)?;
                if !table.contains_key("module") {
                    let message = format!("cannot use {}: `module` is missing", at.path());
                    let hint = "{ module = \"NAME\", until = \"ready\" }";
                    return at.problem(node.origin, message, hint);
                }
                let until = read.until;
                read.module.map(|module| RawDependency { module, until })
            }
            _ => at.type_error(node, Self::FORM),
        }
    }

    fn show(&self) -> String {
        self.module.show()
    }
}
