//! `POST /{id}/{command}`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest as _, FromRequestParts as _, Request};
use composable_rust_core::Aggregate;
use composable_rust_core::message::MessageKind;

use super::access::Action;
use super::body;
use super::builder::Exposed;
use crate::extract::instance_id::InstanceId;
use crate::{Problem, RequestContext, Sent};

/// Sends the command of this kind.
pub(crate) async fn post<A: Aggregate>(
    api: Arc<Exposed<A>>,
    kind: &'static MessageKind,
    request: Request,
) -> Result<Sent, Problem> {
    let (mut parts, body) = request.into_parts();
    let InstanceId(id) = InstanceId::<A>::from_request_parts(&mut parts, &()).await?;
    let action = Action::Command(kind.name);
    // First: a client without permission learns nothing of the content, and costs no decoding.
    api.authorization.check(&parts, &id, action).await?;
    let mut ctx = RequestContext::from_request_parts(&mut parts, &()).await?;
    if api.requires_key {
        ctx = ctx.require_key()?;
    }
    let request = Request::from_parts(parts.clone(), body);
    let bytes = Bytes::from_request(request, &()).await?;
    let command: A::Command = body::decode(kind, &api.schemas, &parts.headers, &bytes)?;
    api.authorization.check_command(&parts, &id, action, &command).await?;
    ctx.send(&api.app, &id, command).await
}
