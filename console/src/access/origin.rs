//! The site that made a browser send a request.

use axum::http::HeaderMap;
use axum::http::header::ORIGIN;
use axum::http::request::Parts;

use crate::access::identity::host;

/// The header in which browsers tell the relation of the two sites.
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Returns `true` if the console's own pages made a browser send the request. A request without
/// `Sec-Fetch-Site` and `Origin`, one of which every browser sends with a form, is not.
pub(crate) fn is_own(parts: &Parts) -> bool {
    match text(&parts.headers, SEC_FETCH_SITE) {
        Some(site) => site == "same-origin",
        None => is_own_origin(parts),
    }
}

/// Returns `true` if the `Origin` is the host of the request.
fn is_own_origin(parts: &Parts) -> bool {
    let origin = text(&parts.headers, ORIGIN.as_str()).and_then(|origin| origin.split_once("://"));
    let Some((_, of_origin)) = origin else { return false };
    let own = [text(&parts.headers, "x-forwarded-host"), host(parts)];
    own.into_iter().flatten().any(|host| host.eq_ignore_ascii_case(of_origin))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
