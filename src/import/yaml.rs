//! YAML as a tree in which each value and key knows its line; JSON is read by it too.
//! Owns anchors, merge keys and the bounds of a tree.
//! Never interprets a scalar: `1.10` stays the text that was written.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use super::Fault;

/// The most values of a file, copies by alias included.
const NODES_MAX: usize = 100_000;
/// The deepest nesting.
const DEPTH_MAX: usize = 64;

/// A value and its line.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) line: usize,
    pub(crate) value: Value,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// Nothing.
    Null,
    /// A text, a number, a word.
    Scalar(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<Entry>),
}

/// A key of a mapping.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) line: usize,
    pub(crate) node: Node,
}

impl Node {
    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text) => Some(text),
            _ => None,
        }
    }

    /// The keys of a mapping; none of anything else.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The values of a sequence; of a scalar itself.
    pub(crate) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            Value::Scalar(_) => std::slice::from_ref(self),
            _ => &[],
        }
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        let found = self.entries().iter().find(|entry| entry.key == key);
        found.map(|entry| &entry.node)
    }

    /// The text of a key.
    pub(crate) fn text_of(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Node::text)
    }

    /// A word of YAML 1.1 or 1.2 that means true.
    pub(crate) fn is_true(&self) -> bool {
        let text = self.text().unwrap_or_default().to_ascii_lowercase();
        ["true", "yes", "on", "1"].contains(&text.as_str())
    }

    /// Pairs of `NAME: value` or `- NAME=value`, with their lines. None: a name without a value.
    pub(crate) fn pairs(&self) -> Vec<(usize, String, Option<String>)> {
        let named = self.entries().iter().map(|entry| {
            let value = entry.node.text().map(ToOwned::to_owned);
            (entry.line, entry.key.clone(), value)
        });
        let written = self.items().iter().filter_map(|item| {
            let text = item.text()?;
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (text, None),
            };
            Some((item.line, name.trim().to_owned(), value))
        });
        named.chain(written).collect()
    }
}

/// Reads the first document of a text.
pub(crate) fn parse(text: &str) -> Result<Node, Fault> {
    let mut reader = Reader {
        events: Parser::new_from_str(text),
        anchors: HashMap::new(),
        nodes: 0,
    };
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => {}
            Event::StreamEnd => return Err(Fault::new(1, "it is empty")),
            event => return reader.node(event, span, 0),
        }
    }
}

struct Reader<'t> {
    events: Parser<'t, saphyr_parser::StrInput<'t>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), Fault> {
        match self.events.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(fault(&error)),
            None => Err(Fault::new(1, "it ends too early")),
        }
    }

    fn count(&mut self, line: usize, more: usize, depth: usize) -> Result<(), Fault> {
        self.nodes += more;
        if self.nodes > NODES_MAX || depth > DEPTH_MAX {
            return Err(Fault::new(line, "it is too large or nested too deeply"));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, Fault> {
        let line = span.start.line();
        self.count(line, 1, depth)?;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                let value = match plain && ["", "~", "null", "Null", "NULL"].contains(&&*text) {
                    true => Value::Null,
                    false => Value::Scalar(text.into_owned()),
                };
                (value, anchor)
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                loop {
                    let (event, span) = self.next()?;
                    if event == Event::SequenceEnd {
                        break (Value::List(items), anchor);
                    }
                    items.push(self.node(event, span, depth + 1)?);
                }
            }
            Event::MappingStart(anchor, _) => (self.mapping(depth)?, anchor),
            Event::Alias(id) => {
                let known = self.anchors.get(&id).cloned();
                let node = known.ok_or_else(|| Fault::new(line, "an alias within itself"))?;
                self.count(line, size(&node), depth)?;
                return Ok(node);
            }
            _ => return Err(Fault::new(line, "it is not one value")),
        };
        let node = Node { line, value };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    /// The keys of a mapping; those that `<<` merges come after its own and never replace one.
    fn mapping(&mut self, depth: usize) -> Result<Value, Fault> {
        let (mut entries, mut merged): (Vec<Entry>, Vec<Entry>) = (Vec::new(), Vec::new());
        loop {
            let (event, span) = self.next()?;
            let line = span.start.line();
            let key = match event {
                Event::MappingEnd => break,
                Event::Scalar(key, ..) => key.into_owned(),
                _ => return Err(Fault::new(line, "a key is not a word")),
            };
            let (event, span) = self.next()?;
            let node = self.node(event, span, depth + 1)?;
            if key == "<<" {
                let from: Vec<&Node> = match &node.value {
                    Value::List(nodes) => nodes.iter().collect(),
                    _ => vec![&node],
                };
                merged.extend(from.iter().flat_map(|node| node.entries()).cloned());
                continue;
            }
            entries.retain(|entry| entry.key != key);
            entries.push(Entry { key, line, node });
        }
        for entry in merged {
            if entries.iter().all(|own| own.key != entry.key) {
                entries.push(entry);
            }
        }
        Ok(Value::Map(entries))
    }
}

fn size(node: &Node) -> usize {
    let inside: usize = match &node.value {
        Value::List(items) => items.iter().map(size).sum(),
        Value::Map(entries) => entries.iter().map(|entry| size(&entry.node)).sum(),
        Value::Null | Value::Scalar(_) => 0,
    };
    inside + 1
}

fn fault(error: &ScanError) -> Fault {
    Fault::new(error.marker().line(), error.info())
}
