//! The C compiler that the build needs, and what else compiles C.

use std::env;

use anyhow::{Result, bail};

use crate::program;

/// Checks that the build tools for C are installed, before a build script fails without them.
///
/// # Errors
///
/// If the C compiler, `make` or `perl` is missing. The message says how to install it.
pub(crate) fn require() -> Result<()> {
    let chosen = env::var("CC").ok().filter(|name| !name.trim().is_empty());
    let name = chosen.as_deref().unwrap_or("cc");
    // `CC` may hold a wrapper and arguments: "ccache gcc".
    let program = name.split_whitespace().next().unwrap_or("cc");
    // librdkafka needs make, and OpenSSL needs perl.
    let missing = [program, "make", "perl"].into_iter().find(|name| program::find(name).is_none());
    if let Some(missing) = missing {
        bail!(
            "`{missing}` was not found: SQLite, librdkafka and OpenSSL are built from C source, which \
             needs a C compiler, make and perl (Debian, Ubuntu: apt-get install gcc libc6-dev \
             make perl; Fedora: dnf install gcc make perl-core; Arch: pacman -S gcc make perl; \
             Alpine: apk add gcc musl-dev make perl linux-headers; macOS: xcode-select --install)"
        );
    }
    Ok(())
}
