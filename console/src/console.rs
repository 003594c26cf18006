//! The settings of a console, and its router.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::HeaderName;
use axum::middleware::from_fn_with_state;
use composable_rust_admin::Admin;

use crate::access::guard::guard;
use crate::access::policy::{AccessPolicy, Token};
use crate::context::Shared;
use crate::{assets, pages};

/// The minimum length of a token in bytes, which makes guessing hopeless.
const MIN_TOKEN_BYTES: usize = 16;
/// The time after which the search of a page ends, to be continued by the next page.
const PATIENCE: Duration = Duration::from_millis(100);

/// A console over the operations of a store.
///
/// # Example: a console that only this machine reaches
///
/// ```
/// # use composable_rust_admin::{Admin, Operator};
/// # use composable_rust_console::{Console, ConsoleError, Payloads};
/// # use composable_rust_testing::InMemoryEventStore;
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// # let admin = Admin::of_store(InMemoryEventStore::new(), Operator::named("ann"))?;
/// let refused = Console::new(admin.clone()).router();
/// assert!(matches!(refused, Err(ConsoleError::NoAuthentication)));
///
/// Console::new(admin).loopback_only().payloads(Payloads::Shown).router()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Console {
    admin: Admin,
    others: Vec<Admin>,
    access: AccessPolicy,
    allows_changes: bool,
    payloads: Payloads,
}

/// The treatment of contents of messages, events and states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Payloads {
    /// Names of fields are shown, values are not.
    #[default]
    Masked,
    /// Contents are shown.
    Shown,
}

/// A console's settings are unsafe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConsoleError {
    /// Everybody would be admitted. Add a token or a trusted header, or serve this
    /// machine only.
    #[error(
        "the console has no authentication: call `token` or `trusted_header`, or `loopback_only` \
         to serve this machine only"
    )]
    NoAuthentication,
    /// A token is short enough to be guessed.
    #[error("the token of `{name}` has fewer than {MIN_TOKEN_BYTES} bytes")]
    ShortToken {
        /// The name of the token's holder.
        name: String,
    },
    /// A token has no name, or two holders have the same.
    #[error("a token needs a name that no other token has, not `{name}`")]
    AmbiguousName {
        /// The name.
        name: String,
    },
}

impl Console {
    /// Creates a console that only reads and masks contents.
    ///
    /// In changes made without a token or a trusted header, the operator is that of `admin`.
    pub fn new(admin: Admin) -> Self {
        Self {
            admin,
            others: Vec::new(),
            access: AccessPolicy::default(),
            allows_changes: false,
            payloads: Payloads::default(),
        }
    }

    /// Admits who presents a token, as `Authorization: Bearer TOKEN` or by the login page. The
    /// entries of the audit show `name`. At least 16 bytes.
    #[must_use]
    pub fn token(self, name: impl Into<String>, token: impl Into<String>) -> Self {
        self.add_token(name.into(), token.into(), true)
    }

    /// Admits who presents a token, and lets them read only, even if the console
    /// [allows changes](Self::allow_changes).
    #[must_use]
    pub fn reader_token(self, name: impl Into<String>, token: impl Into<String>) -> Self {
        self.add_token(name.into(), token.into(), false)
    }

    fn add_token(mut self, name: String, token: String, may_change: bool) -> Self {
        self.access.tokens.push(Token { name, secret: token, may_change });
        self
    }

    /// Admits the user whom a header names, such as `x-forwarded-user`, if the request comes from
    /// one of these proxies, which must remove the header from clients' requests. The router needs
    /// the peer's address:
    /// [`into_make_service_with_connect_info`](axum::Router::into_make_service_with_connect_info).
    #[must_use]
    pub fn trusted_header(
        mut self,
        header: HeaderName,
        proxies: impl IntoIterator<Item = IpAddr>,
    ) -> Self {
        self.access.proxy = Some((header, proxies.into_iter().collect()));
        self
    }

    /// Admits requests of this machine without authentication and rejects all others. The router
    /// needs the peer's address, as [`trusted_header`](Self::trusted_header) does.
    ///
    /// Requests that a proxy forwards, or whose host is not a name of this machine, are rejected.
    #[must_use]
    pub fn loopback_only(mut self) -> Self {
        self.access.loopback = true;
        self
    }

    /// Allows changes: redriving, discarding, pausing and so on. Each is recorded in the operators'
    /// stream.
    #[must_use]
    pub fn allow_changes(mut self) -> Self {
        self.allows_changes = true;
        self
    }

    /// Adds another service's store, in which workflows are sought as well. May be called
    /// repeatedly.
    #[must_use]
    pub fn also(mut self, other: Admin) -> Self {
        self.others.push(other);
        self
    }

    /// Sets the treatment of contents. Default: masked.
    #[must_use]
    pub fn payloads(mut self, payloads: Payloads) -> Self {
        self.payloads = payloads;
        self
    }

    /// Lets browsers send the session's cookie over plain HTTP. Without this, they send it over
    /// HTTPS and to this machine only.
    #[must_use]
    pub fn plain_http(mut self) -> Self {
        self.access.plain_http = true;
        self
    }

    /// Creates the router, to be served as it is or nested at a path.
    ///
    /// # Errors
    ///
    /// [`ConsoleError`]: the settings are unsafe.
    pub fn router(self) -> Result<Router, ConsoleError> {
        self.access.check(MIN_TOKEN_BYTES)?;
        let Self { admin, others, access, allows_changes, payloads } = self;
        let admin = admin.within(PATIENCE);
        let others = others.iter().map(|other| other.within(PATIENCE)).collect();
        let shared = Arc::new(Shared::new((admin, others), access, allows_changes, payloads));
        let guarded = pages::routes().layer(from_fn_with_state(Arc::clone(&shared), guard));
        Ok(Router::new()
            .merge(guarded)
            .merge(pages::login::routes())
            .merge(assets::routes())
            .layer(axum::middleware::map_response(crate::access::headers::protect))
            .with_state(shared))
    }
}
