//! What a configuration becomes, and the problems of a bad one.
//! Owns a folder of files that goes away with the test.
//! Never touches the environment of the test process.

mod across;
mod bad;
mod broken;
mod changes;
mod files;
mod good;
mod groups;
mod kept;
mod layers;
mod shipped;
mod speed;

use std::path::{Path, PathBuf};

use super::{ConfigSources, Configuration, Problems, load};

/// A project folder with a configuration in it.
struct Project {
    folder: tempfile::TempDir,
    sources: ConfigSources,
}

impl Project {
    /// With these files, paths relative to the project.
    fn new(files: &[(&str, &str)]) -> Project {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut sources = ConfigSources::folder(&folder.path().join("config"));
        sources.current = folder.path().to_owned();
        let project = Project { folder, sources };
        for (path, content) in files {
            project.write(path, content.as_bytes());
        }
        project
    }

    /// With this mainstay.toml alone; the folders of the system are in the project.
    fn of(text: &str) -> Project {
        Project::new(&[("config/mainstay.toml", text)])
    }

    fn write(&self, path: &str, content: &[u8]) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a new folder");
        std::fs::write(path, content).expect("a new file");
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn set(mut self, option: &str) -> Project {
        self.sources.set.push(option.to_owned());
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Project {
        self.sources
            .environment
            .push((name.to_owned(), value.to_owned()));
        self
    }

    fn load(&self) -> Result<Configuration, Problems> {
        load(&self.sources)
    }

    #[track_caller]
    fn good(&self) -> Configuration {
        self.load().unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// The problems as people read them.
    #[track_caller]
    fn bad(&self) -> Vec<String> {
        let problems = self.load().expect_err("a bad configuration");
        problems.problems.iter().map(ToString::to_string).collect()
    }

    /// The only problem.
    #[track_caller]
    fn problem(&self) -> String {
        let mut problems = self.bad();
        assert_eq!(problems.len(), 1, "{problems:#?}");
        problems.remove(0)
    }
}

/// The only problem of a mainstay.toml.
#[track_caller]
fn problem(text: &str) -> String {
    Project::of(text).problem()
}

/// One module `a`, with these lines.
fn module(lines: &str) -> String {
    format!("[module.a]\ncommand = [\"a\"]\n{lines}\n")
}

#[track_caller]
fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

fn join(folder: &Path, path: &str) -> String {
    folder.join(path).to_string_lossy().into_owned()
}
