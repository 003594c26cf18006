//! The reasons for which a value that cannot be stored cannot be stored.

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::format::{Body, Format};
use super::search::Traced;
use super::{SchemaTracer, formats, sample};
use crate::Message;
use crate::codec;

/// Returns the reason why `message`, which could not be encoded in `format` or was not read back,
/// cannot be stored, with the path of the field at fault. `None` if the shape does not tell.
///
/// The text holds names of fields and types and nothing of the content.
pub fn diagnose<M: Message>(message: &M, format: codec::Format) -> Option<String> {
    let mut tracer = SchemaTracer::new();
    M::trace(&mut tracer);
    let kind = message.kind();
    // While an older version is written, its content is that of the version.
    let shape = match tracer.shapes.get(&(Cow::Borrowed(kind.name), kind.version))? {
        Ok(shape) => shape,
        Err(untraceable) => {
            return untraceable.is_unstorable().then(|| untraceable.reason.text.clone());
        }
    };
    let json = message.encode(codec::Format::Json).ok();
    shape.reason(format, json.and_then(|json| serde_json::from_slice(&json).ok()))
}

/// As [`diagnose`], for a value without a stable name, such as a state.
pub fn diagnose_value<T: Serialize + DeserializeOwned>(
    value: &T,
    format: codec::Format,
) -> Option<String> {
    match formats::<T>("", &sample::Samples::default()) {
        Ok(traced) => traced.reason(format, serde_json::to_value(value).ok()),
        Err(untraceable) => untraceable.is_unstorable().then(|| untraceable.reason.text.clone()),
    }
}

impl Traced {
    fn reason(&self, format: codec::Format, json: Option<Value>) -> Option<String> {
        match format {
            codec::Format::Binary => {
                let path = self.left_out(&self.root, &json?)?;
                Some(format!(
                    "`{path}` is left out by `skip_serializing_if`; the binary format marks no \
                     missing field, so what follows would be read in its place: remove the \
                     attribute"
                ))
            }
            codec::Format::Json => {
                let path = self.key_that_is_no_text(&self.root, &mut Vec::new())?;
                Some(format!(
                    "`{path}` is a map whose keys are neither texts nor numbers, which JSON cannot \
                     write: make it a list of pairs"
                ))
            }
        }
    }

    /// Returns the path of the first field that `json` lacks. The hidden structs of the derive
    /// leave out none in the binary format.
    fn left_out(&self, format: &Format, json: &Value) -> Option<String> {
        match (format, json) {
            (Format::Named(key), json) => {
                self.left_out_of(self.types.get(key)?, json, key.1.starts_with("__"))
            }
            (Format::Option(inner), json) => self.left_out(inner, json),
            (Format::Seq(item), Value::Array(items)) => {
                items.iter().find_map(|json| self.left_out(item, json))
            }
            (Format::Map(_, value), Value::Object(entries)) => {
                entries.values().find_map(|json| self.left_out(value, json))
            }
            (Format::Tuple(formats), Value::Array(items)) => {
                let mut pairs = formats.iter().zip(items);
                pairs.find_map(|(format, json)| self.left_out(format, json))
            }
            _ => None,
        }
    }

    fn left_out_of(&self, body: &Body, json: &Value, is_hidden: bool) -> Option<String> {
        match (body, json) {
            (Body::Newtype(format), json) => self.left_out(format, json),
            (Body::Tuple(formats), Value::Array(items)) => {
                let mut pairs = formats.iter().zip(items);
                pairs.find_map(|(format, json)| self.left_out(format, json))
            }
            (Body::Struct(fields), Value::Object(object)) => {
                fields.named().find_map(|(name, format)| {
                    let name = name?;
                    match object.get(name) {
                        Some(json) => {
                            let rest = self.left_out(format, json)?;
                            Some(format!("{name}.{rest}"))
                        }
                        None => (!is_hidden).then(|| name.to_owned()),
                    }
                })
            }
            (Body::Enum(variants), Value::Object(object)) => {
                let (name, json) = object.iter().next()?;
                let index = variants.names.iter().position(|known| *known == name.as_str())?;
                let body = variants.list.get(index)?.body.as_ref()?;
                let rest = self.left_out_of(body, json, false)?;
                Some(format!("{name}.{rest}"))
            }
            _ => None,
        }
    }

    /// Returns the path of the first map that JSON cannot write.
    fn key_that_is_no_text<'t>(
        &'t self,
        format: &'t Format,
        open: &mut Vec<&'t str>,
    ) -> Option<String> {
        match format {
            Format::Map(key, _) if !self.is_text_in_json(key) => Some(String::new()),
            Format::Option(inner) | Format::Seq(inner) | Format::Map(_, inner) => {
                self.key_that_is_no_text(inner, open)
            }
            Format::Tuple(items) => {
                items.iter().find_map(|item| self.key_that_is_no_text(item, open))
            }
            Format::Named(key) if open.contains(&key.0) => None,
            Format::Named(key) => {
                open.push(key.0);
                let found = self.types.get(key).and_then(|body| self.key_in(body, open));
                open.pop();
                found
            }
            Format::Unknown | Format::Primitive(_) | Format::Opaque(_) => None,
        }
    }

    fn key_in<'t>(&'t self, body: &'t Body, open: &mut Vec<&'t str>) -> Option<String> {
        let join = |name: &str, rest: String| {
            if rest.is_empty() { name.to_owned() } else { format!("{name}.{rest}") }
        };
        match body {
            Body::Unit => None,
            Body::Newtype(format) => self.key_that_is_no_text(format, open),
            Body::Tuple(items) => {
                items.iter().find_map(|item| self.key_that_is_no_text(item, open))
            }
            Body::Struct(fields) => fields.named().find_map(|(name, format)| {
                let rest = self.key_that_is_no_text(format, open)?;
                Some(join(name.unwrap_or("_"), rest))
            }),
            Body::Enum(variants) => {
                let mut named = variants.names.iter().zip(&variants.list);
                named.find_map(|(name, variant)| {
                    let rest = self.key_in(variant.body.as_ref()?, open)?;
                    Some(join(name, rest))
                })
            }
        }
    }

    fn is_text_in_json(&self, key: &Format) -> bool {
        match key {
            Format::Primitive(name) => !matches!(*name, "()" | "bytes"),
            Format::Named(key) => match self.types.get(key) {
                Some(Body::Newtype(inner)) => self.is_text_in_json(inner),
                Some(Body::Enum(variants)) => {
                    let is_unit = |body: &Option<Body>| matches!(body, Some(Body::Unit));
                    variants.list.iter().all(|variant| is_unit(&variant.body))
                }
                _ => false,
            },
            Format::Unknown | Format::Opaque(_) => true,
            Format::Option(_) | Format::Seq(_) | Format::Map(..) | Format::Tuple(_) => false,
        }
    }
}
