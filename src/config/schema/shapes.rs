//! Values of several forms: dependencies, probation, the recovery ladder, principals.
//! Owns the distinction of the forms.
//! Never guesses: a value of no form is a problem.

use mainstay_policy::spec::{DependencyCondition, Strategy};
use serde::{Deserialize, Serialize};

use super::system::ProbationTimes;
use super::values::Name;
use super::{Form, Value, section};
use crate::config::reading::Reading;
use crate::config::tree::{Node, Tree};

/// The recovery ladder, never empty; "stop" is last.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ladder(pub(crate) Vec<Strategy>);

impl Value for Ladder {
    const FORM: Form = Form::List(&Strategy::FORM);

    fn read<'a>(node: &'a Node, at: &mut Reading<'a>) -> Option<Self> {
        let rungs = Vec::<Strategy>::read(node, at)?;
        let stop = rungs.iter().position(|rung| *rung == Strategy::Stop);
        if stop.is_some_and(|place| place + 1 < rungs.len()) {
            let message = format!("cannot use {}: nothing comes after \"stop\"", at.path());
            return at.problem(node.origin, message, "put \"stop\" last");
        }
        if matches!(&node.value, Tree::List(list) if list.is_empty()) {
            let message = format!("cannot use {}: the ladder is empty", at.path());
            return at.problem(
                node.origin,
                message,
                "for instance [\"restart\"] or [\"stop\"]",
            );
        }
        Some(Ladder(rungs))
    }

    fn show(&self) -> String {
        self.0.show()
    }
}

/// Probation, or none.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Probation {
    Off,
    On(ProbationTimes),
}

impl Default for Probation {
    fn default() -> Probation {
        Probation::On(ProbationTimes::default())
    }
}

impl Value for Probation {
    const FORM: Form = Form::OneOf(&[ProbationTimes::FORM, OFF]);

    fn read<'a>(node: &'a Node, at: &mut Reading<'a>) -> Option<Self> {
        let mut value = Probation::default();
        value.update(node, at);
        Some(value)
    }

    fn update<'a>(&mut self, node: &'a Node, at: &mut Reading<'a>) {
        match &node.value {
            Tree::Text(text) if text == "off" => *self = Probation::Off,
            Tree::Table(_) => {
                let mut times = match self {
                    Probation::Off => ProbationTimes::default(),
                    Probation::On(times) => times.clone(),
                };
                times.update(node, at);
                *self = Probation::On(times);
            }
            _ => {
                at.wrong::<()>(node, Self::FORM);
            }
        }
    }

    fn show(&self) -> String {
        match self {
            Probation::Off => "\"off\"".to_owned(),
            Probation::On(times) => times.show(),
        }
    }
}

const OFF: Form = Form::Choice(&[super::Word {
    word: "off",
    available: true,
}]);

/// A principal of the local socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// The user that mainstay runs as (and root).
    User,
    /// Members of this group, by name or number.
    Group(String),
    /// This user, by number.
    Uid(u32),
    /// Every user.
    Any,
}

impl Value for Who {
    const FORM: Form = Form::Text;

    fn read<'a>(node: &'a Node, at: &mut Reading<'a>) -> Option<Self> {
        let text = at.text(node, Self::FORM)?;
        let who = match text.split_once(':') {
            None if text == "user" => Some(Who::User),
            None if text == "any" => Some(Who::Any),
            Some(("group", name)) if !name.is_empty() => Some(Who::Group(name.to_owned())),
            Some(("uid", number)) => number.parse().ok().map(Who::Uid),
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
            Who::User => "user".to_owned(),
            Who::Group(name) => format!("group:{name}"),
            Who::Uid(number) => format!("uid:{number}"),
            Who::Any => "any".to_owned(),
        }
        .show()
    }
}

/// A dependency as written: "name" or { module, until }.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Needed {
    pub(crate) module: Name,
    pub(crate) until: DependencyCondition,
}

section! {
    /// A dependency and its condition.
    NeededTable {
        /// The module.
        Live module: Option<Name> = None;
        /// The dependency condition.
        Live until: DependencyCondition = DependencyCondition::Ready;
    }
}

impl Value for Needed {
    const FORM: Form = Form::OneOf(&[Form::Name, NeededTable::FORM]);

    fn read<'a>(node: &'a Node, at: &mut Reading<'a>) -> Option<Self> {
        match &node.value {
            Tree::Text(_) => Name::read(node, at).map(|module| Needed {
                module,
                until: DependencyCondition::Ready,
            }),
            Tree::Table(table) => {
                let read = NeededTable::read(node, at)?;
                if !table.contains_key("module") {
                    let message = format!("cannot use {}: `module` is missing", at.path());
                    let hint = "{ module = \"NAME\", until = \"ready\" }";
                    return at.problem(node.origin, message, hint);
                }
                let until = read.until;
                read.module.map(|module| Needed { module, until })
            }
            _ => at.wrong(node, Self::FORM),
        }
    }

    fn show(&self) -> String {
        self.module.show()
    }
}
