//! A store with something of everything, a console over it, and requests.

use std::net::SocketAddr;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::header::{CONTENT_TYPE, COOKIE, HOST, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, Method, Request};
use composable_rust_admin::{Admin, DeadLetterFilter, Operator};
use composable_rust_console::{Console, Payloads};
use composable_rust_core::prelude::*;
use composable_rust_core::queue::OutboxKind;
use composable_rust_runtime::App;
use composable_rust_testing::InMemoryEventStore;
use tower::ServiceExt as _;

use crate::app::{Order, OrderCommand, Stock};

pub(crate) const TOKEN: &str = "ann's token is secret";
pub(crate) const READER: &str = "bob's token is secret";
pub(crate) const WRITER: &str = "eve's token is secret";
/// A script that must never run, and appears in ids, contents and errors.
pub(crate) const SCRIPT: &str = "<script>alert(1)</script>";

/// Returns the operations of an app without workers: an order has told the stock twice, and the
/// first message is a dead letter.
pub(crate) async fn admin() -> Admin {
    admin_with(SCRIPT).await
}

/// The same with another text in ids, contents and errors.
pub(crate) async fn admin_with(text: &str) -> Admin {
    let app = App::builder(InMemoryEventStore::new()).aggregate::<Order>(()).aggregate::<Stock>(());
    let app = app.build().unwrap();
    for id in ["17", text] {
        let place = OrderCommand::Place { note: format!("for Zoe {text}") };
        app.handle(&Order::id(id)).send(place).by("zoe").await.unwrap();
    }
    let admin = Admin::new(&app, Operator::named("console"));
    let waiting = admin.waiting(OutboxKind::Dispatch, "stock", 10).await.unwrap();
    let first = waiting.iter().find(|of| of.message.sender.as_str() == "order-17").unwrap();
    let carl = admin.on_behalf_of(Operator::named("carl").because(text));
    carl.park(first.message.id).await.unwrap();
    admin
}

pub(crate) fn console(admin: &Admin) -> Console {
    Console::new(admin.clone()).token("ann", TOKEN).token("eve", WRITER).reader_token("bob", READER)
}

/// A console at `/ops` that may change and shows contents.
pub(crate) async fn open() -> (Router, Admin) {
    let admin = admin().await;
    let console = console(&admin).allow_changes().payloads(Payloads::Shown);
    (nested(console), admin)
}

pub(crate) fn nested(console: Console) -> Router {
    Router::new().nest("/ops", console.router().unwrap())
}

/// Returns the number of dead letters about which no decision was made.
pub(crate) async fn undecided(admin: &Admin) -> usize {
    let all = admin.dead_letters(&DeadLetterFilter::default(), 100).await.unwrap();
    all.entries.iter().filter(|letter| letter.decision.is_none()).count()
}

/// Returns the key of the only group of dead letters.
pub(crate) async fn group(admin: &Admin) -> String {
    let groups = admin.dead_letter_groups(&DeadLetterFilter::default()).await.unwrap();
    groups.entries.into_iter().next().unwrap().key
}

/// A response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn location(&self) -> &str {
        self.header(LOCATION.as_str())
    }

    /// Returns the value of a hidden field of the page's first form that has it.
    pub(crate) fn field(&self, name: &str) -> String {
        let start = format!("name=\"{name}\" value=\"");
        let (_, rest) = self.text.split_once(&start).unwrap_or_else(|| panic!("{}", self.text));
        rest.split('"').next().unwrap().to_owned()
    }

    pub(crate) fn cookie(&self) -> String {
        self.header(SET_COOKIE.as_str()).split(';').next().unwrap().to_owned()
    }
}

/// A request under construction.
pub(crate) struct Ask {
    request: axum::http::request::Builder,
    body: String,
}

/// Returns a request of any method.
pub(crate) fn ask(method: &str, path: &str) -> Ask {
    Ask::new(method.parse().unwrap(), path)
}

pub(crate) fn get(path: &str) -> Ask {
    Ask::new(Method::GET, path)
}

pub(crate) fn post(path: &str, fields: &[(&str, &str)]) -> Ask {
    let fields: Vec<_> =
        fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    let mut ask = Ask::new(Method::POST, path);
    ask.body = fields.join("&");
    ask.header(CONTENT_TYPE.as_str(), "application/x-www-form-urlencoded")
}

pub(crate) fn encoded(text: &str) -> String {
    use std::fmt::Write as _;

    text.bytes().fold(String::new(), |mut encoded, byte| {
        write!(encoded, "%{byte:02X}").unwrap();
        encoded
    })
}

impl Ask {
    fn new(method: Method, path: &str) -> Self {
        let request = Request::builder().method(method).uri(path).header(HOST, "console.example");
        Self { request, body: String::new() }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    /// Replaces a header.
    pub(crate) fn replaced(mut self, name: &'static str, value: &str) -> Self {
        self.request.headers_mut().unwrap().insert(name, value.parse().unwrap());
        self
    }

    pub(crate) fn host(self, host: &str) -> Self {
        self.replaced("host", host)
    }

    pub(crate) fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn cookie(self, cookie: &str) -> Self {
        self.header(COOKIE.as_str(), cookie)
    }

    pub(crate) fn own(self) -> Self {
        self.header("sec-fetch-site", "same-origin")
    }

    pub(crate) fn from(mut self, peer: &str) -> Self {
        let peer: SocketAddr = peer.parse().unwrap();
        self.request = self.request.extension(ConnectInfo(peer));
        self
    }

    pub(crate) async fn of(self, router: &Router) -> Reply {
        let request = self.request.body(Body::from(self.body)).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Reply { status: parts.status.as_u16(), headers: parts.headers, text }
    }
}

/// Logs Ann in, and returns her cookie.
pub(crate) async fn log_in(router: &Router) -> String {
    let reply = post("/ops/login", &[("token", TOKEN)]).own().of(router).await;
    assert_eq!((reply.status, reply.location()), (303, "/ops"));
    reply.cookie()
}
