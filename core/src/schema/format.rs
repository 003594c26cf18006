//! The formats of the types that were read so far, and their text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// The identity of a named type: the name of the visitor's type, which contains the path of the
/// type, and the name that serde knows. Two modules may each have an `IntoEffect`.
pub(super) type Key = (&'static str, &'static str);

/// The binary format of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Format {
    /// Not seen yet.
    Unknown,
    Primitive(&'static str),
    Opaque(&'static str),
    Option(Box<Format>),
    Seq(Box<Format>),
    Map(Box<Format>, Box<Format>),
    Tuple(Vec<Format>),
    Named(Key),
}

/// The content of a named type or of a variant.
#[derive(Debug, Clone)]
pub(super) enum Body {
    Unit,
    Newtype(Format),
    Tuple(Vec<Format>),
    Struct(Fields),
    Enum(Variants),
}

/// Named fields. serde passes the names of all fields, mixed with their aliases, and reads the
/// fields by position. Without aliases the two lists agree.
#[derive(Debug, Clone)]
pub(super) struct Fields {
    pub(super) names: &'static [&'static str],
    pub(super) formats: Vec<Format>,
    /// The number of fields; `None` until all were read.
    pub(super) arity: Option<usize>,
    pub(super) aliases: BTreeSet<&'static str>,
    /// The names to try before the others in the search for aliases.
    pub(super) first: Vec<&'static str>,
    /// `true` if nothing more can be found out about the names.
    pub(super) settled: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Variants {
    pub(super) names: &'static [&'static str],
    pub(super) list: Vec<Variant>,
}

/// A variant, and the outcomes of its readings.
#[derive(Debug, Clone, Default)]
pub(super) struct Variant {
    pub(super) body: Option<Body>,
    /// `true` if the variant was part of a value that was read to its end.
    pub(super) proven: bool,
    pub(super) failures: u32,
    /// The smallest number of steps that a reading took.
    pub(super) cost: Option<u32>,
}

/// Two readings of one type that do not agree.
#[derive(Debug)]
pub(super) struct Conflict;

impl Format {
    /// Merges `seen` into this format. Returns `true` if the format changed.
    pub(super) fn merge(&mut self, seen: Self) -> Result<bool, Conflict> {
        match (self, seen) {
            (_, Self::Unknown) => Ok(false),
            (known @ Self::Unknown, seen) => {
                *known = seen;
                Ok(true)
            }
            (Self::Option(known), Self::Option(seen)) | (Self::Seq(known), Self::Seq(seen)) => {
                known.merge(*seen)
            }
            (Self::Map(key, value), Self::Map(seen_key, seen_value)) => {
                Ok(key.merge(*seen_key)? | value.merge(*seen_value)?)
            }
            (Self::Tuple(known), Self::Tuple(seen)) if known.len() == seen.len() => {
                merge_all(known, seen)
            }
            (known, seen) if *known == seen => Ok(false),
            _ => Err(Conflict),
        }
    }
}

/// Merges by position; either list may be longer. Returns `true` if `known` changed.
pub(super) fn merge_all(known: &mut Vec<Format>, seen: Vec<Format>) -> Result<bool, Conflict> {
    let mut news = false;
    for (i, format) in seen.into_iter().enumerate() {
        if i == known.len() {
            known.push(Format::Unknown);
            news = true;
        }
        news |= known[i].merge(format)?;
    }
    Ok(news)
}

impl Body {
    /// Returns a body of the same kind with unknown content.
    pub(super) fn blank(&self) -> Self {
        match self {
            Self::Unit => Self::Unit,
            Self::Newtype(_) => Self::Newtype(Format::Unknown),
            Self::Tuple(_) => Self::Tuple(Vec::new()),
            Self::Struct(fields) => Self::Struct(Fields::new(fields.names)),
            Self::Enum(variants) => Self::Enum(Variants::new(variants.names)),
        }
    }

    /// Merges `seen` into this body. Returns `true` if the body changed. Variants are not merged
    /// here: the search records each separately.
    pub(super) fn merge(&mut self, seen: Self) -> Result<bool, Conflict> {
        match (self, seen) {
            (Self::Unit, Self::Unit) | (Self::Enum(_), Self::Enum(_)) => Ok(false),
            (Self::Newtype(known), Self::Newtype(seen)) => known.merge(seen),
            (Self::Tuple(known), Self::Tuple(seen)) => merge_all(known, seen),
            (Self::Struct(known), Self::Struct(seen)) if known.names == seen.names => {
                let news = merge_all(&mut known.formats, seen.formats)?;
                let learnt = known.arity.is_none() && seen.arity.is_some();
                known.arity = known.arity.or(seen.arity);
                Ok(news || learnt)
            }
            _ => Err(Conflict),
        }
    }
}

impl Fields {
    pub(super) fn new(names: &'static [&'static str]) -> Self {
        Self {
            names,
            formats: Vec::new(),
            arity: None,
            aliases: BTreeSet::new(),
            first: Vec::new(),
            settled: false,
        }
    }

    /// Returns `true` if there are aliases among the names and some are not identified yet.
    pub(super) fn hides_aliases(&self) -> bool {
        self.arity.is_some_and(|arity| arity + self.aliases.len() < self.names.len())
            && !self.settled
    }

    /// Returns the names in the order in which aliases show: serde refuses the second name of a
    /// field and reports the field's own.
    pub(super) fn in_trial_order(&self) -> Vec<&'static str> {
        let rest = self.names.iter().filter(|name| !self.first.contains(name));
        self.first
            .iter()
            .chain(rest)
            .filter(|name| !self.aliases.contains(*name))
            .copied()
            .collect()
    }

    /// Records that serde refused `name` because the field `field` had been read.
    pub(super) fn is_alias(&mut self, name: &'static str, field: &'static str) {
        if name != field {
            self.aliases.insert(name);
        } else if self.first.contains(&field) {
            self.settled = true;
        } else {
            // `name` is the field's own name; its alias was tried before.
            self.first.push(field);
        }
    }

    /// Returns `true` if all fields were read.
    pub(super) fn are_complete(&self) -> bool {
        match self.arity {
            Some(arity) => arity == self.formats.len() && !self.hides_aliases(),
            None => self.formats.len() == self.names.len(),
        }
    }

    /// Returns the fields with their names; without names if the aliases could not be identified.
    pub(super) fn named(&self) -> impl Iterator<Item = (Option<&'static str>, &Format)> {
        let names: Vec<_> =
            self.names.iter().filter(|name| !self.aliases.contains(*name)).copied().collect();
        let known = names.len() == self.formats.len();
        self.formats.iter().enumerate().map(move |(i, format)| (known.then(|| names[i]), format))
    }
}

impl Variants {
    pub(super) fn new(names: &'static [&'static str]) -> Self {
        Self { names, list: vec![Variant::default(); names.len()] }
    }
}

/// Prints the type `root` and below it each named type once, in the order in which they appear.
pub(super) fn print(root: &Format, types: &BTreeMap<Key, Body>) -> String {
    let mut printer = Printer { types, names: BTreeMap::new(), queue: Vec::new() };
    let mut text = match root {
        // The name of the root is not part of its shape: an old version's type has another name.
        Format::Named(key) if types.contains_key(key) => printer.body(&types[key], "", ""),
        other => printer.format(other),
    };
    let mut next = 0;
    while let Some(key) = printer.queue.get(next).copied() {
        next += 1;
        let name = printer.names[&key].clone();
        if let Some(body) = types.get(&key) {
            let line = match body {
                Body::Enum(_) => printer.body(body, &name, " = "),
                Body::Struct(_) => printer.body(body, &name, " "),
                _ => printer.body(body, &name, ""),
            };
            let _ = write!(text, "\n{line}");
        }
    }
    text
}

struct Printer<'t> {
    types: &'t BTreeMap<Key, Body>,
    names: BTreeMap<Key, String>,
    queue: Vec<Key>,
}

impl Printer<'_> {
    fn name(&mut self, key: Key) -> String {
        if let Some(name) = self.names.get(&key) {
            return name.clone();
        }
        let namesakes = self.names.keys().filter(|(_, name)| *name == key.1).count();
        let name = word(key.1);
        let name = if namesakes == 0 { name } else { format!("{name}#{}", namesakes + 1) };
        self.names.insert(key, name.clone());
        self.queue.push(key);
        name
    }

    fn format(&mut self, format: &Format) -> String {
        match format {
            Format::Unknown => "?".to_owned(),
            Format::Primitive(name) | Format::Opaque(name) => (*name).to_owned(),
            Format::Option(inner) => format!("{}?", self.format(inner)),
            Format::Seq(item) => format!("[{}]", self.format(item)),
            Format::Map(key, value) => {
                let key = self.format(key);
                format!("map<{key}, {}>", self.format(value))
            }
            Format::Tuple(items) => match items.as_slice() {
                [first, rest @ ..] if rest.len() > 2 && rest.iter().all(|item| item == first) => {
                    format!("[{}; {}]", self.format(first), items.len())
                }
                items => format!("({})", self.list(items)),
            },
            Format::Named(key) if self.types.contains_key(key) => self.name(*key),
            Format::Named((_, name)) => word(name),
        }
    }

    fn list(&mut self, items: &[Format]) -> String {
        items.iter().map(|item| self.format(item)).collect::<Vec<_>>().join(", ")
    }

    fn body(&mut self, body: &Body, name: &str, between: &str) -> String {
        let content = match body {
            Body::Unit => String::new(),
            Body::Newtype(format) => format!("({})", self.format(format)),
            Body::Tuple(items) => format!("({})", self.list(items)),
            Body::Struct(fields) => self.fields(fields),
            Body::Enum(variants) => self.variants(variants),
        };
        format!("{name}{between}{content}")
    }

    fn fields(&mut self, fields: &Fields) -> String {
        let list: Vec<_> = fields
            .named()
            .map(|(name, format)| {
                let name = name.map_or_else(|| "_".to_owned(), word);
                format!("{name}: {}", self.format(format))
            })
            .collect();
        if list.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", list.join(", ")) }
    }

    fn variants(&mut self, variants: &Variants) -> String {
        let named = variants.names.len() == variants.list.len();
        let list: Vec<_> = variants
            .list
            .iter()
            .enumerate()
            .map(|(i, variant)| {
                let name = if named { word(variants.names[i]) } else { i.to_string() };
                match &variant.body {
                    Some(body @ Body::Struct(_)) => self.body(body, &name, " "),
                    Some(body) => self.body(body, &name, ""),
                    None => format!("{name}(?)"),
                }
            })
            .collect();
        // With aliases among the names, the variants cannot be matched to names.
        let prefix =
            if named { String::new() } else { format!("{} as ", variants.names.join("/")) };
        format!("{prefix}{}", list.join(" | "))
    }
}

/// Returns a name unchanged, or quoted if it could be taken for punctuation.
fn word(name: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '$');
    if !name.is_empty() && name.chars().all(plain) { name.to_owned() } else { format!("{name:?}") }
}

/// Returns the text with its named types numbered in the order of their definitions. Neither format
/// writes the names of types, so a renamed type has the same shape.
pub(super) fn canonical(text: &str) -> String {
    let names: BTreeMap<&str, usize> = text
        .lines()
        .skip(1)
        .enumerate()
        .filter_map(|(i, line)| Some((line.split([' ', '(']).next()?, i)))
        .collect();
    let mut canonical = String::with_capacity(text.len());
    let mut before = '\n';
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let end =
            rest.find([' ', '(', ')', '[', ']', '{', '}', ',', ':', '?', '<', '>', ';', '\n']);
        let end = end.unwrap_or(rest.len());
        if end == 0 {
            canonical.push(c);
            if c != ' ' {
                before = c;
            }
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let (token, tail) = rest.split_at(end);
        let is_name = tail.starts_with(':') || matches!(before, '|' | '=');
        match names.get(token).filter(|_| !is_name) {
            Some(number) => {
                let _ = write!(canonical, "type {number}");
            }
            None => canonical.push_str(token),
        }
        before = token.chars().next_back().unwrap_or(' ');
        rest = tail;
    }
    canonical
}
