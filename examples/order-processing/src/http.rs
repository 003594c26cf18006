//! The HTTP API.

mod routes;

use std::time::Duration;

use anyhow::Context as _;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Router, http::HeaderName};
use composable_rust::axum::{OpenApi, User, aggregate, serve as serve_http, with_problems};
use composable_rust::{App, SqlReadModel, StoreUrl, shutdown_signal};
use composable_rust_admin::{Admin, Operator};
use composable_rust_console::{Console, Payloads};
use tokio::net::TcpListener;

use crate::Order;
use crate::app::open_with_read_model;
use crate::output::print_line;

/// The time limit at shutdown for requests in progress, and then for the work that follows from
/// them.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// The header with the user's name. A public server would use an access token instead.
const USER: HeaderName = HeaderName::from_static("x-user");

/// Returns all routes: those of the service, and the operators' console.
fn router(app: &App, model: Option<SqlReadModel>) -> anyhow::Result<Router> {
    Ok(Router::new().nest("/console", console(app)?).merge(service(app, model)))
}

/// Returns the operators' console, for users of this machine. A public server would demand a token.
fn console(app: &App) -> anyhow::Result<Router> {
    let admin = Admin::new(app, Operator::named("console"));
    let console = Console::new(admin).loopback_only().allow_changes().payloads(Payloads::Shown);
    Ok(console.router()?)
}

fn service(app: &App, model: Option<SqlReadModel>) -> Router {
    let orders = aggregate::<Order>(app)
        .public()
        .commands(["order.ship", "order.cancel"])
        .state_with(routes::view)
        .history()
        .events();
    let document = OpenApi::new("Orders", "1.0").aggregate("/orders", &orders);
    let mut router = Router::new()
        .route("/orders", post(routes::place))
        .route("/report", get(routes::report))
        .route("/health", get(routes::health))
        .with_state(app.clone())
        .route("/openapi.json", document.route())
        .nest("/orders", orders.router());
    if let Some(model) = model {
        let orders = get(routes::customer_orders).with_state((app.clone(), model));
        router = router.route("/customers/{customer}/orders", orders);
    }
    with_problems(router).layer(from_fn(user))
}

/// Reads the user from the header.
async fn user(mut request: Request, next: Next) -> Response {
    if let Some(Ok(user)) = request.headers().get(USER).map(|name| name.to_str()) {
        let user = User(user.to_owned());
        request.extensions_mut().insert(user);
    }
    next.run(request).await
}

/// Serves requests at `addr` until a shutdown signal arrives.
pub(crate) async fn serve(store: &StoreUrl, addr: &str) -> anyhow::Result<()> {
    let (app, model) = open_with_read_model(store).await?;
    let listener = TcpListener::bind(addr).await;
    let listener = listener
        .with_context(|| format!("cannot listen at {addr}; choose another address with --addr"))?;
    print_line(&format!("listening at http://{}", listener.local_addr()?))?;
    if !serve_http(&app, listener, router(&app, model)?, shutdown_signal(), SHUTDOWN_GRACE).await? {
        anyhow::bail!("shutdown timed out with commands in progress; check their orders");
    }
    print_line("stopped")
}
