//! Apps, requests and responses.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderName, Method};
use axum::middleware::{Next, from_fn};
use composable_rust_axum::{User, aggregate, with_problems};
use composable_rust_runtime::App;
use composable_rust_testing::InMemoryEventStore;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::order::{Gate, Order};

/// An app with open gates.
pub(crate) fn app() -> App {
    let gate = Gate::default();
    gate.open();
    app_with(Arc::new(gate))
}

pub(crate) fn app_with(gate: Arc<Gate>) -> App {
    App::builder(InMemoryEventStore::new()).aggregate::<Order>(gate).build().unwrap()
}

/// All handlers, for users that the header `x-user` names.
pub(crate) fn api(app: &App) -> Router {
    let orders = aggregate::<Order>(app).public().all_commands().state().history().events();
    with_user(with_problems(Router::new().nest("/orders", orders.router())))
}

pub(crate) fn with_user(router: Router) -> Router {
    router.layer(from_fn(async |mut request: Request, next: Next| {
        if let Some(user) = request.headers().get("x-user") {
            let user = User(user.to_str().unwrap().to_owned());
            request.extensions_mut().insert(user);
        }
        next.run(request).await
    }))
}

/// A response.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl PartialEq for Reply {
    fn eq(&self, other: &Self) -> bool {
        (self.status, &self.text) == (other.status, &other.text)
    }
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// Asserts the status, and returns the body.
    #[track_caller]
    pub(crate) fn ok(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.headers.get(LOCATION).is_some(), status == 201);
        self.json()
    }

    /// Asserts that the response is a problem with this status, and returns its code.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.headers[CONTENT_TYPE], "application/problem+json");
        let body = self.json();
        assert_eq!(body["status"], status);
        assert!(body["type"].is_string() && body["title"].is_string());
        body["code"].as_str().unwrap().to_owned()
    }
}

/// Sends a request, with a body in JSON if there is one.
pub(crate) async fn send(
    router: &Router,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&str>,
) -> Reply {
    let mut request = Request::builder().method(method).uri(path);
    if body.is_some() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    for (name, value) in headers {
        let name: HeaderName = name.parse().unwrap();
        request.headers_mut().unwrap().remove(&name);
        request = request.header(name, *value);
    }
    let request = request.body(Body::from(body.unwrap_or_default().to_owned())).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let text = to_bytes(body, usize::MAX).await.unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    Reply { status: parts.status.as_u16(), headers: parts.headers, text }
}

pub(crate) async fn get(router: &Router, path: &str) -> Reply {
    send(router, Method::GET, path, &[], None).await
}

pub(crate) async fn post(router: &Router, path: &str, body: &str) -> Reply {
    send(router, Method::POST, path, &[], Some(body)).await
}

pub(crate) async fn post_with(
    router: &Router,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Reply {
    send(router, Method::POST, path, headers, Some(body)).await
}
