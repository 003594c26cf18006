//! Logging in and out.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use maud::html;

use crate::access::{origin, session};
use crate::action::read;
use crate::context::{Shared, base_of};
use crate::failure::Failure;
use crate::layout;
use crate::url::is_own_path;

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/login", get(form).post(log_in)).route("/logout", post(log_out))
}

async fn form(request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    let then = query.split('&').find_map(|part| part.strip_prefix("then=")).unwrap_or_default();
    shown(StatusCode::OK, &base_of(&parts), then, "")
}

/// Returns the page with the form. `then` is percent-encoded.
fn shown(status: StatusCode, base: &str, then: &str, error: &str) -> Response {
    let to = format!("{base}/login?then={then}");
    let body = html! {
        main {
            form.login method="post" action=(to) {
                h1 { "Console" }
                @if !error.is_empty() { p.failure role="alert" { (error) } }
                label { "Token" input type="password" name="token" required autofocus autocomplete="current-password"; }
                button type="submit" { "Log in" }
            }
        }
    };
    (status, Html(layout::document(base, "Log in", &body).into_string())).into_response()
}

async fn log_in(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if !origin::is_own(&parts) {
        return Failure::new(
            StatusCode::FORBIDDEN,
            "Forbidden",
            "Another site has sent this form.",
        )
        .into_response();
    }
    let base = base_of(&parts);
    let form = match read(Request::from_parts(parts.clone(), body)).await {
        Ok(form) => form,
        Err(failure) => return failure.into_response(),
    };
    let secret = shared.secret();
    let identity = shared.access.by_token(&secret, form.field("token"));
    let query = parts.uri.query().unwrap_or_default();
    let then = query.split('&').find_map(|part| part.strip_prefix("then=")).unwrap_or_default();
    let Some(name) = identity.and_then(|identity| identity.name) else {
        tracing::warn!("a login to the console with a wrong token was rejected");
        return shown(StatusCode::UNAUTHORIZED, &base, then, "This is not a token.");
    };
    let cookie = session::begin(&shared.access, &secret, &name, (&base, &parts));
    with_cookie(Redirect::to(&target(&base, then)), cookie)
}

async fn log_out(request: Request) -> Response {
    let (parts, _) = request.into_parts();
    if !origin::is_own(&parts) {
        return Failure::new(
            StatusCode::FORBIDDEN,
            "Forbidden",
            "Another site has sent this form.",
        )
        .into_response();
    }
    let base = base_of(&parts);
    with_cookie(Redirect::to(&format!("{base}/login")), session::end(&base))
}

fn with_cookie(redirect: Redirect, cookie: Option<HeaderValue>) -> Response {
    let mut response = redirect.into_response();
    response.headers_mut().extend(cookie.map(|cookie| (SET_COOKIE, cookie)));
    response
}

/// Returns the page of the console that was asked for before the login. Anything that is not a path
/// of it leads to the overview.
fn target(base: &str, then: &str) -> String {
    let path = decoded(then).unwrap_or_default();
    let whole = format!("{base}{}", if is_own_path(&path) { &path } else { "/" });
    let whole = if base.is_empty() { &*whole } else { whole.trim_end_matches('/') };
    whole.to_owned()
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        (rest, _) = match byte {
            b'%' => {
                let digits = std::str::from_utf8(after.get(..2)?).ok()?;
                (&after[2..], bytes.push(u8::from_str_radix(digits, 16).ok()?))
            }
            other => (after, bytes.push(*other)),
        };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_to_pages_of_the_console_only() {
        assert_eq!(
            target("/console", "%2Fstreams%3Fprefix%3Dorder"),
            "/console/streams?prefix=order"
        );
        assert_eq!(target("", ""), "/");
        assert_eq!(target("/console", ""), "/console");
        for evil in [
            "%2F%2Fevil.example",
            "https%3A%2F%2Fevil.example",
            "%2F%5Cevil.example",
            "%2F%0D%0A",
            "%2F%09%2Fevil.example",
        ] {
            assert_eq!(target("", evil), "/", "{evil}");
        }
    }
}
