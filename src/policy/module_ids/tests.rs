//! Slots over the life of a runtime: found again, renamed, never reused.
//! Owns one story a rule.

use super::*;

fn interned(names: &[&str]) -> ModuleIds {
    let mut ids = ModuleIds::default();
    for name in names {
        ids.intern(Instance::new(name, 1));
    }
    ids
}

#[test]
fn the_same_name_has_the_same_slot() {
    let mut ids = interned(&["web", "db"]);
    assert_eq!(ids.intern(Instance::new("db", 1)), ModuleId(1));
    assert_eq!(
        ids.intern(Instance::new("a", 1)),
        ModuleId(2),
        "order of names has no say"
    );
    assert_eq!(ids.find("web"), Some(ModuleId(0)));
    assert_eq!((ids.find("nobody"), ids.len()), (None, 3));
}

#[test]
fn the_first_replica_has_the_name_of_its_module() {
    let mut ids = ModuleIds::default();
    let web = [1, 2, 3].map(|replica| ids.intern(Instance::new("web", replica)));
    let names = web.map(|id| ids.name(id).map(Instance::as_str));
    assert_eq!(names, [Some("web"), Some("web@2"), Some("web@3")]);
    assert_eq!(ids.find("web@2"), Some(web[1]));
}

#[test]
fn a_renamed_module_keeps_its_slots_and_the_old_name_gets_a_new_one() {
    let mut ids = interned(&["old", "other"]);
    let second = ids.intern(Instance::new("old", 2));
    ids.rename(&[("old", "new")], |_| true);
    assert_eq!(ids.find("new"), Some(ModuleId(0)));
    assert_eq!(ids.find("new@2"), Some(second));
    assert_eq!((ids.find("old"), ids.find("old@2")), (None, None));
    // The key stays in the file: the rename is read again and again.
    let before = ids.clone();
    ids.rename(&[("old", "new")], |_| true);
    assert_eq!(ids, before);
    let fresh = ids.intern(Instance::new("old", 1));
    assert_eq!(fresh, ModuleId(3), "no slot is used twice");
    ids.rename(&[("old", "new")], |_| true);
    assert_eq!(
        (ids.find("old"), ids.find("new")),
        (Some(fresh), Some(ModuleId(0)))
    );
}

#[test]
fn back_again_is_the_first_slot() {
    let mut ids = interned(&["a"]);
    ids.rename(&[("a", "b")], |_| true);
    ids.rename(&[("b", "a")], |_| true);
    assert_eq!((ids.find("a"), ids.find("b")), (Some(ModuleId(0)), None));
}

#[test]
fn a_copy_that_is_dropped_leaves_no_trace() {
    let ids = interned(&["a"]);
    let mut copy = ids.clone();
    copy.rename(&[("a", "b")], |_| true);
    copy.intern(Instance::new("c", 1));
    assert_eq!(ids, interned(&["a"]));
}

#[test]
fn names_are_passed_on_at_once_whatever_their_order() {
    for renames in [[("a", "b"), ("b", "c")], [("b", "c"), ("a", "b")]] {
        let mut ids = interned(&["a", "b"]);
        ids.rename(&renames, |_| true);
        let found = ["a", "b", "c"].map(|name| ids.find(name));
        assert_eq!(found, [None, Some(ModuleId(0)), Some(ModuleId(1))]);
        let mut ids = interned(&["a"]);
        ids.rename(&renames, |_| true);
        let found = ["a", "b", "c"].map(|name| ids.find(name));
        assert_eq!(
            found,
            [None, Some(ModuleId(0)), None],
            "one module, one rename"
        );
    }
}

#[test]
fn two_names_are_not_exchanged() {
    // It would be done, and undone, with each reading of the same file.
    let mut ids = interned(&["a", "b"]);
    ids.rename(&[("a", "b"), ("b", "a")], |_| true);
    assert_eq!(ids, interned(&["a", "b"]));
}

#[test]
fn the_holder_calls_a_slot_by_its_first_name_and_no_two_the_same() {
    let mut ids = interned(&["a"]);
    ids.rename(&[("a", "b")], |_| true);
    ids.rename(&[("b", "c")], |_| true);
    let again = ids.intern(Instance::new("a", 1));
    let instance = |id| ids.instance(id).map(Instance::as_str);
    assert_eq!(
        (instance(ModuleId(0)), instance(again)),
        (Some("a"), Some("a.2"))
    );
    assert_eq!(
        (ids.find("c"), ids.find("a")),
        (Some(ModuleId(0)), Some(again))
    );
    assert_eq!(ids.find_instance("a"), Some(ModuleId(0)));
    assert_eq!(ids.find_instance("a.2"), Some(again));
}

#[test]
fn a_name_that_no_module_of_the_plan_has_is_free() {
    let mut ids = interned(&["a", "b"]);
    // b was removed, its last run may still be stopping.
    ids.rename(&[("a", "b")], |id| id == ModuleId(0));
    assert_eq!((ids.find("a"), ids.find("b")), (None, Some(ModuleId(0))));
    assert_eq!(ids.find_instance("b"), Some(ModuleId(1)));
    // Nothing that runs has the old name: there is nothing to rename.
    let mut ids = interned(&["a"]);
    ids.rename(&[("a", "b")], |_| false);
    assert_eq!(ids, interned(&["a"]));
}

#[test]
fn names_are_restored_at_once_also_exchanged_ones() {
    let before = interned(&["a", "b"]);
    let mut ids = before.clone();
    ids.restore_names([(ModuleId(0), "b"), (ModuleId(1), "a")]);
    assert_eq!(
        (ids.find("a"), ids.find("b")),
        (Some(ModuleId(1)), Some(ModuleId(0)))
    );
    ids.restore_names([(ModuleId(0), "a"), (ModuleId(1), "b")]);
    assert_eq!(ids, before);
}

#[test]
fn a_kept_instance_leads_to_its_slot_whatever_its_name_was() {
    let mut ids = interned(&["a", "b"]);
    let name = |name| Instance::new(name, 1);
    assert_eq!(ids.intern_as(name("b"), name("a")), ModuleId(0));
    assert_eq!(ids.intern_as(name("c"), name("b")), ModuleId(1));
    assert_eq!(ids.intern_as(name("a"), name("a.2")), ModuleId(2));
    let found = ["a", "b", "c"].map(|name| ids.find(name).map(|id| id.0));
    assert_eq!(found, [Some(2), Some(0), Some(1)]);
}
