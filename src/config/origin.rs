//! The origin of each value, in twelve bytes.
//! Owns the source texts, and converts a position in them to line, column and excerpt.
//! Never reads a file.

use std::path::PathBuf;
use std::sync::OnceLock;

use super::problem::{Excerpt, LayerKind, Problem, SourceLocation};

/// Longest part of a line that is shown.
const EXCERPT_CHARS: usize = 120;

/// The position of a value: a text and a range of bytes in it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Origin {
    /// Index into [`SourceMap`].
    pub(crate) text: u32,
    /// First byte; the line number if the text is unknown.
    pub(crate) start: u32,
    /// After the last byte.
    pub(crate) end: u32,
}

impl Origin {
    /// Whether the value is at no position.
    pub(crate) fn is_none(self) -> bool {
        (self.text, self.start, self.end) == (0, 0, 0)
    }
}

/// The position is no part of a value: the same value on another line is equal.
impl PartialEq for Origin {
    fn eq(&self, _: &Origin) -> bool {
        true
    }
}

impl Eq for Origin {}

/// One source that was read.
#[derive(Debug, Clone)]
pub(crate) struct SourceText {
    pub(crate) kind: LayerKind,
    /// As shown to people.
    pub(crate) name: String,
    /// None if an earlier process read it; origins then hold line numbers.
    pub(crate) content: Option<String>,
    /// Where it is; only of files that this process read.
    pub(crate) path: Option<PathBuf>,
    /// The folder that relative paths in it are relative to; only of files.
    pub(crate) folder: Option<PathBuf>,
    lines: OnceLock<Vec<u32>>,
}

impl SourceText {
    pub(crate) fn new(kind: LayerKind, name: String, content: Option<String>) -> SourceText {
        SourceText {
            kind,
            name,
            content,
            path: None,
            folder: None,
            lines: OnceLock::new(),
        }
    }

    /// Line (from 0) and the first byte of it.
    fn line_of(&self, content: &str, byte: usize) -> (usize, usize) {
        let lines = self.lines.get_or_init(|| {
            let ends = content
                .bytes()
                .enumerate()
                .filter(|(_, byte)| *byte == b'\n');
            std::iter::once(0)
                .chain(ends.map(|(at, _)| u32::try_from(at + 1).unwrap_or(u32::MAX)))
                .collect()
        });
        let line = lines
            .partition_point(|start| *start as usize <= byte)
            .max(1)
            - 1;
        (line, lines.get(line).map_or(0, |start| *start as usize))
    }
}

/// All sources; the first is "the default".
#[derive(Debug, Clone)]
pub(crate) struct SourceMap {
    list: Vec<SourceText>,
}

impl SourceMap {
    pub(crate) fn new() -> SourceMap {
        SourceMap {
            list: vec![SourceText::new(
                LayerKind::Default,
                "default".to_owned(),
                None,
            )],
        }
    }

    /// Adds a source and returns its number.
    pub(crate) fn add(&mut self, text: SourceText) -> u32 {
        self.list.push(text);
        u32::try_from(self.list.len() - 1).unwrap_or(u32::MAX)
    }

    /// Forgets what `config set` said: nothing below that layer refers to it.
    pub(crate) fn drop_runtime_layer(&mut self) {
        let first = self
            .list
            .iter()
            .position(|text| text.kind == LayerKind::Override);
        self.list.truncate(first.unwrap_or(self.list.len()));
    }

    pub(crate) fn all(&self) -> &[SourceText] {
        &self.list
    }

    pub(crate) fn get(&self, origin: Origin) -> Option<&SourceText> {
        self.list.get(origin.text as usize)
    }

    /// Whether all is written in files.
    pub(crate) fn is_of_files(&self) -> bool {
        let is_of_file =
            |text: &SourceText| matches!(text.kind, LayerKind::Default | LayerKind::File);
        self.list.iter().all(is_of_file)
    }

    /// Returns the written bytes of a value; only of variables and options.
    pub(crate) fn raw(&self, origin: Origin) -> Option<&str> {
        let text = self.get(origin)?;
        match text.kind {
            LayerKind::Variable | LayerKind::Set | LayerKind::Override => text.content.as_deref(),
            LayerKind::Default | LayerKind::File => None,
        }
    }

    /// Returns the line of a value, from 1; 0 if it is not in a file.
    pub(crate) fn line(&self, origin: Origin) -> u32 {
        let Some(text) = self.get(origin) else {
            return 0;
        };
        match (&text.content, text.kind) {
            (Some(content), LayerKind::File) => {
                let (line, _) = text.line_of(content, origin.start as usize);
                u32::try_from(line + 1).unwrap_or(u32::MAX)
            }
            (None, LayerKind::File) => origin.start,
            _ => 0,
        }
    }

    /// Returns the location of a value.
    pub(crate) fn place(&self, origin: Origin) -> Option<SourceLocation> {
        let text = self.get(origin)?;
        let mut place = SourceLocation {
            kind: text.kind,
            name: text.name.clone(),
            line: None,
            column: None,
        };
        if text.kind == LayerKind::File {
            let line = self.line(origin);
            place.line = (line > 0).then_some(line);
            if let Some(content) = &text.content {
                let (_, first) = text.line_of(content, origin.start as usize);
                let column = content
                    .get(first..origin.start as usize)
                    .map_or(0, char_count);
                place.column = Some(column + 1);
            }
        }
        Some(place)
    }

    /// Returns a problem with the value at `origin`, with its line.
    pub(crate) fn problem(&self, origin: Origin, message: String) -> Problem {
        let mut problem = Problem::new(message);
        problem.place = self
            .place(origin)
            .filter(|place| place.kind != LayerKind::Default);
        problem.excerpt = self.excerpt(origin);
        problem
    }

    fn excerpt(&self, origin: Origin) -> Option<Excerpt> {
        let text = self
            .get(origin)
            .filter(|text| text.kind == LayerKind::File)?;
        let content = text.content.as_deref()?;
        let (_, first) = text.line_of(content, origin.start as usize);
        let rest = content.get(first..)?;
        let line = rest.split('\n').next()?.trim_end_matches('\r');
        let before = content.get(first..origin.start as usize)?.chars().count();
        // The position may be the end of the line, which is not shown.
        let start = origin.start as usize;
        let to = (origin.end as usize).clamp(start, start.max(first + line.len()));
        let length = content.get(start..to)?.chars().count().max(1);
        // A long line is shown from shortly before the mark.
        let skip = if before + length > EXCERPT_CHARS {
            before.saturating_sub(20)
        } else {
            0
        };
        let shown = line.chars().skip(skip).take(EXCERPT_CHARS);
        let before = before - skip;
        Some(Excerpt {
            text: shown
                .map(|each| if each.is_control() { ' ' } else { each })
                .collect(),
            before: u32::try_from(before).unwrap_or(u32::MAX),
            length: u32::try_from(length.min(EXCERPT_CHARS.saturating_sub(before)).max(1))
                .unwrap_or(1),
        })
    }
}

fn char_count(text: &str) -> u32 {
    u32::try_from(text.chars().count()).unwrap_or(u32::MAX)
}
