//! The user of a request.

/// The user of a request, as authentication has established it. A middleware inserts it into the
/// request's extensions; [`RequestContext`](crate::RequestContext) puts it into the metadata of
/// commands and gives each user idempotency keys of its own.
///
/// The log keeps the name permanently, so use a pseudonym.
///
/// # Example: a middleware that authenticates
///
/// ```
/// use axum::extract::Request;
/// use axum::http::{StatusCode, header::WWW_AUTHENTICATE};
/// use axum::middleware::Next;
/// use axum::response::Response;
/// use composable_rust_axum::{Problem, User};
///
/// # fn user_of(_: &Request) -> Option<String> { None }
/// async fn authenticate(mut request: Request, next: Next) -> Result<Response, Problem> {
///     let Some(user) = user_of(&request) else {
///         let problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated");
///         return Err(problem.with_header(WWW_AUTHENTICATE, "Bearer".parse().unwrap()));
///     };
///     request.extensions_mut().insert(User(user));
///     Ok(next.run(request).await)
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User(pub String);
