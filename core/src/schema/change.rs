//! The differences between two texts of a shape.

use std::collections::{BTreeMap, BTreeSet};

/// The difference between a shape and an older text of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShapeChange {
    /// Only names of fields and variants differ, which the binary format does not write.
    Renamed(Vec<Rename>),
    /// Fields of the message were added or removed; the others are unchanged.
    Fields {
        /// The names of the added fields.
        added: Vec<String>,
        /// The removed fields.
        removed: Vec<Removal>,
    },
    /// Anything else.
    Other,
}

/// A field or variant with another name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Rename {
    /// The type that contains it, and the variant if it is a field of one; empty for a field of the
    /// message itself.
    pub place: String,
    /// The name in the older text.
    pub old: String,
    /// The name now.
    pub new: String,
}

/// A field that a message no longer has.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removal {
    /// The field's name.
    pub name: String,
    /// The current field that it stood before; `None` if it stood last.
    pub before: Option<String>,
}

/// Returns the difference between the texts of two shapes.
pub(super) fn change(old: &str, new: &str) -> ShapeChange {
    renames(old, new)
        .map(ShapeChange::Renamed)
        .or_else(|| fields(old, new))
        .unwrap_or(ShapeChange::Other)
}

/// The meaning of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word<'t> {
    /// The name of a field or variant, in its place.
    Name { place: String, name: &'t str },
    /// A type that the text defines, by the number of its definition.
    Type(usize),
    /// A type that the text does not define, or punctuation.
    Other(&'t str),
}

/// Returns the renamed fields and variants if nothing else differs.
fn renames(old: &str, new: &str) -> Option<Vec<Rename>> {
    let (old, new) = (words(old), words(new));
    if old.len() != new.len() {
        return None;
    }
    let mut renames = BTreeSet::new();
    for pair in old.into_iter().zip(new) {
        match pair {
            (Word::Name { name: old, .. }, Word::Name { place, name: new }) if old != new => {
                renames.insert(Rename { place, old: unquoted(old), new: unquoted(new) });
            }
            (Word::Name { .. }, Word::Name { .. }) => {}
            (old, new) if old == new => {}
            _ => return None,
        }
    }
    // A name that is both old and new has moved: the fields or variants were reordered.
    let moved =
        |one: &Rename| renames.iter().any(|other| other.place == one.place && other.old == one.new);
    let is_reordered = renames.iter().any(moved);
    (!is_reordered && !renames.is_empty()).then(|| renames.into_iter().collect())
}

/// Splits a text into words and punctuation.
fn words(text: &str) -> Vec<Word<'_>> {
    let types: BTreeMap<&str, usize> = text
        .lines()
        .skip(1)
        .enumerate()
        .filter_map(|(i, line)| Some((tokens(line).next()?, i)))
        .collect();
    let mut words = Vec::new();
    for (i, line) in text.lines().enumerate() {
        line_words(line, i == 0, &types, &mut words);
        words.push(Word::Other("\n"));
    }
    words
}

fn line_words<'t>(
    line: &'t str,
    is_root: bool,
    types: &BTreeMap<&str, usize>,
    words: &mut Vec<Word<'t>>,
) {
    let tokens: Vec<&str> = tokens(line).collect();
    let owner = if is_root { "" } else { tokens.first().copied().unwrap_or_default() };
    // Whether the line lists variants, and the variant whose fields are being read.
    let (mut is_enum, mut variant, mut depth) = (is_root && tokens.contains(&"|"), "", 0_u32);
    for (i, &token) in tokens.iter().enumerate() {
        let before = i.checked_sub(1).map(|i| tokens[i]);
        let is_variant = is_enum && depth == 0 && matches!(before, None | Some("|" | "="));
        is_enum |= token == "=" && i == 1;
        match token {
            "{" | "(" | "[" | "<" => depth += 1,
            "}" | ")" | "]" | ">" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if is_variant {
            variant = token;
            words.push(Word::Name { place: owner.to_owned(), name: token });
        } else if tokens.get(i + 1) == Some(&":") {
            let place = match (owner, variant) {
                (owner, "") => owner.to_owned(),
                ("", variant) => variant.to_owned(),
                (owner, variant) => format!("{owner}::{variant}"),
            };
            words.push(Word::Name { place, name: token });
        } else {
            words.push(types.get(token).map_or(Word::Other(token), |number| Word::Type(*number)));
        }
    }
}

/// Splits a line into names, quoted names and single characters of punctuation.
fn tokens(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line.trim_start();
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let end = if first == '"' {
            let mut escaped = false;
            let close = rest[1..].find(|c| {
                let closes = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                closes
            });
            close.map_or(rest.len(), |close| close + 2)
        } else {
            let punctuation = |c: char| " ()[]{},:?<>;|=".contains(c);
            match rest.find(punctuation) {
                Some(0) => first.len_utf8(),
                Some(end) => end,
                None => rest.len(),
            }
        };
        let (token, tail) = rest.split_at(end);
        rest = tail.trim_start();
        Some(token)
    })
}

/// Returns a name as its type declares it.
fn unquoted(name: &str) -> String {
    let inner = name.strip_prefix('"').and_then(|name| name.strip_suffix('"'));
    inner.map_or_else(|| name.to_owned(), |name| name.replace("\\\"", "\"").replace("\\\\", "\\"))
}

/// Returns the added and removed fields of the message if nothing else differs.
fn fields(old: &str, new: &str) -> Option<ShapeChange> {
    let (old_fields, old_types) = parts(old)?;
    let (new_fields, new_types) = parts(new)?;
    if new_types.iter().any(|(name, new)| old_types.get(name).is_some_and(|old| old != new)) {
        return None;
    }
    let kept = old_fields.iter().filter(|field| new_fields.contains(field));
    if !kept.eq(new_fields.iter().filter(|field| old_fields.contains(field))) {
        return None;
    }
    let added = new_fields.iter().filter(|field| !old_fields.contains(field));
    let added: Vec<_> = added.map(|(name, _)| unquoted(name)).collect();
    let mut removed = Vec::new();
    for (i, field) in old_fields.iter().enumerate() {
        if !new_fields.contains(field) {
            let before = old_fields[i..].iter().find(|next| new_fields.contains(next));
            let before = before.map(|(name, _)| unquoted(name));
            removed.push(Removal { name: unquoted(field.0), before });
        }
    }
    // A field with another type is neither added nor removed.
    let retyped = removed.iter().any(|removed| added.contains(&removed.name));
    (!retyped).then_some(ShapeChange::Fields { added, removed })
}

/// The fields of a message with their types, and the definitions by name.
type Parts<'a> = (Vec<(&'a str, String)>, BTreeMap<&'a str, &'a str>);

fn parts(text: &str) -> Option<Parts<'_>> {
    let mut lines = text.lines();
    let root: Vec<&str> = tokens(lines.next()?).collect();
    let ["{", inner @ .., "}"] = root.as_slice() else { return None };
    let types = lines.filter_map(|line| Some((tokens(line).next()?, line))).collect();
    let mut fields = Vec::<(&str, String)>::new();
    let mut depth = 0_u32;
    for (i, &token) in inner.iter().enumerate() {
        match token {
            "(" | "[" | "<" => depth += 1,
            ")" | "]" | ">" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if inner.get(i + 1) == Some(&":") {
            fields.push((token, String::new()));
        } else if let Some((_, ty)) = fields.last_mut() {
            if token != ":" && !(token == "," && depth == 0) {
                ty.push_str(token);
            }
        }
    }
    Some((fields, types))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rename(place: &str, old: &str, new: &str) -> Rename {
        Rename { place: place.into(), old: old.into(), new: new.into() }
    }

    #[test]
    fn names_that_changed_alone_are_renames() {
        let old = "{ plan: Plan, note: str? }\nPlan = Basic | Team { seats: u32 }";
        let golden = [
            (
                "{ plan: Plan, note: str? }\nPlan = Starter | Team { seats: u32 }",
                vec![rename("Plan", "Basic", "Starter")],
            ),
            (
                "{ plan: Tier, remark: str? }\nTier = Basic | Team { places: u32 }",
                vec![rename("", "note", "remark"), rename("Tier::Team", "seats", "places")],
            ),
            (
                "{ plan: Plan, note: str? }\nPlan = \"a \\\"b\" | Team { seats: u32 }",
                vec![rename("Plan", "Basic", "a \"b")],
            ),
        ];
        for (new, renames) in golden {
            assert_eq!(change(old, new), ShapeChange::Renamed(renames), "{new}");
        }
        let enums = change("Red | Green(u8)", "Rot | Green(u8)");
        assert_eq!(enums, ShapeChange::Renamed(vec![rename("", "Red", "Rot")]));
    }

    #[test]
    fn names_that_moved_are_not() {
        let others = [
            ("{ net: u64, gross: u64 }", "{ gross: u64, net: u64 }"),
            ("{ a: u64, b: u64 }", "{ b: u64, c: u64 }"),
            ("[Color]\nColor = Red | Green", "[Color]\nColor = Green | Red"),
            ("{ a: u64 }", "{ b: u32 }"),
            ("{ a: A }\nA { x: u8 }", "{ a: A }\nA { x: u8, y: u8 }"),
            ("u8", "u16"),
        ];
        for (old, new) in others {
            let change = change(old, new);
            assert!(!matches!(change, ShapeChange::Renamed(_)), "{old} {new} {change:?}");
        }
    }

    #[test]
    fn fields_more_or_less_are_found() {
        let golden = [
            ("{}", "{ a: u8 }", vec!["a"], vec![]),
            ("{ a: u8 }", "{}", vec![], vec![("a", None)]),
            (
                "{ a: [A]?, m: map<u8, A>, z: (u8, A) }\nA = X | Y",
                "{ a: [A]?, b: B, z: (u8, A), c: A }\nA = X | Y\nB(u8)",
                vec!["b", "c"],
                vec![("m", Some("z"))],
            ),
        ];
        for (old, new, added, removed) in golden {
            let added = added.into_iter().map(str::to_owned).collect();
            let removal = |(name, before): (&str, Option<&str>)| Removal {
                name: name.to_owned(),
                before: before.map(str::to_owned),
            };
            let removed = removed.into_iter().map(removal).collect();
            assert_eq!(change(old, new), ShapeChange::Fields { added, removed }, "{new}");
        }
        for (old, new) in [
            ("{ a: u8, b: u8 }", "{ a: u16, b: u8, c: u8 }"),
            ("{ a: u8, b: u8 }", "{ b: u8, a: u8, c: u8 }"),
            ("{ a: A }\nA { x: u8 }", "{ a: A, b: u8 }\nA { x: u16 }"),
            ("u8", "{ 0: u8, 1: u8 }"),
        ] {
            assert_eq!(change(old, new), ShapeChange::Other, "{new}");
        }
    }
}
