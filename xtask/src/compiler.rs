//! The C compiler that the build needs, and what else compiles C.

use std::env;

use anyhow::{Result, bail};

use crate::program;

/// # Errors
///
/// Says what to install when no C compiler, no `make` or no `perl` is there, before a build script
/// fails on it.
pub(crate) fn require() -> Result<()> {
    let chosen = env::var("CC").ok().filter(|name| !name.trim().is_empty());
    let name = chosen.as_deref().unwrap_or("cc");
    // `CC` may hold a wrapper and arguments: "ccache gcc".
    let program = name.split_whitespace().next().unwrap_or("cc");
    // librdkafka is built by make, and its OpenSSL configured by perl.
    let missing = [program, "make", "perl"].into_iter().find(|name| program::find(name).is_none());
    if let Some(missing) = missing {
        bail!(
            "no C compiler, or what goes with it: `{missing}` was not found, and SQLite, librdkafka \
             and OpenSSL are built from C source (Debian, Ubuntu: apt-get install gcc libc6-dev \
             make perl; Fedora: dnf install gcc make perl-core; Arch: pacman -S gcc make perl; \
             Alpine: apk add gcc musl-dev make perl linux-headers; macOS: xcode-select --install)"
        );
    }
    Ok(())
}
