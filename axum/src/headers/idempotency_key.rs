//! The `Idempotency-Key` header field.

use axum::http::{HeaderMap, StatusCode};

use super::names::IDEMPOTENCY_KEY;
use super::single::{invalid, single};
use crate::{Problem, User};

/// The maximum length of a key, in characters.
const MAX_KEY: usize = 255;

/// The content of an `Idempotency-Key` header field, as
/// [draft-ietf-httpapi-idempotency-key-header] defines it: a string of RFC 9651, so in quotation
/// marks: `Idempotency-Key: "8e03978e-40d5-43e8-bc93-6894a57f9324"`.
///
/// [draft-ietf-httpapi-idempotency-key-header]:
///     https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Reads the header field; `None` without it.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let Some(field) = single(headers, &IDEMPOTENCY_KEY)? else { return Ok(None) };
        match parse(&field) {
            Some(key) if key.is_empty() => Err(invalid(&IDEMPOTENCY_KEY, "is an empty key")),
            Some(key) if key.len() > MAX_KEY => {
                Err(invalid(&IDEMPOTENCY_KEY, "has more than 255 characters"))
            }
            Some(key) => Ok(Some(Self(key))),
            None => Err(invalid(
                &IDEMPOTENCY_KEY,
                "is not a string in quotation marks, such as \"8e03978e-40d5\"",
            )),
        }
    }

    /// Returns the problem of a request without the header field.
    pub(crate) fn missing() -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "missing_idempotency_key").with_detail(
            "the request needs an Idempotency-Key header: a unique key in quotation marks",
        )
    }

    /// Returns the key as the client sent it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the key by which the inbox recognises the request. Each user has keys of its own: a
    /// user who guesses another's key does not read the outcome of that request.
    pub(crate) fn scoped(&self, user: Option<&User>) -> String {
        match user {
            Some(User(user)) => format!("http {} {user} {}", user.len(), self.0),
            None => format!("http - {}", self.0),
        }
    }
}

/// Parses a string of structured field values; parameters after it are ignored.
fn parse(field: &str) -> Option<String> {
    let mut chars = field.strip_prefix('"')?.chars();
    let mut key = String::new();
    loop {
        match chars.next()? {
            '"' => break,
            '\\' => key.push(chars.next().filter(|c| matches!(c, '"' | '\\'))?),
            c @ ' '..='~' => key.push(c),
            _ => return None,
        }
    }
    let rest = chars.as_str();
    (rest.is_empty() || rest.starts_with(';')).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_string_of_structured_fields() {
        assert_eq!(parse(r#""a b""#).as_deref(), Some("a b"));
        assert_eq!(parse(r#""a\"\\b""#).as_deref(), Some(r#"a"\b"#));
        assert_eq!(parse(r#""a";expires=1"#).as_deref(), Some("a"));
        assert_eq!(parse(r#""""#).as_deref(), Some(""));
        for field in ["a", "'a'", r#""a"#, r#""a\n""#, r#""a" b"#, r#""a", "b""#, ""] {
            assert_eq!(parse(field), None, "{field}");
        }
    }

    #[test]
    fn users_have_keys_of_their_own() {
        let scoped = |user: Option<&str>, key: &str| {
            IdempotencyKey(key.to_owned()).scoped(user.map(|user| User(user.to_owned())).as_ref())
        };
        let all = [
            scoped(None, "k"),
            scoped(Some(""), "k"),
            scoped(Some("-"), "k"),
            scoped(Some("a"), "k"),
            scoped(Some("a k"), ""),
            scoped(Some("a"), "k "),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|other| one != other), "{one}");
        }
    }
}
