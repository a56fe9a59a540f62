//! The tables of docs/RELIABILITY.md, held against the tests.
//! Owns that every test that they name exists.
//! Never judges whether a test tries what its row says.

use std::collections::BTreeSet;

use super::source;

const PAGE: &str = include_str!("../../../docs/RELIABILITY.md");

/// Words of code in the tables that are no test.
const NO_TEST: [&str; 1] = ["await_holding_lock"];

#[test]
fn every_test_that_the_page_on_reliability_names_exists() {
    let rows = PAGE.lines().filter(|line| line.starts_with("| "));
    let words = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let is_name = |word: &&str| {
        let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        word.matches('_').count() > 1 && word.bytes().all(is_word)
    };
    let named: BTreeSet<&str> = words.filter(is_name).collect();
    assert!(named.len() > 100, "the tables name tests: {}", named.len());
    let mut missing = named;
    for name in NO_TEST {
        missing.remove(name);
    }
    for source in source::all() {
        let functions = source.text.split("fn ").skip(1);
        for function in functions.filter_map(|rest| rest.split('(').next()) {
            missing.remove(function);
        }
    }
    assert!(
        missing.is_empty(),
        "docs/RELIABILITY.md names tests that there are not: {missing:?}; name those that there are"
    );
}
