//! The style sheet, the script and the icon, which are part of the program.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use crate::context::Shared;
use crate::live::digest;

const CSS: &str = include_str!("../assets/console.css");
const JS: &str = include_str!("../assets/console.js");
const ICON: &str = include_str!("../assets/icon.svg");

/// The digest of all assets, which is part of their paths, so that browsers may keep them.
static VERSION: LazyLock<String> = LazyLock::new(|| digest(&[CSS, JS, ICON].concat()));

/// Returns a link to an asset.
pub(crate) fn link(base: &str, name: &str) -> String {
    format!("{base}/assets/{}/{name}", *VERSION)
}

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/assets/{version}/{name}", get(asset))
}

async fn asset(Path((_, name)): Path<(String, String)>) -> Response {
    let (kind, content) = match &*name {
        "console.css" => ("text/css; charset=utf-8", CSS),
        "console.js" => ("text/javascript; charset=utf-8", JS),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let kept = "public, max-age=31536000, immutable";
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, kept)], content).into_response()
}
