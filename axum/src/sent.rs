//! The response to a command.

use axum::Json;
use axum::http::header::{ETAG, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use composable_rust_core::{Position, Receipt, Version};
use serde_json::json;

use crate::headers::entity_tag::entity_tag;
use crate::headers::names::COMPOSABLE_POSITION;
use crate::path_segment;

/// The response to a command: `{"id": "17", "version": 3, "position": "0:42"}`, with the version as
/// `ETag` and the position as `Composable-Position`. `position` is `null` if the command changed
/// nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The id of the instance.
    pub id: String,
    /// The version of the stream.
    pub version: Version,
    /// The position of the last event that the command caused; `None` if it caused none.
    pub position: Option<Position>,
    location: Option<String>,
}

impl Sent {
    pub(crate) fn new(id: &str, Receipt { version, position }: Receipt) -> Self {
        Self { id: id.to_owned(), version, position, location: None }
    }

    /// Makes the response `201 Created` if the command caused events. Its `Location` is `path`, a
    /// slash and the id.
    #[must_use]
    pub fn created(self, path: &str) -> Self {
        let location = format!("{path}/{}", path_segment::encode(&self.id));
        Self { location: Some(location), ..self }
    }
}

impl IntoResponse for Sent {
    fn into_response(self) -> Response {
        let Self { id, version, position, location } = self;
        let text = position.map(|position| position.to_string());
        let body = json!({ "id": id, "version": version, "position": &text });
        let mut response = Json(body).into_response();
        let headers = response.headers_mut();
        headers.insert(ETAG, entity_tag(version));
        let Some(Ok(position)) = text.map(HeaderValue::try_from) else { return response };
        headers.insert(COMPOSABLE_POSITION, position);
        if let Some(location) = location {
            if let Ok(location) = HeaderValue::try_from(location) {
                headers.insert(LOCATION, location);
            }
            *response.status_mut() = StatusCode::CREATED;
        }
        response
    }
}
