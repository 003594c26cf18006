//! Changing all problems of a router.

use axum::Router;
use axum::http::header::CONTENT_LENGTH;
use axum::middleware::map_response;
use axum::response::{IntoResponse as _, Response};

use crate::Problem;

/// Changes each [`Problem`] with which a route of `router` responds, for example its `type`, or its
/// `detail` to the language of the users.
///
/// # Example: a page for each code
///
/// ```
/// # use axum::Router;
/// use composable_rust_axum::map_problems;
///
/// # let router: Router = Router::new();
/// let router = map_problems(router, |problem| {
///     let page = format!("https://api.example.com/problems/{}", problem.code());
///     let title = problem.summary();
///     problem.with_type(page).with_title(title)
/// });
/// # let _: Router = router;
/// ```
pub fn map_problems<S>(
    router: Router<S>,
    change: impl Fn(Problem) -> Problem + Clone + Send + Sync + 'static,
) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    router.layer(map_response(move |mut response: Response| {
        let change = change.clone();
        async move {
            let Some(problem) = response.extensions_mut().remove::<Problem>() else {
                return response;
            };
            let mut changed = change(problem).into_response();
            // Headers that other layers have added, such as `Allow`, stay.
            for (name, value) in response.headers() {
                if *name != CONTENT_LENGTH && !changed.headers().contains_key(name) {
                    changed.headers_mut().append(name, value.clone());
                }
            }
            changed
        }
    }))
}
