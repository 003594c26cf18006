//! Entity tags: the version of a stream.

use axum::http::header::{IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use composable_rust_core::Version;

use super::single::{invalid, single};
use crate::Problem;

/// Returns the `ETag` of a state: the version of its stream in quotation marks.
pub(crate) fn entity_tag(version: Version) -> HeaderValue {
    let tag = format!("\"{version}\"");
    HeaderValue::try_from(tag).unwrap_or_else(|_| unreachable!("digits in quotation marks"))
}

/// The precondition of a request that changes a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Precondition {
    #[default]
    None,
    /// `If-Match` with an entity tag.
    At(Version),
    /// `If-Match: *`.
    Exists,
    /// `If-None-Match: *`.
    Absent,
    /// `If-Match` with a tag that is no version.
    Never,
}

impl Precondition {
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        if let Some(field) = single(headers, &IF_MATCH)? {
            return match field.as_str() {
                "*" => Ok(Self::Exists),
                tags if tags.contains(',') => Err(invalid(&IF_MATCH, "has more than one tag")),
                tag => Ok(parse(tag).map_or(Self::Never, Self::At)),
            };
        }
        match single(headers, &IF_NONE_MATCH)?.as_deref() {
            Some("*") => Ok(Self::Absent),
            Some(_) => Err(invalid(&IF_NONE_MATCH, "can only be * for a command")),
            None => Ok(Self::None),
        }
    }

    /// Returns the problem of a precondition that does not hold.
    pub(crate) fn failed() -> Problem {
        Problem::new(StatusCode::PRECONDITION_FAILED, "precondition_failed")
    }
}

/// Returns `true` if `If-None-Match` names the version, so that the client's copy is current.
pub(crate) fn is_current(headers: &HeaderMap, version: Version) -> bool {
    let fields = headers.get_all(IF_NONE_MATCH).iter().filter_map(|field| field.to_str().ok());
    let mut tags = fields.flat_map(|field| field.split(',')).map(str::trim);
    // For a read, weak tags count too.
    tags.any(|tag| tag == "*" || parse(tag.strip_prefix("W/").unwrap_or(tag)) == Some(version))
}

/// Parses a strong entity tag that is a version.
fn parse(tag: &str) -> Option<Version> {
    let digits = tag.strip_prefix('"')?.strip_suffix('"')?;
    // `u64::from_str` takes a sign.
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number).map(Version::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_a_version() {
        assert_eq!(parse("\"3\""), Some(Version::new(3)));
        for tag in ["3", "W/\"3\"", "\"+3\"", "\"\"", "\"x\"", "\"", ""] {
            assert_eq!(parse(tag), None, "{tag}");
        }
        assert_eq!(entity_tag(Version::new(3)), "\"3\"");
    }

    #[test]
    fn preconditions() {
        let read = |name: axum::http::HeaderName, value: &str| {
            let value = HeaderValue::try_from(value).unwrap();
            Precondition::read(&HeaderMap::from_iter([(name, value)])).map_err(|p| p.status())
        };
        assert_eq!(read(IF_MATCH, "\"3\""), Ok(Precondition::At(Version::new(3))));
        assert_eq!(read(IF_MATCH, "*"), Ok(Precondition::Exists));
        assert_eq!(read(IF_MATCH, "W/\"3\""), Ok(Precondition::Never));
        assert_eq!(read(IF_MATCH, "\"3\", \"4\""), Err(StatusCode::BAD_REQUEST));
        assert_eq!(read(IF_NONE_MATCH, "*"), Ok(Precondition::Absent));
        assert_eq!(read(IF_NONE_MATCH, "\"3\""), Err(StatusCode::BAD_REQUEST));
    }
}
