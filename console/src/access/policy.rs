//! The ways of authentication that a console accepts.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use axum::http::HeaderName;

use crate::ConsoleError;

/// The ways of authentication that a console accepts.
#[derive(Debug, Clone, Default)]
pub(crate) struct AccessPolicy {
    /// The tokens.
    pub(crate) tokens: Vec<Token>,
    /// The header that names a user, and the proxies that may set it.
    pub(crate) proxy: Option<(HeaderName, Vec<IpAddr>)>,
    /// `true` if requests of this machine need no authentication.
    pub(crate) loopback: bool,
    /// `true` if browsers may send the session's cookie over plain HTTP.
    pub(crate) plain_http: bool,
}

/// A token with the name of its holder.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) name: String,
    pub(crate) secret: String,
    pub(crate) may_change: bool,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("name", &self.name).finish_non_exhaustive()
    }
}

impl AccessPolicy {
    pub(crate) fn check(&self, min_bytes: usize) -> Result<(), ConsoleError> {
        if self.tokens.is_empty() && self.proxy.is_none() && !self.loopback {
            return Err(ConsoleError::NoAuthentication);
        }
        let mut names = BTreeSet::new();
        for Token { name, secret, .. } in &self.tokens {
            if secret.len() < min_bytes {
                return Err(ConsoleError::ShortToken { name: name.clone() });
            }
            if name.is_empty() || !names.insert(name) {
                return Err(ConsoleError::AmbiguousName { name: name.clone() });
            }
        }
        Ok(())
    }
}
