//! Problem details.

use axum::Router;
use axum::http::StatusCode;
use composable_rust_axum::{Problem, map_problems};
use composable_rust_core::{InvalidId, Version};
use composable_rust_runtime::SendError;
use serde_json::json;

use crate::order::OrderRejection;
use crate::support::{api, app, get, post, send};

fn problem(error: SendError<OrderRejection>) -> (u16, serde_json::Value) {
    let problem = Problem::from(error);
    (problem.status().as_u16(), problem.to_json())
}

#[test]
fn a_rejection_has_its_status_its_fields_and_its_documentation() {
    let about = |status: u16, title: &str, code: &str, detail: &str| {
        json!({
            "type": "about:blank", "title": title, "status": status, "code": code,
            "detail": detail,
        })
    };
    let rejected = |rejection| problem(SendError::Rejected(rejection));
    let unknown = about(404, "Not Found", "order.unknown", "There is no such order.");
    assert_eq!(rejected(OrderRejection::Unknown), (404, unknown));
    let mut many = about(409, "Conflict", "order.too_many", "The order has too many units.");
    many["limit"] = json!(99);
    assert_eq!(rejected(OrderRejection::TooMany { limit: 99 }), (409, many));
    // A field with a name of RFC 9457 does not replace the member.
    let placed = OrderRejection::AlreadyPlaced { units: 2, status: "placed".to_owned() };
    let (status, body) = rejected(placed);
    assert_eq!((status, &body["status"]), (409, &json!(409)));
    assert_eq!(body["rejection"], json!({ "units": 2, "status": "placed" }));
    let (_, body) = rejected(OrderRejection::AlreadyShipped(2));
    assert_eq!((&body["rejection"], body.get("detail")), (&json!(2), None));
}

#[test]
fn a_rejection_with_display_is_told_by_it() {
    #[derive(Debug, Clone, PartialEq, composable_rust_core::Message, thiserror::Error)]
    enum TellingRejection {
        /// Documented.
        #[error("only {left} are left")]
        TooMany { left: u32 },
    }
    let error = SendError::Rejected(TellingRejection::TooMany { left: 2 });
    let problem = Problem::from(error);
    assert_eq!(problem.detail(), Some("only 2 are left"));
    assert_eq!(problem.summary(), "Documented.");
}

#[test]
fn each_error_has_a_status() {
    let status = |error| problem(error).0;
    let (expected, actual) = (Version::new(1), Version::new(2));
    assert_eq!(status(SendError::UnexpectedVersion { expected, actual }), 409);
    assert_eq!(status(SendError::KeyReused), 422);
    assert_eq!(status(SendError::InProgress), 409);
    assert_eq!(status(SendError::DeadlinePassed), 504);
    assert_eq!(status(SendError::ShuttingDown), 503);
    assert_eq!(status(SendError::Closed), 410);
    assert_eq!(status(SendError::Internal("order.timed_out")), 403);
    assert_eq!(status(SendError::Unstorable("too large".to_owned())), 422);
    assert_eq!(
        Problem::from("".parse::<composable_rust_core::Id<()>>().unwrap_err()).status(),
        400
    );
    let _: fn(InvalidId) -> Problem = Problem::from;
}

#[tokio::test]
async fn the_text_of_an_internal_error_stays_inside() {
    let router = api(&app());
    let reply = post(&router, "/orders/1/panic", r#"{"secret":"abc"}"#).await;
    assert_eq!(reply.problem(500), "panicked");
    assert!(!reply.text.contains("abc"), "{reply:?}");
    let closing = app();
    closing.shutdown(std::time::Duration::from_secs(5)).await;
    let reply = post(&api(&closing), "/orders/1/ship", "{}").await;
    assert_eq!(reply.problem(503), "shutting_down");
    assert_eq!(reply.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn paths_and_methods_that_do_not_exist_are_problems() {
    let router = api(&app());
    assert_eq!(get(&router, "/nothing").await.problem(404), "no_such_path");
    let reply = get(&router, "/orders/1/ship").await;
    assert_eq!(reply.problem(405), "no_such_method");
    assert_eq!(reply.header("allow"), Some("POST"));
    assert_eq!(post(&router, "/orders/1", "{}").await.problem(405), "no_such_method");
}

#[tokio::test]
async fn problems_can_be_changed() {
    let router = map_problems(api(&app()), |problem| {
        let page = format!("https://api.example.com/problems/{}", problem.code());
        let title = problem.summary();
        problem.with_type(page).with_title(title)
    });
    let reply = post(&router, "/orders/1/ship", "").await;
    assert_eq!(reply.problem(404), "order.unknown");
    let body = reply.json();
    assert_eq!(body["type"], "https://api.example.com/problems/order.unknown");
    assert_eq!(body["title"], "There is no such order.");
    let reply = get(&router, "/orders/1/ship").await;
    assert_eq!(reply.json()["title"], "Method Not Allowed");
    assert_eq!(reply.header("allow"), Some("POST"));
}

#[tokio::test]
async fn a_program_has_problems_of_its_own() {
    let quota = || async {
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "quota")
            .with_member("quota", 100)
            .with_member("status", 200)
            .retry_after(60)
    };
    let router = Router::new().route("/", axum::routing::get(quota));
    let reply = send(&router, axum::http::Method::GET, "/", &[], None).await;
    assert_eq!(reply.problem(429), "quota");
    assert_eq!((reply.header("retry-after"), &reply.json()["quota"]), (Some("60"), &json!(100)));
}
