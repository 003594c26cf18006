//! Sessions of browsers: a sealed cookie, so that any process of the service recognises it.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::header::COOKIE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use composable_rust_core::store::LogSecret;

use crate::access::identity::{Identity, Proof, host, is_loopback_name};
use crate::access::policy::{AccessPolicy, Token};
use crate::access::seal::{is_sealed, seal};

/// The name of the cookie.
const NAME: &str = "composable_console";
/// The purpose of the cookie's code.
const PURPOSE: &str = "console/session";
/// The time-to-live of a session in seconds: a working day.
const TTL: u64 = 12 * 3_600;

/// Returns the user of the session whose cookie a request carries.
pub(crate) fn identify(
    policy: &AccessPolicy,
    secret: &LogSecret,
    headers: &HeaderMap,
) -> Option<Identity> {
    let value = cookie(headers)?;
    let (claims, code) = value.rsplit_once('.')?;
    let (number, expires) = claims.split_once('.')?;
    let token = policy.tokens.get(number.parse::<usize>().ok()?)?;
    let is_valid = is_sealed(secret, PURPOSE, &parts(token, claims), code);
    if !is_valid || expires.parse::<u64>().ok()? <= now() {
        return None;
    }
    Some(Identity {
        name: Some(token.name.clone()),
        may_change: token.may_change,
        proof: Proof::Session(value.to_owned()),
    })
}

/// Returns the header that begins the session of a token's holder.
pub(crate) fn begin(
    policy: &AccessPolicy,
    secret: &LogSecret,
    name: &str,
    (base, request): (&str, &Parts),
) -> Option<HeaderValue> {
    let (number, token) = policy.tokens.iter().enumerate().find(|(_, of)| of.name == name)?;
    let claims = format!("{number}.{}", now() + TTL);
    let code = seal(secret, PURPOSE, &parts(token, &claims));
    let is_secure = !policy.plain_http && !host(request).is_some_and(is_loopback_name);
    set_cookie(&format!("{claims}.{code}"), base, TTL, is_secure)
}

/// Returns the header that ends a session.
pub(crate) fn end(base: &str) -> Option<HeaderValue> {
    set_cookie("", base, 0, false)
}

/// Returns what the code of a session depends on: a changed token ends its sessions.
fn parts<'a>(token: &'a Token, claims: &'a str) -> [&'a [u8]; 3] {
    [token.name.as_bytes(), token.secret.as_bytes(), claims.as_bytes()]
}

fn set_cookie(value: &str, base: &str, max_age: u64, is_secure: bool) -> Option<HeaderValue> {
    let path = if base.is_empty() { "/" } else { base };
    let secure = if is_secure { "; Secure" } else { "" };
    let text = format!(
        "{NAME}={value}; Path={path}; Max-Age={max_age}; HttpOnly; SameSite=Strict{secure}"
    );
    HeaderValue::from_str(&text).ok()
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut cookies = all.flat_map(|text| text.split(';'));
    cookies.find_map(|cookie| cookie.trim().strip_prefix(NAME)?.strip_prefix('='))
}

/// Returns the seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
