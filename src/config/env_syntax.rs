//! The grammar of env files: `NAME=value` lines with comments, `export`, quotes and variables.
//! Owns the parser, which returns every assignment and every fault of a text at once.
//! Never reads a file and never looks a variable up: the caller passes a lookup function.
//!
//! UTF-8 with or without a byte order mark, lines end with LF or CRLF. Blank lines and lines that
//! begin with `#` are ignored, `export` and a blank may precede a name. A blank is a space or tab.
//! - Unquoted values end at a blank that is followed by `#`, or at the end of the line, and are
//!   trimmed; everything in them is literal.
//! - In single quotes everything is literal. In double quotes `\n`, `\t`, `\"`, `\\` and `\$` are
//!   escapes, any other backslash is a fault. Quoted values may span lines; after the closing quote
//!   only blanks and a comment may follow.
//! - `$NAME` and `${NAME}` are literal. With `env_expand = true` they are replaced outside of
//!   single quotes; an unset variable is a fault.

use std::ops::Range;

/// One variable as the file sets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// One fault: the bytes it concerns, what is wrong, what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) at: Range<usize>,
    pub(crate) message: String,
    pub(crate) hint: &'static str,
}

/// Returns the value of a variable that no earlier line of the file sets.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Parses a whole file; with `lookup`, variables in values are replaced.
///
/// # Errors
/// All faults of the text, in order.
pub(crate) fn parse(text: &str, lookup: Option<Lookup<'_>>) -> Result<Vec<Assignment>, Vec<Fault>> {
    let mut parser = Parser {
        text,
        at: if text.starts_with('\u{feff}') { 3 } else { 0 },
        lookup,
        assignments: Vec::new(),
        faults: Vec::new(),
    };
    while parser.at < text.len() {
        parser.line();
    }
    if parser.faults.is_empty() {
        Ok(parser.assignments)
    } else {
        Err(parser.faults)
    }
}

/// Returns whether a text can name a variable.
pub(crate) fn is_variable(name: &str) -> bool {
    let good = |each: char| !each.is_whitespace() && each != '=' && each != '\0';
    !name.is_empty() && name.chars().all(good)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    lookup: Option<Lookup<'a>>,
    assignments: Vec<Assignment>,
    faults: Vec<Fault>,
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(is_blank) {
            self.at += 1;
        }
    }

    /// Returns where the current line ends: before its LF or CRLF.
    fn line_end(&self) -> usize {
        let rest = self.rest();
        let line = rest.split('\n').next().unwrap_or_default();
        let length = match rest.as_bytes().get(line.len()) {
            Some(_) => line.strip_suffix('\r').unwrap_or(line).len(),
            None => line.len(),
        };
        self.at + length
    }

    fn skip_line(&mut self) {
        let line = self.rest().split_inclusive('\n').next();
        self.at += line.map_or(0, str::len);
    }

    fn fault(&mut self, at: Range<usize>, message: impl Into<String>, hint: &'static str) {
        self.faults.push(Fault {
            at,
            message: message.into(),
            hint,
        });
    }

    fn line(&mut self) {
        self.skip_blanks();
        let end = self.line_end();
        if self.at == end || self.peek() == Some(b'#') {
            return self.skip_line();
        }
        let exported = self.rest().strip_prefix("export");
        if exported.is_some_and(|rest| rest.bytes().next().is_some_and(is_blank)) {
            self.at += "export".len();
            self.skip_blanks();
        }
        if let Some(name) = self.name(end)
            && let Some(value) = self.value(name)
        {
            let name = name.to_owned();
            self.assignments.push(Assignment { name, value });
        }
        self.skip_line();
    }

    /// Reads `NAME =` with optional blanks before the equals sign.
    fn name(&mut self, end: usize) -> Option<&'a str> {
        let start = self.at;
        let line = self.text.get(start..end)?;
        let Some(equals) = line.find('=') else {
            let hint = "write NAME=value, or begin the line with # if it is a comment";
            self.fault(start..end, "cannot read this line: it has no `=`", hint);
            return None;
        };
        let name = line.get(..equals)?.trim_end_matches([' ', '\t']);
        if !is_variable(name) {
            let to = start + name.len().max(1);
            let message = "cannot use this name for a variable";
            let hint = "a name is not empty and has no blanks in it";
            self.fault(start..to, message, hint);
            return None;
        }
        self.at = start + equals + 1;
        Some(name)
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let begin = self.at;
        self.skip_blanks();
        let value = match self.peek() {
            Some(b'\'') => self.single_quoted(name)?,
            Some(b'"') => self.double_quoted(name)?,
            _ => self.unquoted(begin)?,
        };
        if value.contains('\0') {
            let message = format!("cannot use the value of {name}: it has a NUL character in it");
            self.fault(begin..self.at, message, "no program can be given one");
            return None;
        }
        Some(value)
    }

    /// Reads to a blank that is followed by `#`, or to the end of the line; `begin` is the byte
    /// after the equals sign.
    fn unquoted(&mut self, begin: usize) -> Option<String> {
        let end = self.line_end();
        let line = self.text.get(begin..end)?;
        let bytes = line.as_bytes();
        let comment = bytes
            .windows(2)
            .position(|pair| is_blank(pair[0]) && pair[1] == b'#');
        let raw = line.get(..comment.unwrap_or(line.len()))?;
        let value = raw.trim_matches([' ', '\t']);
        self.at = end;
        let start = begin + (raw.len() - raw.trim_start_matches([' ', '\t']).len());
        self.expand(value, start)
    }

    fn single_quoted(&mut self, name: &str) -> Option<String> {
        let start = self.at;
        let inside = self.text.get(start + 1..)?;
        let Some(length) = inside.find('\'') else {
            return self.unclosed(name, '\'');
        };
        self.at = start + 1 + length + 1;
        self.nothing_follows(name)?;
        Some(inside.get(..length)?.replace("\r\n", "\n"))
    }

    fn double_quoted(&mut self, name: &str) -> Option<String> {
        let start = self.at;
        let before = self.faults.len();
        let mut value = String::new();
        self.at += 1;
        loop {
            let rest = self.rest();
            let plain = rest.find(['"', '\\', '$']).unwrap_or(rest.len());
            value.push_str(&rest.get(..plain)?.replace("\r\n", "\n"));
            self.at += plain;
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.escape(&mut value),
                Some(_) => self.variable(&mut value),
                None => {
                    self.at = start;
                    self.faults.truncate(before); // they follow from the missing quote
                    return self.unclosed(name, '"');
                }
            }
        }
        self.at += 1;
        self.nothing_follows(name)?;
        (self.faults.len() == before).then_some(value)
    }

    fn escape(&mut self, value: &mut String) {
        let escaped = self
            .text
            .get(self.at + 1..)
            .and_then(|rest| rest.chars().next());
        let plain = match escaped {
            Some('n') => '\n',
            Some('t') => '\t',
            Some(same @ ('"' | '\\' | '$')) => same,
            other => {
                let to = self.at + 1 + other.map_or(0, char::len_utf8);
                let message = "cannot read this escape";
                let hint = "known are \\n, \\t, \\\", \\\\ and \\$; in single quotes everything is \
                            literal";
                self.fault(self.at..to, message, hint);
                self.at = to;
                return;
            }
        };
        value.push(plain);
        self.at += 2;
    }

    /// Everything after a quote that is never closed belongs to the value: the parser cannot go on.
    fn unclosed<T>(&mut self, name: &str, quote: char) -> Option<T> {
        let message = format!("cannot read the value of {name}: its {quote} is never closed");
        self.fault(
            self.at..self.at + 1,
            message,
            "quoted values may span lines",
        );
        self.at = self.text.len();
        None
    }

    fn nothing_follows(&mut self, name: &str) -> Option<()> {
        let end = self.line_end();
        let rest = self.text.get(self.at..end)?;
        let after = rest.trim_matches([' ', '\t']);
        if after.is_empty() || after.starts_with('#') {
            self.at = end;
            return Some(());
        }
        let start = end - rest.trim_start_matches([' ', '\t']).len();
        let message = format!("cannot read the value of {name}: text follows its closing quote");
        let hint = "only a comment may follow; quote the whole value once";
        self.fault(start..end, message, hint);
        self.at = end;
        None
    }

    /// Replaces the variables of an unquoted value that begins at byte `start`.
    fn expand(&mut self, value: &str, start: usize) -> Option<String> {
        if self.lookup.is_none() || !value.contains('$') {
            return Some(value.to_owned());
        }
        let (end, before) = (self.at, self.faults.len());
        let (to, mut expanded) = (start + value.len(), String::new());
        self.at = start;
        while self.at < to {
            let rest = self.text.get(self.at..to)?;
            let plain = rest.find('$').unwrap_or(rest.len());
            expanded.push_str(rest.get(..plain)?);
            self.at += plain;
            if self.at < to {
                self.variable(&mut expanded);
            }
        }
        self.at = end;
        (self.faults.len() == before).then_some(expanded)
    }

    /// Reads `$NAME` or `${NAME}`; a `$` before anything else is literal.
    fn variable(&mut self, value: &mut String) {
        let start = self.at;
        let rest = self.text.get(start + 1..).unwrap_or_default();
        let braced = rest.strip_prefix('{');
        let name = word(braced.unwrap_or(rest));
        self.at += 1;
        let Some(lookup) = self.lookup else {
            return value.push('$');
        };
        if let Some(braced) = braced {
            if name.is_empty()
                || !braced
                    .get(name.len()..)
                    .is_some_and(|end| end.starts_with('}'))
            {
                let message = "cannot read this variable";
                let hint =
                    "write ${NAME}; a plain $ is '$' in single quotes or \\$ in double quotes";
                return self.fault(start..start + 2, message, hint);
            }
            self.at += name.len() + 2;
        } else if name.is_empty() {
            return value.push('$');
        } else {
            self.at += name.len();
        }
        let earlier = self.assignments.iter().rev().find(|one| one.name == name);
        match earlier
            .map(|one| one.value.clone())
            .or_else(|| lookup(name))
        {
            Some(found) => value.push_str(&found),
            None => {
                let message = format!("cannot expand {name}: it is not set");
                let hint = "set it in an earlier line, or in the environment of mainstay";
                self.fault(start..self.at, message, hint);
            }
        }
    }
}

/// Returns the name at the start of a text: letters, digits and `_`, not beginning with a digit.
fn word(text: &str) -> &str {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let length = text.bytes().take_while(|byte| is_name(*byte)).count();
    let name = text.get(..length).unwrap_or_default();
    if name
        .bytes()
        .next()
        .is_some_and(|first| first.is_ascii_digit())
    {
        return "";
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let read = parse(text, None).expect("no faults");
        read.into_iter().map(|one| (one.name, one.value)).collect()
    }

    fn value(text: &str) -> String {
        let mut read = pairs(text);
        assert_eq!(read.len(), 1, "{text:?}: {read:?}");
        read.remove(0).1
    }

    /// Each fault as `line:column message`, both from 1 and in characters.
    fn faults(text: &str, lookup: Option<Lookup<'_>>) -> Vec<String> {
        let faults = parse(text, lookup).expect_err("faults");
        let place = |fault: &Fault| {
            let before = &text[..fault.at.start];
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
            format!("{line}:{column} {}", fault.message)
        };
        faults.iter().map(place).collect()
    }

    #[test]
    fn values_are_read_as_the_grammar_says() {
        for (text, expected) in [
            ("A=1", "1"),
            ("\u{feff}A=1\r\n", "1"),
            ("export A = x", "x"),
            ("export\tA=x", "x"),
            ("  A=x  ", "x"),
            ("A= # only a comment", ""),
            ("A=\t# only a comment", ""),
            ("A=", ""),
            ("A=#x", "#x"),
            ("A=a#b", "a#b"),
            ("A=tab\t# c", "tab"),
            ("A=e f # g", "e f"),
            ("A=it's", "it's"),
            ("A=a\"b\"", "a\"b\""),
            ("A=c:\\new", "c:\\new"),
            ("A='x # y' # z", "x # y"),
            ("A='a\\nb'", "a\\nb"),
            ("A=\"x # y\"# z", "x # y"),
            ("A=\"a\\n\\t\\\"\\\\\\$\"", "a\n\t\"\\$"),
            ("A=\"one\r\ntwo\"\r\n", "one\ntwo"),
            ("A='one\ntwo'", "one\ntwo"),
            ("A=''", ""),
            ("A=$B ${C}", "$B ${C}"),
            ("A=\"$B ${C} $\"", "$B ${C} $"),
            ("A=ä ö", "ä ö"),
            ("A=x=y", "x=y"),
        ] {
            assert_eq!(value(text), expected, "{text:?}");
        }
        assert!(pairs("\n  \n\t# c\r\n#d\n").is_empty());
        assert_eq!(value("export=1"), "1");
        let read = pairs("A=\"x\ny\" # c\nB=2\r\nC='3'");
        let names: Vec<&str> = read.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["A", "B", "C"]);
    }

    #[test]
    fn all_faults_are_told_at_once_with_line_and_column() {
        let text = "good=1\nnonsense\n=x\nA B=x\nC=\"a\" \"b\"\nD=\"\\q\"\n  E='a' x\nF=\"\nok=1";
        assert_eq!(
            faults(text, None),
            [
                "2:1 cannot read this line: it has no `=`",
                "3:1 cannot use this name for a variable",
                "4:1 cannot use this name for a variable",
                "5:7 cannot read the value of C: text follows its closing quote",
                "6:4 cannot read this escape",
                "7:9 cannot read the value of E: text follows its closing quote",
                "8:3 cannot read the value of F: its \" is never closed",
            ]
        );
        assert_eq!(
            faults("ä='x\0'", None),
            ["1:3 cannot use the value of ä: it has a NUL character in it"]
        );
        assert_eq!(faults("export ", None).len(), 1);
    }

    #[test]
    fn variables_are_replaced_when_that_is_asked_for() {
        let lookup = |name: &str| (name == "HOME").then(|| "/h".to_owned());
        let text = "A=$HOME/x\nB=\"${A}/y $ $1 \\$HOME\"\nC='$HOME'\nD=$A$HOME # $HOME\nA=2\nE=$A";
        let read = parse(text, Some(&lookup)).expect("no faults");
        let values: Vec<&str> = read.iter().map(|one| one.value.as_str()).collect();
        assert_eq!(
            values,
            ["/h/x", "/h/x/y $ $1 $HOME", "$HOME", "/h/x/h", "2", "2"]
        );
        assert_eq!(
            faults("A=$NO ${NEITHER}\nB=\"${x\"\nC=${}", Some(&lookup)),
            [
                "1:3 cannot expand NO: it is not set",
                "1:7 cannot expand NEITHER: it is not set",
                "2:4 cannot read this variable",
                "3:3 cannot read this variable",
            ]
        );
    }

    #[test]
    fn no_text_makes_it_panic_and_places_lie_inside() {
        let alphabet = [
            "A", "=", "\"", "'", "\\", "$", "{", "}", " ", "\t", "#", "\n", "\r", "ä", "export ",
            "\0", "\u{feff}",
        ];
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..(seed >> 59) {
                seed = seed
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                text.push_str(alphabet[(seed >> 33) as usize % alphabet.len()]);
            }
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            for lookup in [None, Some(&(|_: &str| Some("x".to_owned())) as Lookup<'_>)] {
                for fault in parse(&text, lookup).err().unwrap_or_default() {
                    assert!(text.get(fault.at.clone()).is_some(), "{text:?}: {fault:?}");
                }
            }
        }
    }
}
