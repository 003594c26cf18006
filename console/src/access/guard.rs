//! The guard before all pages.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};

use crate::access::identity::Denied;
use crate::context::{Shared, base_of};
use crate::failure::Failure;
use crate::url::encoded;

/// Admits requests of known users, and tells the handlers who they are.
pub(crate) async fn guard(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    match shared.access.identify(&shared.secret(), &parts) {
        Ok(identity) => {
            parts.extensions.insert(identity);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(denied) => refuse(&shared, denied, &parts),
    }
}

fn refuse(shared: &Shared, denied: Denied, parts: &Parts) -> Response {
    if denied == Denied::NotLoopback {
        let reason = "This console has no authentication and therefore serves its own machine \
                      only, without a proxy. Configure a token or a trusted header.";
        return Failure::new(StatusCode::FORBIDDEN, "Not from here", reason).into_response();
    }
    let accepts = parts.headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let is_page = accepts.is_some_and(|accept| accept.contains("text/html"));
    if parts.method == Method::GET && is_page && !shared.access.tokens.is_empty() {
        let inner = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let login = format!("{}/login?then={}", base_of(parts), encoded(inner));
        return Redirect::to(&login).into_response();
    }
    let reason = "Send `Authorization: Bearer TOKEN`, or log in.";
    let failure = Failure::new(StatusCode::UNAUTHORIZED, "Who are you?", reason);
    let mut response = failure.into_response();
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}
