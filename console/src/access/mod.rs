//! Identities of browsers, and their rights.

pub(crate) mod guard;
pub(crate) mod headers;
pub(crate) mod identity;
pub(crate) mod origin;
pub(crate) mod policy;
pub(crate) mod seal;
pub(crate) mod session;
