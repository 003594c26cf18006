//! The body of a command.

use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use composable_rust_core::Message;
use composable_rust_core::codec::Format;
use composable_rust_core::message::MessageKind;
use composable_rust_core::schema::JsonSchemas;
use serde_json::Value;

use super::unknown_fields::unknown_fields;
use crate::Problem;

/// Decodes the body of a command. An empty body is the content of a command without fields.
pub(crate) fn decode<C: Message>(
    kind: &MessageKind,
    schemas: &JsonSchemas,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<C, Problem> {
    let body: &[u8] = if body.is_empty() { b"{}" } else { check_type(headers).map(|()| body)? };
    let value: Value = serde_json::from_slice(body).map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, "invalid_json").with_detail(error.to_string())
    })?;
    let invalid = || Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_body");
    let unknown = unknown_fields(schemas.content(kind.name, kind.version), schemas, &value);
    if !unknown.is_empty() {
        let detail = format!("unknown fields: {}", unknown.join(", "));
        return Err(invalid().with_detail(detail).with_member("unknown_fields", unknown));
    }
    C::decode(kind.name, kind.version, Format::Json, body).map_err(|error| {
        // The cause names the field.
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        invalid().with_detail(cause.unwrap_or_else(|| error.to_string()))
    })
}

fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let field = headers.get(CONTENT_TYPE).and_then(|field| field.to_str().ok()).unwrap_or("");
    let kind = field.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let is_json =
        kind == "application/json" || kind.starts_with("application/") && kind.ends_with("+json");
    if is_json {
        return Ok(());
    }
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type")
        .with_detail("the content must be JSON: Content-Type: application/json")
        .with_header(axum::http::header::ACCEPT, HeaderValue::from_static("application/json")))
}
