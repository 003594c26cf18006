//! Finds the comments of a Rust file.
//!
//! A lexer rather than a parser, because parsers drop ordinary comments. It knows the literals
//! in which comment markers have no meaning: strings, raw strings and characters.

/// A run of comment lines of one kind without code in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) kind: Kind,
    pub(super) lines: Vec<Line>,
}

/// The kind of a comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `//` and `/* */`.
    Ordinary,
    /// `///`, `/** */` and `#[doc = "…"]`.
    OuterDoc,
    /// `//!`, `/*! */` and `#![doc = "…"]`.
    InnerDoc,
}

/// One line of text without its comment marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// The line's number in the file, from 1.
    pub(super) number: usize,
    pub(super) text: String,
}

/// Returns the comments and docs of a Rust file in order.
pub(super) fn scan(source: &str) -> Vec<Block> {
    let mut scanner = Scanner { rest: source, line: 1, code: String::new(), blocks: Vec::new() };
    while !scanner.rest.is_empty() {
        scanner.step();
    }
    scanner.blocks
}

struct Scanner<'a> {
    rest: &'a str,
    line: usize,
    /// The code since the last comment, without white space and the contents of literals.
    code: String,
    blocks: Vec<Block>,
}

impl<'a> Scanner<'a> {
    /// Consumes one token, or everything up to the next relevant one.
    fn step(&mut self) {
        let first = self.rest.as_bytes()[0];
        if self.rest.starts_with("//") {
            self.line_comment();
        } else if self.rest.starts_with("/*") {
            self.block_comment();
        } else if first == b'"' {
            self.string();
        } else if first == b'\'' {
            self.character_or_lifetime();
        } else if is_word(first) {
            self.word();
        } else {
            let is_relevant = |byte| is_word(byte) || matches!(byte, b'/' | b'"' | b'\'');
            let end = self.rest.bytes().skip(1).position(is_relevant);
            let taken = self.take(end.map_or(self.rest.len(), |end| end + 1));
            taken.split_whitespace().for_each(|code| self.code.push_str(code));
        }
    }

    /// Consumes `length` bytes and counts the lines in them.
    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    fn line_comment(&mut self) {
        let number = self.line;
        let comment = self.take(self.rest.find('\n').unwrap_or(self.rest.len()));
        let (kind, text) = if let Some(text) = comment.strip_prefix("//!") {
            (Kind::InnerDoc, text)
        } else if comment.starts_with("///") && !comment.starts_with("////") {
            (Kind::OuterDoc, &comment[3..])
        } else {
            (Kind::Ordinary, comment.trim_start_matches('/'))
        };
        self.add(kind, number, text);
    }

    fn block_comment(&mut self) {
        let number = self.line;
        let comment = self.take(end_of_block_comment(self.rest));
        let body = comment.strip_suffix("*/").unwrap_or(comment);
        let (kind, text) = if let Some(text) = body.strip_prefix("/*!") {
            (Kind::InnerDoc, text)
        } else if body.starts_with("/**") && !body.starts_with("/***") {
            (Kind::OuterDoc, &body[3..])
        } else {
            (Kind::Ordinary, body.trim_start_matches('/').trim_start_matches('*'))
        };
        for (index, line) in text.split('\n').enumerate() {
            let trimmed = line.trim_start();
            let text = if index == 0 { line } else { trimmed.trim_start_matches('*') };
            self.add(kind, number + index, text);
        }
    }

    /// Consumes an identifier, a keyword or a number, and the raw string that it may begin.
    fn word(&mut self) {
        let end = self.rest.bytes().position(|byte| !is_word(byte));
        let word = self.take(end.unwrap_or(self.rest.len()));
        let hashes = self.rest.len() - self.rest.trim_start_matches('#').len();
        // `r#type` has hashes but no quotation mark.
        if matches!(word, "r" | "br" | "cr") && self.rest[hashes..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let start = hashes + 1;
            let body = &self.rest[start..];
            let length = body.find(&close).unwrap_or(body.len());
            let end = (start + length + close.len()).min(self.rest.len());
            self.literal(start, start + length, end);
        } else {
            self.code.push_str(word);
        }
    }

    fn string(&mut self) {
        let close = end_of_string(self.rest);
        self.literal(1, close, (close + 1).min(self.rest.len()));
    }

    /// Consumes a string literal of `end` bytes; its contents are docs after `#[doc =`.
    fn literal(&mut self, from: usize, to: usize, end: usize) {
        let contents = &self.rest[from..to];
        let number = self.line;
        let kind = doc_attribute(&self.code);
        self.take(end);
        if let Some(kind) = kind {
            // The attribute is not code that ends a block of docs.
            self.code.truncate(self.code.rfind('#').unwrap_or(0));
            for (index, line) in contents.split('\n').enumerate() {
                self.add(kind, number + index, line);
            }
        } else {
            self.code.push('"');
        }
    }

    fn character_or_lifetime(&mut self) {
        let mut chars = self.rest.char_indices().skip(1);
        let length = match (chars.next(), chars.next()) {
            (Some((_, '\\')), Some((at, escaped))) => {
                let from = at + escaped.len_utf8();
                self.rest[from..].find('\'').map_or(self.rest.len(), |close| from + close + 1)
            }
            (Some(_), Some((at, '\''))) => at + 1,
            // A lifetime or a label.
            _ => 1,
        };
        self.take(length);
        self.code.push('\'');
    }

    /// Appends a line to the last block, or begins another one.
    fn add(&mut self, kind: Kind, number: usize, text: &str) {
        let line = Line { number, text: text.trim_end_matches('\r').to_owned() };
        let continues = matches!(self.code.as_str(), "" | "]");
        match self.blocks.last_mut() {
            Some(block) if continues && block.kind == kind => block.lines.push(line),
            _ => self.blocks.push(Block { kind, lines: vec![line] }),
        }
        self.code.clear();
    }
}

/// Returns `true` for a byte of an identifier or a number. Outside of literals and comments,
/// characters beyond ASCII occur only in identifiers.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// Returns the kind of docs that a string after this code is, if it is docs.
fn doc_attribute(code: &str) -> Option<Kind> {
    if code.ends_with("#![doc=") {
        Some(Kind::InnerDoc)
    } else if code.ends_with("#[doc=") {
        Some(Kind::OuterDoc)
    } else {
        None
    }
}

/// Returns the length of the block comment at the beginning of `text`. Block comments nest.
fn end_of_block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// Returns the position of the quotation mark that closes the string at the beginning of `text`.
fn end_of_string(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kind, the first line's number, and the text of each block.
    fn blocks(source: &str) -> Vec<(Kind, usize, String)> {
        let text = |block: &Block| {
            block.lines.iter().map(|line| line.text.trim()).collect::<Vec<_>>().join("|")
        };
        let scanned = scan(source);
        scanned.iter().map(|block| (block.kind, block.lines[0].number, text(block))).collect()
    }

    fn texts(source: &str) -> Vec<String> {
        blocks(source).into_iter().map(|(_, _, text)| text).collect()
    }

    #[test]
    fn each_kind_of_line_comment_is_recognised() {
        assert_eq!(
            blocks("//! a\n//! b\n\n/// c\nfn d() {} // e\n//// f\n"),
            [
                (Kind::InnerDoc, 1, "a|b".to_owned()),
                (Kind::OuterDoc, 4, "c".to_owned()),
                (Kind::Ordinary, 5, "e|f".to_owned()),
            ]
        );
    }

    #[test]
    fn code_separates_docs() {
        assert_eq!(texts("/// a\n/// b\nx: u8,\n/// c\ny: u8"), ["a|b", "c"]);
    }

    #[test]
    fn block_comments_nest_and_lose_their_stars() {
        assert_eq!(
            blocks("/* a /* b */ c */ x /** d\n * e\n */ y /*! f */ z /**/ u /*** g */"),
            [
                (Kind::Ordinary, 1, "a /* b */ c".to_owned()),
                (Kind::OuterDoc, 1, "d|e|".to_owned()),
                (Kind::InnerDoc, 3, "f".to_owned()),
                (Kind::Ordinary, 3, String::new()),
                (Kind::Ordinary, 3, "g".to_owned()),
            ]
        );
    }

    #[test]
    fn markers_in_strings_are_no_comments() {
        assert_eq!(texts(r#"let url = "http://a"; // real"#), ["real"]);
        assert_eq!(texts(r#"let quoted = "\" // no"; // real"#), ["real"]);
        assert_eq!(texts(r#"let slash = "\\"; // real"#), ["real"]);
        assert_eq!(texts(r#"f(b"// no", c"/* no", "/* no"); // real"#), ["real"]);
        assert_eq!(texts("let lines = \"a\n// no\n\"; // real"), ["real"]);
    }

    #[test]
    fn markers_in_raw_strings_are_no_comments() {
        assert_eq!(texts(r#"f(r"\"); // real"#), ["real"]);
        assert_eq!(texts(r##"f(r#"a "quoted" // no"#); // real"##), ["real"]);
        assert_eq!(texts(r###"f(br##""# // no"##, cr#"// no"#); // real"###), ["real"]);
        assert_eq!(texts("let r#type = 1; // real"), ["real"]);
        assert_eq!(texts("let var = x; // \"real\""), ["\"real\""]);
    }

    #[test]
    fn characters_are_told_from_lifetimes() {
        assert_eq!(texts(r"f('/', '/'); // real"), ["real"]);
        assert_eq!(texts(r#"f('"'); // real " "#), ["real \""]);
        assert_eq!(texts(r#"f('\'', b'"', '\\', '\u{2f}'); // real " "#), ["real \""]);
        assert_eq!(texts("fn f<'a, 'b>(x: &'a str) -> &'b str { 'l: loop {} } // it's"), ["it's"]);
        assert_eq!(texts("f('é', '…'); // real"), ["real"]);
    }

    #[test]
    fn operators_are_no_comments() {
        assert_eq!(texts("let x = a / b * c /d; let y = a/ *b; // real"), ["real"]);
    }

    #[test]
    fn doc_attributes_are_docs() {
        assert_eq!(
            blocks("#![doc = \"a\"]\n/// b\n#[doc = \"c\"]\n#[doc = r\"d\"]\nfn f() { \"e\" }"),
            [(Kind::InnerDoc, 1, "a".to_owned()), (Kind::OuterDoc, 2, "b|c|d".to_owned())]
        );
        assert_eq!(
            texts("#[doc(hidden)] #[doc(alias = \"a\")] #[doc = include_str!(\"b\")]"),
            [""; 0]
        );
    }

    #[test]
    fn unfinished_literals_and_comments_end_with_the_file() {
        for source in ["\"a", "r#\"a", "'", "'\\", "'\\'", "/* a", "/**", "//", "r#", "#[doc = \""]
        {
            assert!(scan(source).len() <= 1, "{source}");
        }
    }

    #[test]
    fn lines_are_counted_through_literals_and_comments() {
        let source = "\"a\n\nb\"; /* c\nd */ r\"e\nf\" // g\r\n// h";
        let numbers: Vec<_> = scan(source)
            .iter()
            .flat_map(|block| block.lines.iter().map(|line| (line.number, line.text.clone())))
            .collect();
        let line = |number, text: &str| (number, text.to_owned());
        assert_eq!(numbers, [line(3, " c"), line(4, "d "), line(5, " g"), line(6, " h")]);
    }
}
