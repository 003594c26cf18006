//! Pages: from a function that renders one to a handler that also keeps it live.

use std::future::Future;
use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{MethodRouter, get};
use composable_rust_admin::shell_quoted;
use maud::{Markup, html};

use crate::context::{Context, Shared};
use crate::failure::Failure;
use crate::{layout, live};

/// A page.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) title: String,
    /// The equivalent command of the command line, without the name of the program.
    pub(crate) command: String,
    /// The content, which live updates replace.
    pub(crate) body: Markup,
    /// The part above it that is not replaced, such as a form.
    pub(crate) head: Markup,
    /// `true` if the page is kept up to date.
    pub(crate) is_live: bool,
}

impl Page {
    pub(crate) fn new(title: impl Into<String>, command: impl Into<String>, body: Markup) -> Self {
        let (title, command) = (title.into(), command.into());
        Self { title, command, body, head: html! {}, is_live: true }
    }

    pub(crate) fn with_head(mut self, head: Markup) -> Self {
        self.head = head;
        self
    }

    pub(crate) fn still(mut self) -> Self {
        self.is_live = false;
        self
    }
}

/// Returns a command that can be copied into a shell, whatever characters its words have.
pub(crate) fn command<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    let words: Vec<_> = words.into_iter().map(shell_quoted).collect();
    words.join(" ")
}

/// Returns the handler of a page. It answers a browser's request for events with the page's body,
/// each time that it changes.
pub(crate) fn page<F, R>(render: F) -> MethodRouter<Arc<Shared>>
where
    F: Fn(Context) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Page, Failure>> + Send + 'static,
{
    get(move |context: Context, headers: HeaderMap| respond(context, headers, render.clone()))
}

async fn respond<F, R>(context: Context, headers: HeaderMap, render: F) -> Response
where
    F: Fn(Context) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Page, Failure>> + Send + 'static,
{
    let accepts = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    if accepts.is_some_and(|accept| accept.contains("text/event-stream")) {
        return live::stream(context, render);
    }
    match render(context.clone()).await {
        Ok(page) => Html(layout::whole(&context, &page).into_string()).into_response(),
        Err(failure) => failed(&context, &failure),
    }
}

/// Returns the page of an error, with the console's navigation.
pub(crate) fn failed(context: &Context, failure: &Failure) -> Response {
    let body = html! { p.failure { (failure.detail) } };
    let page = Page::new(&failure.title, "", body).still();
    (failure.status, Html(layout::whole(context, &page).into_string())).into_response()
}
