//! What is known of the types so far, and how it is printed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Tells named types apart: the name of the visitor's type, which holds the path of the type it
/// reads, and the name serde knows. Two modules may each have an `IntoEffect`.
pub(super) type Key = (&'static str, &'static str);

/// How a type is written in binary.
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

/// What is inside a named type or a variant.
#[derive(Debug, Clone)]
pub(super) enum Body {
    Unit,
    Newtype(Format),
    Tuple(Vec<Format>),
    Struct(Fields),
    Enum(Variants),
}

/// Named fields. serde tells the names of all fields with their aliases among them, and reads the
/// fields by position: without aliases both agree.
#[derive(Debug, Clone)]
pub(super) struct Fields {
    pub(super) names: &'static [&'static str],
    pub(super) formats: Vec<Format>,
    /// How many there are: known once all were read.
    pub(super) arity: Option<usize>,
    pub(super) aliases: BTreeSet<&'static str>,
    /// Names to be tried before others when looking for aliases.
    pub(super) first: Vec<&'static str>,
    /// Nothing more can be found out about the names.
    pub(super) settled: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Variants {
    pub(super) names: &'static [&'static str],
    pub(super) list: Vec<Variant>,
}

/// A variant, and how reading it went.
#[derive(Debug, Clone, Default)]
pub(super) struct Variant {
    pub(super) body: Option<Body>,
    /// Was part of a value that was read to its end.
    pub(super) proven: bool,
    pub(super) failures: u32,
    /// How many steps it took.
    pub(super) cost: Option<u32>,
}

/// Two readings of one type that do not agree.
#[derive(Debug)]
pub(super) struct Conflict;

impl Format {
    /// Adds what `seen` knows; whether that was anything.
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

/// Merges by position; either may be longer.
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
    /// Of the same kind, with nothing known.
    pub(super) fn blank(&self) -> Self {
        match self {
            Self::Unit => Self::Unit,
            Self::Newtype(_) => Self::Newtype(Format::Unknown),
            Self::Tuple(_) => Self::Tuple(Vec::new()),
            Self::Struct(fields) => Self::Struct(Fields::new(fields.names)),
            Self::Enum(variants) => Self::Enum(Variants::new(variants.names)),
        }
    }

    /// Adds what `seen` knows; whether that was anything. Variants are added one by one instead.
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

    /// Whether aliases stand among the names and it is not known which.
    pub(super) fn hides_aliases(&self) -> bool {
        self.arity.is_some_and(|arity| arity + self.aliases.len() < self.names.len())
            && !self.settled
    }

    /// The names in the order in which aliases show: whichever is found twice names the field.
    pub(super) fn in_trial_order(&self) -> Vec<&'static str> {
        let rest = self.names.iter().filter(|name| !self.first.contains(name));
        self.first
            .iter()
            .chain(rest)
            .filter(|name| !self.aliases.contains(*name))
            .copied()
            .collect()
    }

    /// `name` was refused since the field `field` had been read.
    pub(super) fn is_alias(&mut self, name: &'static str, field: &'static str) {
        if name != field {
            self.aliases.insert(name);
        } else if self.first.contains(&field) {
            self.settled = true;
        } else {
            // It is the name of the field itself; the alias came before it.
            self.first.push(field);
        }
    }

    /// Whether all of them were read.
    pub(super) fn are_complete(&self) -> bool {
        match self.arity {
            Some(arity) => arity == self.formats.len() && !self.hides_aliases(),
            None => self.formats.len() == self.names.len(),
        }
    }

    /// Each with its name; without a name where aliases could not be told from names.
    fn named(&self) -> impl Iterator<Item = (Option<&'static str>, &Format)> {
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
        // The name of the whole is no part of its shape: an old shape has another one.
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
        // With aliases among the names nothing tells which variant has which.
        let prefix =
            if named { String::new() } else { format!("{} as ", variants.names.join("/")) };
        format!("{prefix}{}", list.join(" | "))
    }
}

/// A name as it stands, or quoted where it could be taken for punctuation.
fn word(name: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '$');
    if !name.is_empty() && name.chars().all(plain) { name.to_owned() } else { format!("{name:?}") }
}

/// The text with its named types numbered in the order of their definitions: neither format writes
/// their names, so a shape is the same under others.
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
