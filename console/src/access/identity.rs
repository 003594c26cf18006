//! The user of a request.

use std::net::{IpAddr, SocketAddr};

use axum::extract::ConnectInfo;
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, FORWARDED, HOST};
use axum::http::request::Parts;
use composable_rust_core::store::LogSecret;

use crate::access::policy::AccessPolicy;
use crate::access::session;

/// The headers of requests that a proxy forwards.
const FORWARDING: [&str; 3] = ["x-forwarded-for", "x-forwarded-host", "x-real-ip"];
/// The purpose of the codes by which tokens are compared.
const TOKEN: &str = "console/token";

/// The user of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The name; `None` for this machine's user.
    pub(crate) name: Option<String>,
    /// `true` if the user may make changes, where the console allows them.
    pub(crate) may_change: bool,
    /// The proof that the request carries.
    pub(crate) proof: Proof,
}

/// The proof of an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Proof {
    /// A token in the request itself, which no other site can make a browser send.
    Bearer,
    /// A session's cookie, by its value.
    Session(String),
    /// A header of a trusted proxy.
    Proxy,
    /// The address of the peer.
    Loopback,
}

/// The reason why a request has no user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// There is no proof, or a wrong one.
    Unauthenticated,
    /// The console serves this machine only, or the peer's address is not known.
    NotLoopback,
}

impl AccessPolicy {
    /// Returns the user of a request.
    pub(crate) fn identify(&self, secret: &LogSecret, parts: &Parts) -> Result<Identity, Denied> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        if let Some(presented) = bearer(&parts.headers) {
            return self.by_token(secret, presented).ok_or(Denied::Unauthenticated);
        }
        if let Some(identity) = session::identify(self, secret, &parts.headers) {
            return Ok(identity);
        }
        if let Some(identity) = self.by_proxy(peer, &parts.headers) {
            return Ok(identity);
        }
        if self.loopback && is_local(peer, parts) {
            return Ok(Identity { name: None, may_change: true, proof: Proof::Loopback });
        }
        let has_other_ways = !self.tokens.is_empty() || self.proxy.is_some();
        Err(if has_other_ways { Denied::Unauthenticated } else { Denied::NotLoopback })
    }

    /// Returns the holder of a token. All tokens are compared, by their codes.
    pub(crate) fn by_token(&self, secret: &LogSecret, presented: &str) -> Option<Identity> {
        let code = secret.code(TOKEN, &[presented.as_bytes()]);
        let mut found = None;
        for token in &self.tokens {
            if secret.verifies(TOKEN, &[token.secret.as_bytes()], &code) {
                found = Some(token);
            }
        }
        found.map(|token| Identity {
            name: Some(token.name.clone()),
            may_change: token.may_change,
            proof: Proof::Bearer,
        })
    }

    fn by_proxy(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Option<Identity> {
        let (header, proxies) = self.proxy.as_ref()?;
        let peer = peer?.to_canonical();
        if !proxies.iter().any(|proxy| proxy.to_canonical() == peer) {
            return None;
        }
        // Of several values, one may be the client's own.
        let mut values = headers.get_all(header).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        let name = value.to_str().ok()?.trim();
        (!name.is_empty()).then(|| Identity {
            name: Some(name.to_owned()),
            may_change: true,
            proof: Proof::Proxy,
        })
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Returns `true` if a request comes from this machine itself: from its address, through no proxy,
/// and for one of its names, so that no other site's name leads a browser here.
fn is_local(peer: Option<IpAddr>, parts: &Parts) -> bool {
    let is_forwarded = parts.headers.contains_key(FORWARDED)
        || FORWARDING.iter().any(|name| parts.headers.contains_key(*name));
    peer.is_some_and(|peer| peer.to_canonical().is_loopback())
        && !is_forwarded
        && host(parts).is_some_and(is_loopback_name)
}

/// Returns the host that a request is for, with its port.
pub(crate) fn host(parts: &Parts) -> Option<&str> {
    let of_header = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    of_header.or_else(|| parts.uri.authority().map(axum::http::uri::Authority::as_str))
}

/// Returns `true` if a host, with or without a port, is a name of this machine.
pub(crate) fn is_loopback_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_loopback_name;

    #[test]
    fn only_names_of_this_machine_are_loopback_names() {
        for host in
            ["localhost", "LocalHost:80", "127.0.0.1:8080", "127.0.0.2", "[::1]:80", "[::1]"]
        {
            assert!(is_loopback_name(host), "{host}");
        }
        for host in
            ["", "evil.example", "localhost.evil.example:80", "127.0.0.1.nip.io", "10.0.0.1"]
        {
            assert!(!is_loopback_name(host), "{host}");
        }
    }
}
