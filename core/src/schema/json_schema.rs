//! JSON Schemas of traced types.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::format::{Body, Fields, Format, Key, Variant, Variants};
use super::sample::Samples;
use super::search;
use crate::message::MessageKind;

/// The JSON Schemas (2020-12) of the contents of messages, for a document of an API.
///
/// A schema describes what `Deserialize` reads from JSON. Structs admit no other fields. All fields
/// but `Option`s count as required: a field with serde's `default` does too, because tracing cannot
/// see the attribute. What cannot be traced, or reads any JSON value, has the schema `{}`.
#[derive(Debug, Clone, Default)]
pub struct JsonSchemas {
    contents: BTreeMap<(&'static str, u16), Value>,
    definitions: BTreeMap<String, Value>,
    names: BTreeMap<Key, String>,
}

impl JsonSchemas {
    /// The path before the names of definitions: references are those of an `OpenAPI` document.
    pub const REFERENCE: &'static str = "#/components/schemas/";

    /// Returns the schema of a variant's content, by the variant's stored name and version.
    pub fn content(&self, name: &str, version: u16) -> Option<&Value> {
        let mut contents = self.contents.iter();
        contents.find_map(|(key, schema)| (*key == (name, version)).then_some(schema))
    }

    /// Returns the schemas that others refer to, by name.
    pub fn definitions(&self) -> &BTreeMap<String, Value> {
        &self.definitions
    }

    /// Traces the content of a variant.
    pub(super) fn add<T: DeserializeOwned>(&mut self, kind: &MessageKind, samples: &Samples) {
        let (root, types) = search::json::<T>(samples);
        let mut writer = Writer { schemas: self, types: &types };
        let schema = match &root {
            // The hidden structs of the derive have no name that readers know.
            Format::Named(key) if key.1.starts_with("__") => match types.get(key) {
                Some(body) => writer.body(body),
                None => json!({}),
            },
            root => writer.format(root),
        };
        self.contents.insert((kind.name, kind.version), schema);
    }
}

struct Writer<'w> {
    schemas: &'w mut JsonSchemas,
    types: &'w BTreeMap<Key, Body>,
}

impl Writer<'_> {
    fn format(&mut self, format: &Format) -> Value {
        match format {
            Format::Unknown => json!({}),
            Format::Primitive(name) => primitive(name),
            Format::Opaque(shown) => json!({ "description": shown }),
            Format::Option(content) => nullable(self.format(content)),
            Format::Seq(item) => json!({ "type": "array", "items": self.format(item) }),
            Format::Map(_, value) => {
                json!({ "type": "object", "additionalProperties": self.format(value) })
            }
            Format::Tuple(items) => self.tuple(items),
            Format::Named(key) => self.reference(*key),
        }
    }

    /// Returns a reference to a named type, which is defined if it is not yet.
    fn reference(&mut self, key: Key) -> Value {
        let Some(body) = self.types.get(&key) else { return json!({}) };
        let known = self.schemas.names.get(&key).cloned();
        let name = known.unwrap_or_else(|| {
            let name = self.schemas.new_name(key);
            // First, because the type may contain itself.
            self.schemas.definitions.insert(name.clone(), json!({}));
            let schema = self.body(body);
            self.schemas.definitions.insert(name.clone(), schema);
            name
        });
        json!({ "$ref": format!("{}{name}", JsonSchemas::REFERENCE) })
    }

    fn tuple(&mut self, items: &[Format]) -> Value {
        let count = items.len();
        let schemas: Vec<_> = items.iter().map(|item| self.format(item)).collect();
        json!({
            "type": "array", "prefixItems": schemas, "items": false,
            "minItems": count, "maxItems": count,
        })
    }

    fn body(&mut self, body: &Body) -> Value {
        match body {
            Body::Unit => json!({ "type": "null" }),
            Body::Newtype(content) => self.format(content),
            Body::Tuple(items) => self.tuple(items),
            Body::Struct(fields) => self.fields(fields),
            Body::Enum(variants) => self.variants(variants),
        }
    }

    fn fields(&mut self, fields: &Fields) -> Value {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for (name, format) in fields.named() {
            let Some(name) = name else { continue };
            if !matches!(format, Format::Option(_) | Format::Unknown) {
                required.push(name);
            }
            properties.insert(name.to_owned(), self.format(format));
        }
        // Aliases, and fields that were not read.
        for name in fields.names {
            properties.entry(*name).or_insert_with(|| json!({}));
        }
        let mut schema = json!({
            "type": "object", "properties": properties, "additionalProperties": false,
        });
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        schema
    }

    fn variants(&mut self, variants: &Variants) -> Value {
        if variants.names.len() != variants.list.len() {
            return json!({});
        }
        let named = || variants.names.iter().zip(&variants.list);
        let is_unit = |variant: &Variant| matches!(variant.body, Some(Body::Unit));
        if variants.list.iter().all(is_unit) {
            return json!({ "type": "string", "enum": variants.names });
        }
        let schemas: Vec<_> = named()
            .map(|(name, variant)| match &variant.body {
                Some(Body::Unit) => json!({ "const": name }),
                body => {
                    let content = body.as_ref().map_or_else(|| json!({}), |body| self.body(body));
                    json!({
                        "type": "object", "properties": { *name: content },
                        "required": [name], "additionalProperties": false,
                    })
                }
            })
            .collect();
        json!({ "oneOf": schemas })
    }
}

impl JsonSchemas {
    /// Returns a name for a type: its own, with a number if another type has it.
    fn new_name(&mut self, key: Key) -> String {
        let allowed =
            |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
        let own: String = key.1.chars().map(allowed).collect();
        let mut name = own.clone();
        let mut number = 2;
        while self.definitions.contains_key(&name) {
            name = format!("{own}{number}");
            number += 1;
        }
        self.names.insert(key, name.clone());
        name
    }
}

fn nullable(mut schema: Value) -> Value {
    let kind = schema.get("type").cloned();
    match kind {
        Some(kind @ Value::String(_)) => {
            schema["type"] = json!([kind, "null"]);
            schema
        }
        _ if schema == json!({}) => schema,
        _ => json!({ "anyOf": [schema, { "type": "null" }] }),
    }
}

/// Returns the schema of a primitive type, with a format of the `OpenAPI` registry if it has one.
fn primitive(name: &str) -> Value {
    match name {
        "bool" => json!({ "type": "boolean" }),
        "str" => json!({ "type": "string" }),
        "char" => json!({ "type": "string", "minLength": 1, "maxLength": 1 }),
        "f32" => json!({ "type": "number", "format": "float" }),
        "f64" => json!({ "type": "number", "format": "double" }),
        "()" => json!({ "type": "null" }),
        "bytes" => json!({ "type": "array", "items": primitive("u8") }),
        "i128" => json!({ "type": "integer" }),
        "u128" => json!({ "type": "integer", "minimum": 0 }),
        "u8" | "u16" | "u32" | "u64" => {
            let (format, bits) = (format!("uint{}", &name[1..]), name[1..].parse().unwrap_or(64));
            json!({
                "type": "integer", "format": format, "minimum": 0,
                "maximum": u64::MAX >> (64_u32 - bits),
            })
        }
        signed => json!({ "type": "integer", "format": format!("int{}", &signed[1..]) }),
    }
}
