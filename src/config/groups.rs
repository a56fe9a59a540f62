//! The supervision groups: read, checked against the modules, lowered to policy.
//! Owns these checks; each problem has the location of the member, or of the group's name.
//! Never changes a value.

use std::collections::BTreeMap;

use mainstay_policy::ModuleIds;
use mainstay_policy::group::{GroupId, GroupMember, GroupSpec, OnExceeded};

use super::hints::closest;
use super::lower::{EVENT_BUS, ParsedModule};
use super::origin::Origin;
use super::problem::Related;
use super::read_context::ReadContext;
use super::schema::compound::RawMember;
use super::schema::scalars::is_name;
use super::schema::system::GroupSection;
use super::schema::{FromConfig, ValueType};
use super::tree::{KeyTable, TableEntry};

/// A group after reading.
pub(crate) struct ParsedGroup<'a> {
    name: &'a str,
    entry: &'a TableEntry,
    group: GroupSection,
    /// No key of it was wrong.
    is_sound: bool,
}

/// Returns all groups by name.
pub(crate) fn read<'a>(table: &'a KeyTable, at: &mut ReadContext<'a>) -> Vec<ParsedGroup<'a>> {
    let Some(groups) = table.get("group") else {
        return Vec::new();
    };
    at.push_key("group");
    let mut read = Vec::new();
    let groups = at.table(&groups.node, ValueType::Any);
    for (name, entry) in groups.into_iter().flatten() {
        at.push_key(name);
        if !is_name(name) {
            let message = format!("cannot name a group {name:?}");
            at.problem::<()>(entry.key, message, &ValueType::Name.expected());
        }
        let (mut group, before) = (GroupSection::default(), at.count());
        group.update(&entry.node, at);
        let is_sound = at.count() == before;
        read.push(ParsedGroup {
            name,
            entry,
            group,
            is_sound,
        });
        at.pop_key();
    }
    at.pop_key();
    read
}

/// Checks that the groups form a forest of modules of this configuration.
pub(crate) fn check(
    groups: &[ParsedGroup<'_>],
    modules: &[ParsedModule<'_>],
    at: &mut ReadContext<'_>,
) {
    let mut owners: BTreeMap<&RawMember, (&str, Origin)> = BTreeMap::new();
    for each in groups {
        let name = each.name;
        if each.group.members.is_empty() && each.is_sound {
            let message = format!("cannot form group {name}: it has no members");
            at.problem::<()>(
                each.entry.key,
                message,
                "members = [\"MODULE\", \"group:NAME\"]",
            );
        }
        for member in &each.group.members {
            if is_missing(each, member, groups, modules, at) {
                continue;
            }
            if let Some((other, first)) = owners.insert(member, (name, member.origin)) {
                let message = match other == name {
                    true => format!("cannot form group {name}: it names {member} twice"),
                    false => format!("cannot form group {name}: {member} is in group {other} too"),
                };
                let mut problem = at.texts.problem(member.origin, message);
                let related = at.texts.place(first).map(|place| Related {
                    place,
                    text: format!("{member} is a member of {other}"),
                });
                problem.related.extend(related);
                let hint = "a module or group is in one group at most";
                at.problems.push(|| problem.hint(hint));
            }
        }
    }
    let parents = parents(groups);
    for each in groups {
        let is_top = !parents.contains_key(each.name);
        if is_top && each.group.on_exceeded == Some(OnExceeded::Escalate) {
            let name = each.name;
            let node = each.entry.node.at(&["on_exceeded"]);
            let origin = node.map_or(each.entry.key, |node| node.origin);
            let message = format!("cannot escalate from group {name}: no group contains it");
            let hint = "\"stop_group\", \"restart_system\", \"shutdown\" or \"degrade\"";
            at.problem::<()>(origin, message, hint);
        }
    }
    cycle(groups, &parents, at);
}

fn is_missing(
    each: &ParsedGroup<'_>,
    member: &RawMember,
    groups: &[ParsedGroup<'_>],
    modules: &[ParsedModule<'_>],
    at: &mut ReadContext<'_>,
) -> bool {
    let (name, wanted) = (each.name, member.name.as_str());
    if !member.is_group && wanted == EVENT_BUS {
        let message = format!("cannot form group {name}: {EVENT_BUS} is the runtime's own module");
        at.problem::<()>(member.origin, message, "leave it out: it always runs");
        return true;
    }
    let names: Vec<&str> = match member.is_group {
        true => groups.iter().map(|group| group.name).collect(),
        false => modules.iter().map(|module| module.name).collect(),
    };
    if names.contains(&wanted) {
        return false;
    }
    let prefix = if member.is_group { "group:" } else { "" };
    let hint = match closest(wanted, names) {
        Some(near) => format!("did you mean \"{prefix}{near}\"?"),
        None if member.is_group => format!("add [group.{wanted}], or leave it out"),
        None if groups.iter().any(|group| group.name == wanted) => {
            format!("a group is named \"group:{wanted}\"")
        }
        None => "register it, or leave it out".to_owned(),
    };
    let kind = if member.is_group { "group" } else { "module" };
    let message = format!("cannot form group {name}: there is no {kind} {wanted:?}");
    at.problem::<()>(member.origin, message, &hint);
    true
}

/// The group that contains each group, and where it says so.
fn parents<'a>(groups: &'a [ParsedGroup<'a>]) -> BTreeMap<&'a str, (&'a str, Origin)> {
    let mut parents = BTreeMap::new();
    for each in groups {
        for member in each.group.members.iter().filter(|member| member.is_group) {
            parents
                .entry(member.name.as_str())
                .or_insert((each.name, member.origin));
        }
    }
    parents
}

/// Reports a circle of groups once, with its full path and the location of each member.
fn cycle(
    groups: &[ParsedGroup<'_>],
    parents: &BTreeMap<&str, (&str, Origin)>,
    at: &mut ReadContext<'_>,
) {
    let mut reported: Vec<&str> = Vec::new();
    for each in groups {
        let mut path = vec![(each.name, Origin::default())];
        let mut next = parents.get(each.name);
        while let Some((parent, origin)) = next {
            path.push((parent, *origin));
            if *parent == each.name || path.len() > groups.len() + 1 {
                break;
            }
            next = parents.get(parent);
        }
        let closed = path.len() > 1 && path.last().map(|last| last.0) == Some(each.name);
        if !closed || reported.contains(&each.name) {
            continue;
        }
        reported.extend(path.iter().map(|(name, _)| *name));
        path.reverse();
        let names: Vec<&str> = path.iter().map(|(name, _)| *name).collect();
        let message = format!(
            "cannot form the groups: they contain each other: {}",
            names.join(" → ")
        );
        let origin = path.first().map(|(_, origin)| *origin).unwrap_or_default();
        let mut problem = at.texts.problem(origin, message);
        let related = path.iter().zip(names.iter().skip(1));
        let related = related.filter_map(|((outer, origin), inner)| {
            let place = at.texts.place(*origin)?;
            let text = format!("{outer} contains {inner}");
            Some(Related { place, text })
        });
        problem.related = related.collect();
        at.problems
            .push(|| problem.hint("remove one of these members"));
    }
}

/// Lowers groups that passed the checks.
pub(crate) fn lower(groups: &[ParsedGroup<'_>], ids: &ModuleIds) -> Vec<GroupSpec> {
    let parents = parents(groups);
    let member = |member: &RawMember| {
        if !member.is_group {
            return ids.find(&member.name).map(GroupMember::Module);
        }
        let at = groups.iter().position(|group| group.name == member.name)?;
        Some(GroupMember::Group(GroupId(u32::try_from(at).ok()?)))
    };
    let lower = |each: &ParsedGroup<'_>| {
        let is_nested = parents.contains_key(each.name);
        let default = if is_nested {
            OnExceeded::Escalate
        } else {
            OnExceeded::StopGroup
        };
        GroupSpec {
            name: each.name.to_owned(),
            members: each.group.members.iter().filter_map(member).collect(),
            strategy: each.group.strategy,
            max_restarts: each.group.max_restarts.small(),
            within: each.group.within.0,
            on_exceeded: each.group.on_exceeded.unwrap_or(default),
        }
    };
    groups.iter().map(lower).collect()
}
