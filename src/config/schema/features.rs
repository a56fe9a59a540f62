//! Features: on, off, or on for a share of the instances.
//! Owns the two forms of a value.
//! Never decides who is in a share: policy does.

use super::{FromConfig, ValueType};
use crate::config::launch::Feature;
use crate::config::read_context::ReadContext;
use crate::config::tree::{Node, TreeValue};

const SHARE: ValueType = ValueType::Number {
    min: 0.0,
    max: 100.0,
};

impl FromConfig for Feature {
    const FORM: ValueType = ValueType::OneOf(&[ValueType::Flag, SHARE]);

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        let percent = match node.value {
            TreeValue::Flag(value) => return Some(Feature::Switch(value)),
            TreeValue::Whole(percent) => percent as f64,
            TreeValue::Number(percent) => percent,
            _ => return at.type_error(node, Self::FORM),
        };
        match (0.0..=100.0).contains(&percent) {
            true => Some(Feature::Percent(percent)),
            false => at.type_error(node, Self::FORM),
        }
    }

    fn show(&self) -> String {
        match self {
            Feature::Switch(value) => value.show(),
            Feature::Percent(percent) => percent.to_string(),
        }
    }
}
