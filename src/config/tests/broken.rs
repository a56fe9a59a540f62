//! Whatever is in a file: an answer, never a panic.
//! Owns the ways a good file is broken.
//! Never expects a certain answer.

use proptest::prelude::*;

use super::Project;

const GOOD: &str = "[mainstay]\nname = \"x\"\n[recovery]\nbackoff = { initial = \"1s\", factor = 2 }\n\
                    [module.a]\ncommand = [\"${project}/ä\", \"$${x}\"]\nready = { tcp = \"h:1\" }\n\
                    health.probes = [{ sdk = true }]\nwants = [{ module = \"b\", until = \"started\" }]\n\
                    settings = { deep = [1, 2.5, \"t\"] }\n[module.b]\ncommand = ['b']\n";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_broken_file_gets_an_answer(
        cut in 0..GOOD.len(),
        length in 0_usize..12,
        with in "[\\[\\]{}=\"'.,${} a-z0-9\n\t\u{e4}#-]{0,6}",
    ) {
        let mut bytes = GOOD.as_bytes().to_vec();
        let end = (cut + length).min(bytes.len());
        bytes.splice(cut..end, with.bytes());
        let project = Project::of("");
        project.write("config/mainstay.toml", &bytes);
        if let Err(problems) = project.load() {
            prop_assert!(!problems.is_empty());
            prop_assert!(problems.to_string().contains("cannot "));
        }
    }

    #[test]
    fn any_option_gets_an_answer(option in "\\PC{0,20}") {
        let project = Project::of(GOOD).set(&option).variable("MAINSTAY__A", &option);
        prop_assert!(project.load().is_err());
    }

    #[test]
    fn any_value_gets_an_answer(value in "\\PC{0,20}") {
        let project = Project::of(GOOD).set(&format!("module.a.settings.x={value}"));
        let project = project.variable("MAINSTAY__MODULE__A__DESCRIPTION", &value);
        if let Err(problems) = project.load() {
            prop_assert!(problems.to_string().contains("cannot "));
        }
    }
}
