//! Operations against stores.
