//! Changes that forms ask for.

use std::future::Future;
use std::sync::Arc;

use axum::RequestExt as _;
use axum::extract::{FromRequestParts as _, Request, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum::routing::{MethodRouter, post};
use maud::{Markup, html};

use crate::access::identity::Proof;
use crate::access::origin;
use crate::context::{Context, Shared};
use crate::failure::Failure;
use crate::form::{CODE, CONFIRMED, Form, hidden};
use crate::page::{Page, failed};
use crate::{layout, notice};

/// The result of a form.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The change was made.
    Done {
        /// A description of the change.
        notice: String,
        /// The path of the console that shows the result.
        to: String,
    },
    /// The change destroys something: ask first.
    Ask {
        /// The question.
        question: String,
        /// The label of the button.
        label: &'static str,
        /// The change, as it would be.
        detail: Markup,
        /// Fields of the confirmation besides those of the form.
        fields: Vec<(&'static str, String)>,
    },
}

impl Outcome {
    pub(crate) fn done(notice: impl Into<String>, to: impl Into<String>) -> Self {
        Self::Done { notice: notice.into(), to: to.into() }
    }

    pub(crate) fn ask(question: impl Into<String>, label: &'static str) -> Self {
        let (question, fields) = (question.into(), Vec::new());
        Self::Ask { question, label, detail: html! {}, fields }
    }
}

/// Returns the handler of a form. It makes the change if the console allows it, the user may, and
/// the request comes from the console's own page.
pub(crate) fn action<F, R>(act: F) -> MethodRouter<Arc<Shared>>
where
    F: Fn(Context, Form) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Outcome, Failure>> + Send + 'static,
{
    post(move |State(shared): State<Arc<Shared>>, request: Request| {
        respond(shared, request, act.clone())
    })
}

async fn respond<F, R>(shared: Arc<Shared>, request: Request, act: F) -> Response
where
    F: Fn(Context, Form) -> R,
    R: Future<Output = Result<Outcome, Failure>>,
{
    let (mut parts, body) = request.into_parts();
    let context = match Context::from_request_parts(&mut parts, &shared).await {
        Ok(context) => context,
        Err(failure) => return failure.into_response(),
    };
    let form = match admit(&context, Request::from_parts(parts, body)).await {
        Ok(form) => form,
        Err(failure) => return failed(&context, &failure),
    };
    match act(context.clone(), form.clone()).await {
        Ok(Outcome::Done { notice, to }) => {
            Redirect::to(&context.link(&notice::added(&context, &to, &notice))).into_response()
        }
        Ok(Outcome::Ask { question, label, detail, fields }) => {
            let mut form = form;
            form.0.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
            ask(&context, &form, question, (label, &detail))
        }
        Err(failure) => failed(&context, &failure),
    }
}

/// Reads the form, if the user may send it.
async fn admit(context: &Context, request: Request) -> Result<Form, Failure> {
    let forbidden = |detail: &str| Failure::new(StatusCode::FORBIDDEN, "Forbidden", detail);
    if !context.shared.allows_changes {
        return Err(forbidden("This console is read-only."));
    }
    if !context.identity.may_change {
        return Err(forbidden("Your token may only read."));
    }
    let (parts, body) = request.into_parts();
    let is_bearer = context.identity.proof == Proof::Bearer;
    if !is_bearer && !origin::is_own(&parts) {
        return Err(forbidden("Another site has sent this form."));
    }
    let form = read(Request::from_parts(parts, body)).await?;
    if !is_bearer && !context.is_form_code(form.field(CODE)) {
        return Err(forbidden("The form is not from this console, or too old: load it again."));
    }
    Ok(form)
}

/// Reads a form.
pub(crate) async fn read(request: Request) -> Result<Form, Failure> {
    let fields = request.extract::<axum::Form<Vec<(String, String)>>, _>().await;
    let axum::Form(fields) = fields.map_err(|rejection| {
        Failure::new(rejection.status(), "Invalid request", rejection.body_text())
    })?;
    Ok(Form(fields.into_iter().collect()))
}

/// Returns the page that asks for a confirmation.
fn ask(
    context: &Context,
    form: &Form,
    question: String,
    (label, detail): (&str, &Markup),
) -> Response {
    let kept = |name: &str| name != CODE && name != CONFIRMED && name != "reason";
    let mut fields: Vec<(&str, &str)> = form
        .0
        .iter()
        .filter(|(name, _)| kept(name))
        .map(|(name, value)| (&**name, &**value))
        .collect();
    fields.push((CONFIRMED, "yes"));
    let body = html! {
        (detail)
        form.ask method="post" action=(context.link(&context.path)) {
            (hidden(context, &fields))
            label { "Reason " input name="reason" value=(form.reason()) autofocus; }
            button.danger type="submit" { (label) }
            " " a href=(context.link(&form.then("/"))) { "Cancel" }
        }
    };
    let page = Page::new(question, "", body).still();
    Html(layout::whole(context, &page).into_string()).into_response()
}
