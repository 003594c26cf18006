//! Header fields that occur once.

use axum::http::{HeaderMap, HeaderName, StatusCode};

use crate::Problem;

/// The maximum length of a header field that is read, in bytes.
const MAX_LENGTH: usize = 1_024;

/// Returns the value of a header field without spaces around it; `None` without the field.
///
/// # Errors
///
/// The field occurs twice, is too long, or is not visible ASCII.
pub(crate) fn single(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), rest) = (values.next(), values.next()) else { return Ok(None) };
    if rest.is_some() {
        return Err(invalid(name, "occurs more than once"));
    }
    if value.len() > MAX_LENGTH {
        return Err(invalid(name, &format!("has more than {MAX_LENGTH} bytes")));
    }
    match value.to_str() {
        Ok(text) => Ok(Some(text.trim_matches([' ', '\t']).to_owned())),
        Err(_) => Err(invalid(name, "is not visible ASCII")),
    }
}

/// Returns the problem of a header field; `fault` continues "the header X …".
pub(crate) fn invalid(name: &HeaderName, fault: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "invalid_header")
        .with_detail(format!("the header {name} {fault}"))
        .with_member("header", name.as_str())
}
