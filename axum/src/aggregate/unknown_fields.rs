//! Fields that a type does not have.

use composable_rust_core::schema::JsonSchemas;
use serde_json::Value;

/// Returns the JSON pointers of the fields that the schema does not have. Only fields are checked;
/// what else is wrong shows when the content is decoded.
pub(crate) fn unknown_fields(
    schema: Option<&Value>,
    schemas: &JsonSchemas,
    value: &Value,
) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(schema) = schema {
        Walk { schemas, found: &mut found }.value(schema, value, "");
    }
    found
}

struct Walk<'w> {
    schemas: &'w JsonSchemas,
    found: &'w mut Vec<String>,
}

impl Walk<'_> {
    fn value(&mut self, schema: &Value, value: &Value, at: &str) {
        if let Some(reference) = schema["$ref"].as_str() {
            let name = reference.strip_prefix(JsonSchemas::REFERENCE).unwrap_or(reference);
            // Every level of the value ends in a step into it, so recursive types end too.
            if let Some(definition) = self.schemas.definitions().get(name) {
                self.value(definition, value, at);
            }
            return;
        }
        for choice in [&schema["anyOf"], &schema["oneOf"]] {
            let schemas = choice.as_array().map_or(&[][..], Vec::as_slice);
            if let Some(schema) = schemas.iter().find(|schema| fits(schema, value)) {
                self.value(schema, value, at);
            }
        }
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let at = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
                    if let Some(schema) = schema["properties"].get(name) {
                        self.value(schema, value, &at);
                    } else if schema["additionalProperties"] == Value::Bool(false) {
                        self.found.push(at);
                    } else {
                        self.value(&schema["additionalProperties"], value, &at);
                    }
                }
            }
            Value::Array(items) => {
                for (i, value) in items.iter().enumerate() {
                    let schema = schema["prefixItems"].get(i).unwrap_or(&schema["items"]);
                    self.value(schema, value, &format!("{at}/{i}"));
                }
            }
            _ => {}
        }
    }
}

/// `true` if a value can be of this choice: an enum's variant has the name of its only
/// field, an option's content is anything but `null`.
fn fits(schema: &Value, value: &Value) -> bool {
    match (schema["required"].as_array(), schema.get("const")) {
        (_, Some(name)) => name == value,
        (Some(required), _) => {
            required.iter().all(|name| name.as_str().is_some_and(|name| value.get(name).is_some()))
        }
        _ => !value.is_null(),
    }
}
