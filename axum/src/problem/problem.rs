//! Problem details.

use std::borrow::Cow;
use std::fmt;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

/// The media type of problem details.
pub(crate) const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// The members that RFC 9457 defines, and `code`.
pub(crate) const RESERVED: [&str; 6] = ["type", "title", "status", "detail", "instance", "code"];

/// An error response: problem details of RFC 9457, with the media type `application/problem+json`.
///
/// `code` is an extension member: the stable name of the error, for programs. For a rejection, it
/// is the stored name of its variant, and the variant's fields are further members. The `type` is
/// `about:blank` unless [`map_problems`](crate::map_problems) gives each code a page of its own; as
/// RFC 9457 asks, the `title` is then the phrase of the status.
///
/// # Example: an error of the program's own
///
/// ```
/// use axum::http::StatusCode;
/// use composable_rust_axum::Problem;
///
/// let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "quota_exceeded")
///     .with_detail("the quota of 100 orders a day is used up")
///     .with_member("quota", 100)
///     .retry_after(3600);
/// assert_eq!(problem.to_json()["quota"], 100);
/// ```
#[derive(Clone, PartialEq)]
pub struct Problem(Box<Parts>);

#[derive(Clone, PartialEq)]
struct Parts {
    status: StatusCode,
    code: Cow<'static, str>,
    kind: Option<String>,
    title: Option<String>,
    detail: Option<String>,
    /// The first sentence of the documentation of a rejection.
    summary: &'static str,
    members: Map<String, Value>,
    headers: HeaderMap,
}

impl Problem {
    /// Creates a problem with a status and a stable code.
    pub fn new(status: StatusCode, code: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Parts {
            status,
            code: code.into(),
            kind: None,
            title: None,
            detail: None,
            summary: "",
            members: Map::new(),
            headers: HeaderMap::new(),
        }))
    }

    /// Sets the `type`: a URI, best of a page that explains the error.
    #[must_use]
    pub fn with_type(mut self, uri: impl Into<String>) -> Self {
        self.0.kind = Some(uri.into());
        self
    }

    /// Sets the `title`: a summary that is the same for all problems of a type.
    #[must_use]
    pub fn with_title(mut self, title: impl Into<String>) -> Self {
        self.0.title = Some(title.into());
        self
    }

    /// Sets the `detail`: an explanation of this occurrence, for people.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Adds an extension member. Has no effect on the members that RFC 9457 defines and `code`.
    #[must_use]
    pub fn with_member(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        let name = name.into();
        if !RESERVED.contains(&name.as_str()) {
            self.0.members.insert(name, value.into());
        }
        self
    }

    /// Adds a header to the response.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    /// Sets the `Retry-After` header: the number of seconds after which the request may succeed.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        self.with_header(RETRY_AFTER, seconds.into())
    }

    pub(crate) fn with_summary(mut self, summary: &'static str) -> Self {
        self.0.summary = summary;
        self
    }

    /// Returns the status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Returns the stable code.
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// Returns the explanation of this occurrence.
    pub fn detail(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }

    /// Returns the first paragraph of the documentation of the rejection, in one line; empty if the
    /// problem is none or has no documentation. A `title` for those who set a `type`.
    pub fn summary(&self) -> &'static str {
        self.0.summary
    }

    /// Returns the problem details as a JSON object.
    pub fn to_json(&self) -> Value {
        let Parts { status, code, kind, title, detail, members, .. } = &*self.0;
        let mut object = Map::new();
        let kind = kind.as_deref().unwrap_or("about:blank");
        object.insert("type".to_owned(), kind.into());
        let phrase = status.canonical_reason().unwrap_or("Error");
        object.insert(
            "title".to_owned(),
            title.as_deref().filter(|title| !title.is_empty()).unwrap_or(phrase).into(),
        );
        object.insert("status".to_owned(), status.as_u16().into());
        if let Some(detail) = detail {
            object.insert("detail".to_owned(), detail.as_str().into());
        }
        object.insert("code".to_owned(), code.as_ref().into());
        object.extend(members.clone());
        Value::Object(object)
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Problem").field(&self.to_json()).finish()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0.status, self.0.code)?;
        match &self.0.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.to_json().to_string()));
        *response.status_mut() = self.0.status;
        response.headers_mut().extend(self.0.headers.clone());
        response.headers_mut().insert(CONTENT_TYPE, PROBLEM_JSON);
        // For `map_problems`.
        response.extensions_mut().insert(self);
        response
    }
}
