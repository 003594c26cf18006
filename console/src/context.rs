//! The part of a request that handlers use.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{FromRequestParts, OriginalUri, Path, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use composable_rust_admin::{Admin, Operator, SchemaScan};
use composable_rust_axum::Stopping;
use composable_rust_core::StreamId;
use composable_rust_core::store::LogSecret;
use tokio::sync::Semaphore;

use crate::access::identity::{Identity, Proof};
use crate::access::policy::AccessPolicy;
use crate::access::seal::{is_sealed, seal};
use crate::access::session::now;
use crate::background::Operations;
use crate::failure::Failure;
use crate::live::MAX_STREAMS;
use crate::parts::samples::Samples;
use crate::{Payloads, url};

/// The purpose of the codes in forms.
const FORM: &str = "console/form";
/// The seconds for which the codes in forms are the same; each is accepted for up to twice as long.
const FORM_PERIOD: u64 = 12 * 3_600;

/// The parts that all requests share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) admin: Admin,
    /// The operations of other services, for workflows.
    pub(crate) others: Vec<Admin>,
    pub(crate) access: AccessPolicy,
    pub(crate) allows_changes: bool,
    pub(crate) payloads: Payloads,
    /// The long operations that users have begun.
    pub(crate) operations: Operations,
    /// A permit for each live page.
    pub(crate) streams: Arc<Semaphore>,
    /// The measurements that the overview plots.
    pub(crate) samples: Samples,
    /// The kinds of the log's events that are known so far.
    pub(crate) schema: tokio::sync::Mutex<SchemaScan>,
}

impl Shared {
    pub(crate) fn new(
        (admin, others): (Admin, Vec<Admin>),
        access: AccessPolicy,
        allows_changes: bool,
        payloads: Payloads,
    ) -> Self {
        let streams = Arc::new(Semaphore::new(MAX_STREAMS));
        Self {
            admin,
            others,
            access,
            allows_changes,
            payloads,
            operations: Operations::default(),
            streams,
            samples: Samples::default(),
            schema: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn secret(&self) -> LogSecret {
        self.admin.app().log().secret
    }
}

/// A request of a known user. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) identity: Arc<Identity>,
    /// The path at which the console is mounted, without a slash at its end.
    pub(crate) base: Arc<str>,
    /// The path below it.
    pub(crate) path: Arc<str>,
    /// Tells when the server stops.
    pub(crate) stopping: Stopping,
    params: Arc<BTreeMap<String, String>>,
    query: Arc<BTreeMap<String, String>>,
}

impl FromRequestParts<Arc<Shared>> for Context {
    type Rejection = Failure;

    async fn from_request_parts(
        parts: &mut Parts,
        shared: &Arc<Shared>,
    ) -> Result<Self, Self::Rejection> {
        let identity = parts.extensions.get::<Identity>().cloned().ok_or_else(|| {
            Failure::new(StatusCode::UNAUTHORIZED, "Who are you?", "The request has no user.")
        })?;
        let params = Path::<BTreeMap<String, String>>::from_request_parts(parts, shared).await;
        let query = Query::<Vec<(String, String)>>::from_request_parts(parts, shared).await;
        Ok(Self {
            shared: Arc::clone(shared),
            identity: Arc::new(identity),
            base: base_of(parts).into(),
            path: parts.uri.path().into(),
            stopping: parts.extensions.get::<Stopping>().cloned().unwrap_or_default(),
            params: Arc::new(params.map(|Path(params)| params).unwrap_or_default()),
            query: Arc::new(
                query.map(|Query(query)| query).unwrap_or_default().into_iter().collect(),
            ),
        })
    }
}

/// Returns the path at which the console is mounted, without a slash at its end.
pub(crate) fn base_of(parts: &Parts) -> String {
    let whole = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |original| &original.0);
    let (whole, inner) = (whole.path(), parts.uri.path());
    whole.strip_suffix(inner).unwrap_or(whole).trim_end_matches('/').to_owned()
}

impl Context {
    /// Returns the operations, which read only.
    pub(crate) fn admin(&self) -> &Admin {
        &self.shared.admin
    }

    /// Returns the operations on behalf of the user.
    pub(crate) fn admin_because(&self, reason: &str) -> Admin {
        let reason = reason.trim();
        let operator = match &self.identity.name {
            Some(name) => Operator::named(name),
            None => self.shared.admin.operator().clone(),
        };
        let is_given = !reason.is_empty();
        self.shared.admin.on_behalf_of(if is_given { operator.because(reason) } else { operator })
    }

    /// Returns the name of the user.
    pub(crate) fn user(&self) -> &str {
        self.identity.name.as_deref().unwrap_or(&self.shared.admin.operator().name)
    }

    /// Returns `true` if the user may make changes.
    pub(crate) fn may_change(&self) -> bool {
        self.shared.allows_changes && self.identity.may_change
    }

    /// Returns a link to a path of the console.
    pub(crate) fn link(&self, path: &str) -> String {
        if path == "/" && !self.base.is_empty() {
            return self.base.to_string();
        }
        format!("{}{path}", self.base)
    }

    /// Returns a link to the page of a stream.
    pub(crate) fn stream_link(&self, stream: &str) -> String {
        self.link(&format!("/streams/{}", url::encoded(stream)))
    }

    /// Returns a value of the query, without spaces around it; empty if there is none.
    pub(crate) fn query(&self, name: &str) -> &str {
        self.query.get(name).map_or("", |value| value.trim())
    }

    /// Returns a value of the query as another type; `None` if there is none.
    pub(crate) fn parsed<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Failure> {
        match self.query(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| Failure::invalid(name, text)),
        }
    }

    /// Returns the stream that the path names.
    pub(crate) fn stream(&self) -> Result<StreamId, Failure> {
        let text = self.param("stream");
        text.parse().map_err(|_| Failure::invalid("stream", text))
    }

    /// Returns a part of the path.
    pub(crate) fn param(&self, name: &str) -> &str {
        self.params.get(name).map_or("", |value| &**value)
    }

    /// Returns the code that the user's forms contain.
    pub(crate) fn form_code(&self) -> String {
        seal(&self.shared.secret(), FORM, &self.form_parts(&period(0)))
    }

    /// Returns `true` if a form of the user contains this code.
    pub(crate) fn is_form_code(&self, code: &str) -> bool {
        [0, 1]
            .into_iter()
            .any(|ago| is_sealed(&self.shared.secret(), FORM, &self.form_parts(&period(ago)), code))
    }

    fn form_parts<'a>(&'a self, period: &'a str) -> [&'a [u8]; 3] {
        let session = match &self.identity.proof {
            Proof::Session(value) => value,
            Proof::Bearer | Proof::Proxy | Proof::Loopback => "",
        };
        [self.user().as_bytes(), session.as_bytes(), period.as_bytes()]
    }
}

fn period(ago: u64) -> String {
    (now() / FORM_PERIOD - ago).to_string()
}
