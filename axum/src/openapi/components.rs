//! The schemas of a document's components, and their names.

use std::collections::{BTreeMap, BTreeSet};

use composable_rust_core::schema::JsonSchemas;
use serde_json::{Value, json};

/// The path of a part's own schemas, before they have their names in the document.
const LOCAL: &str = "#/local/";

/// An aggregate's part of a document: its paths, and the schemas of its types and rejections by the
/// names that these have in the part.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    aggregate: &'static str,
    schemas: BTreeMap<String, Value>,
    paths: Value,
}

impl Part {
    /// Creates a part without paths.
    pub(super) fn new(aggregate: &'static str, types: &JsonSchemas) -> Self {
        let schemas = types.definitions().iter();
        let schemas = schemas.map(|(name, schema)| (name.clone(), local(schema.clone()))).collect();
        Self { aggregate, schemas, paths: json!({}) }
    }

    /// Adds a schema that is made from traced ones and from those of every document.
    pub(super) fn define(&mut self, name: &str, schema: Value) {
        self.schemas.insert(component(name), schema);
    }

    /// Returns the operations of a path.
    pub(super) fn path(&mut self, path: &str) -> &mut Value {
        &mut self.paths[path]
    }
}

/// Returns a traced schema with references into the part.
pub(super) fn local(schema: Value) -> Value {
    map_references(schema, &|reference| {
        let name = reference.strip_prefix(JsonSchemas::REFERENCE)?;
        Some(format!("{LOCAL}{name}"))
    })
}

/// Returns a reference to a schema of the part.
pub(super) fn local_reference(name: &str) -> Value {
    json!({ "$ref": format!("{LOCAL}{}", component(name)) })
}

/// Adds parts to a document. A schema has its name in the part unless another one has it too: then
/// each has the name of its aggregate before its own, whichever was added first.
pub(super) fn add_parts(document: &mut Value, parts: &[Part]) {
    let names = names(parts, &document["components"]["schemas"]);
    for (part, names) in parts.iter().zip(&names) {
        let global = |schema: &Value| {
            map_references(schema.clone(), &|reference| {
                let name = names.get(reference.strip_prefix(LOCAL)?)?;
                Some(format!("{}{name}", JsonSchemas::REFERENCE))
            })
        };
        for (name, schema) in &part.schemas {
            document["components"]["schemas"][&names[name.as_str()]] = global(schema);
        }
        super::merge(&mut document["paths"], global(&part.paths));
    }
}

/// Returns the names in the document of the schemas of each part.
fn names<'p>(parts: &'p [Part], own: &Value) -> Vec<BTreeMap<&'p str, String>> {
    let ambiguous = ambiguous(parts, own);
    let all = parts.iter().flat_map(|part| part.schemas.keys());
    let mut used: BTreeSet<String> =
        all.filter(|name| !ambiguous.contains(name.as_str())).cloned().collect();
    let mut found: Vec<BTreeMap<&str, String>> = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        let is_same =
            |other: &Part| (other.aggregate, &other.schemas) == (part.aggregate, &part.schemas);
        if let Some(same) = parts[..i].iter().position(is_same) {
            found.push(found[same].clone());
            continue;
        }
        let mut names = BTreeMap::new();
        for name in part.schemas.keys() {
            let name_in_document = if ambiguous.contains(name.as_str()) {
                unused(&mut used, &component(&format!("{}.{name}", part.aggregate)))
            } else {
                name.clone()
            };
            names.insert(name.as_str(), name_in_document);
        }
        found.push(names);
    }
    found
}

/// Returns the names that stand for different schemas, among them those of every document (`own`).
fn ambiguous<'p>(parts: &'p [Part], own: &Value) -> BTreeSet<&'p str> {
    let mut by_name = BTreeMap::<&str, Vec<&Value>>::new();
    for (name, schema) in parts.iter().flat_map(|part| &part.schemas) {
        by_name.entry(name).or_default().push(schema);
    }
    let mut found: BTreeSet<_> = by_name
        .iter()
        .filter(|(name, schemas)| {
            own.get(**name).is_some() || schemas.iter().any(|schema| *schema != schemas[0])
        })
        .map(|(name, _)| *name)
        .collect();
    by_name.retain(|_, schemas| schemas.len() > 1);
    // Equal schemas differ if they refer to different ones.
    loop {
        let refers = |schemas: &[&Value]| schemas.iter().any(|schema| refers_to(schema, &found));
        let more = by_name.iter().filter(|(name, _)| !found.contains(*name));
        let more: Vec<_> = more.filter(|(_, of)| refers(of)).map(|(name, _)| *name).collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// `true` if a schema refers to one of these.
fn refers_to(schema: &Value, names: &BTreeSet<&str>) -> bool {
    match schema {
        Value::Object(fields) => fields.iter().any(|(field, value)| match value {
            Value::String(reference) if field == "$ref" => {
                reference.strip_prefix(LOCAL).is_some_and(|name| names.contains(name))
            }
            value => refers_to(value, names),
        }),
        Value::Array(items) => items.iter().any(|item| refers_to(item, names)),
        _ => false,
    }
}

/// Replaces the references for which `change` returns another one.
fn map_references(mut schema: Value, change: &dyn Fn(&str) -> Option<String>) -> Value {
    fn walk(value: &mut Value, change: &dyn Fn(&str) -> Option<String>) {
        match value {
            Value::Object(fields) => {
                for (field, value) in fields {
                    match value {
                        Value::String(reference) if field == "$ref" => {
                            if let Some(changed) = change(reference) {
                                *reference = changed;
                            }
                        }
                        value => walk(value, change),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| walk(item, change)),
            _ => {}
        }
    }
    walk(&mut schema, change);
    schema
}

/// Returns the name, with a number if it is used, and marks it as used.
fn unused(used: &mut BTreeSet<String>, name: &str) -> String {
    let numbered = (2_u64..).map(|number| format!("{name}{number}"));
    let mut candidates = std::iter::once(name.to_owned()).chain(numbered);
    let free = candidates.find(|candidate| !used.contains(candidate)).unwrap_or_default();
    used.insert(free.clone());
    free
}

/// Returns a stored name as the name of a component.
fn component(name: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    name.chars().map(allowed).collect()
}
