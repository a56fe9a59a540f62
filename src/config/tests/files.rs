//! Files that cannot be read, or not as what they should be.
//! Owns the cases of the file system.
//! Never needs a network or another user.

use super::{Project, assert_has, module};
use crate::config::ConfigSources;

#[test]
fn syntax_is_told_with_its_line() {
    let text = Project::of("[mainstay]\nname = \n").problem();
    assert_has(
        &text,
        &[
            "config/mainstay.toml:2:",
            "cannot read this line",
            "2 | name = ",
        ],
    );
}

#[test]
fn what_is_never_closed_is_one_problem_and_not_one_for_each_line_after_it() {
    let text = "[module.a]\ncommand = [\"a\"\nuser = \"b\"\n[module.b]\ncommand = [\"b\"]\n";
    let told = Project::of(text).problem();
    assert_has(
        &told,
        &["config/mainstay.toml:3:1", "left open: unclosed array"],
    );
    let project = Project::of("[mainstay]\nname = \n[health]\ninterval = \n");
    assert_eq!(project.bad().len(), 2, "what stands alone is told alone");
}

#[test]
fn a_carriage_return_alone_is_told_where_it_stands() {
    for text in ["\r", "[mainstay]\r", "[health]\ninterval = \"1s\"\r\r\n"] {
        let told = Project::of(text).problem();
        assert_has(&told, &["config/mainstay.toml:", "cannot read this line"]);
    }
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    let text = Project::of("[health]\ninterval = \"1s\"\ninterval = \"2s\"\n").problem();
    assert_has(
        &text,
        &[
            "config/mainstay.toml:3:1",
            "duplicate key",
            "stands in the file twice",
        ],
    );
}

#[test]
fn one_bad_file_does_not_hide_the_others_and_blames_nobody_else() {
    let project = Project::new(&[
        (
            "config/mainstay.toml",
            "[mainstay]\nmodules = [\"../m/*\"]\n[helth]\n",
        ),
        ("m/one/module.toml", "command = [\n"),
        (
            "m/two/module.toml",
            "command = [\"a\"]\nrequires = [\"one\"]\n",
        ),
    ]);
    let problems = project.bad();
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert_has(&problems[0], &["helth"]);
    assert_has(&problems[1], &["m/one/module.toml:"]);
}

#[test]
fn files_that_are_none() {
    let project = Project::of("");
    project.write("config/conf.d/a.toml/x", b"");
    assert_has(
        &project.problem(),
        &["config/conf.d/a.toml", "it is a directory"],
    );
    let project = Project::of("");
    project.write("config/conf.d", b"");
    assert_has(
        &project.problem(),
        &["config/conf.d: cannot read this file"],
    );
}

#[test]
fn bytes_that_are_no_text() {
    let project = Project::of("");
    project.write("config/conf.d/a.toml", b"[health]\n# \xff\n");
    let text = project.problem();
    assert_has(
        &text,
        &[
            "config/conf.d/a.toml:2",
            "byte 11 is not UTF-8",
            "encoding UTF-8",
        ],
    );
}

#[test]
fn a_huge_file_is_refused() {
    let project = Project::of("");
    project.write("config/conf.d/a.toml", &vec![b'#'; 10 << 20]);
    assert_has(&project.problem(), &["it is larger than 4 MiB"]);
}

#[cfg(unix)]
#[test]
fn a_file_that_may_not_be_read() {
    use std::os::unix::fs::PermissionsExt;
    let project = Project::of("");
    let path = project.path("config/mainstay.toml");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).expect("a mode");
    if std::fs::File::open(&path).is_ok() {
        return; // Root may read everything.
    }
    assert_has(
        &project.problem(),
        &["cannot read this file", "must be able to read it"],
    );
}

#[test]
fn a_folder_without_configuration_says_how_to_get_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let find = |path: &std::path::Path| {
        ConfigSources::find(Some(path), &[])
            .expect_err("nothing there")
            .to_string()
    };
    assert_has(
        &find(folder.path()),
        &["cannot find mainstay.toml in", "mainstay init"],
    );
    let missing = find(&folder.path().join("x"));
    assert_has(
        &missing,
        &["cannot find the configuration folder", "mainstay init"],
    );
    let file = folder.path().join("mainstay.toml");
    std::fs::write(&file, "").expect("a file");
    assert_has(&find(&file), &["it is a file; name the folder"]);
    let sources = ConfigSources::find(Some(folder.path()), &[]).expect("a configuration");
    assert!(crate::config::load(&sources).is_ok());
}

#[test]
fn an_env_file_is_read_or_missed() {
    let project = Project::of(&module("env_file = \".env\"\nenv = { B = \"own\" }"));
    assert_has(
        &project.problem(),
        &["mainstay.toml:3:12", ".env: ", "env_file is relative to"],
    );
    project.write(".env", b"# x\nexport A='1 2'\nB=other\n");
    let good = project.good();
    let expected = [("A", "1 2"), ("B", "own")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(good.modules[0].1.env, expected);
    assert!(good.files.contains(&project.path(".env")));
    project.write(".env", b"A=1\nnonsense\n PASS='secret' x\n");
    let told = project.bad().join("\n");
    assert_has(
        &told,
        &[
            ".env:2:1: cannot read this line: it has no `=`",
            ".env:3:16: cannot read the value of PASS: text follows its closing quote",
        ],
    );
    assert!(!told.contains("secret"), "{told}");
}

#[test]
fn a_text_that_does_not_end_is_one_problem_and_not_two() {
    let told = Project::of("[module.a]\ncommand = [\"sleep\", \"1000\n").problem();
    assert_has(&told, &["mainstay.toml:2:26", "invalid basic string"]);
    let text = "[module.a]\ncommand = [\"sleep\", \"1000\nrequired = false\n\n[env]\nA = \"1\"\n";
    let told = Project::of(text).bad();
    assert_has(&told[0], &["mainstay.toml:2:26", "invalid basic string"]);
}

#[test]
fn a_problem_of_an_env_file_is_told_once_with_all_modules_that_use_it() {
    let module = |name: &str| format!("[module.{name}]\ncommand = [\"x\"]\nenv_file = \".env\"\n");
    let project = Project::of(&["a", "b", "c"].map(module).concat());
    let told = project.bad();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_has(
        &told[0],
        &["mainstay.toml:3:12", ".env: ", "used by a, b, c"],
    );
    project.write(".env", b"A=1\nnonsense\nmore nonsense\n");
    let told = project.bad();
    assert_eq!(told.len(), 2, "{told:?}");
    for (problem, line) in told.iter().zip([".env:2:1: ", ".env:3:1: "]) {
        assert_has(problem, &[line, "used by a, b, c"]);
    }
}

#[test]
fn several_env_files_are_read_in_their_order_and_may_be_missing() {
    let text = "env_file = [\"a.env\", \"-none.env\", \"b.env\"]\nenv_expand = true";
    let project = Project::of(&module(text));
    project.write("a.env", b"\xef\xbb\xbfA=1\r\nB=tab\t# c\n");
    project.write(
        "b.env",
        b"A=${A}2\nC=\"$B\nnext\" # c\nD='$A'\nE= # only a comment\n",
    );
    let good = project.good();
    let expected = [
        ("A", "12"),
        ("B", "tab"),
        ("C", "tab\nnext"),
        ("D", "$A"),
        ("E", ""),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(good.modules[0].1.env, expected);
    assert!(
        good.files.contains(&project.path("none.env")),
        "it may come"
    );
    project.write("b.env", b"A=$NEVER_SET_ANYWHERE\n");
    assert_has(
        &project.problem(),
        &["b.env:1:3: cannot expand NEVER_SET_ANYWHERE"],
    );
}
