//! The C compiler that the build needs.

use std::env;

use anyhow::{Result, bail};

use crate::program;

/// # Errors
///
/// Says what to install when no C compiler is there, before a build script fails on it.
pub(crate) fn require() -> Result<()> {
    let chosen = env::var("CC").ok().filter(|name| !name.trim().is_empty());
    let name = chosen.as_deref().unwrap_or("cc");
    // `CC` may hold a wrapper and arguments: "ccache gcc".
    let program = name.split_whitespace().next().unwrap_or("cc");
    if program::find(program).is_none() {
        bail!(
            "no C compiler: `{name}` was not found, and SQLite is built from its C source \
             (Debian, Ubuntu: apt-get install gcc libc6-dev; Fedora: dnf install gcc; \
             Arch: pacman -S gcc; Alpine: apk add gcc musl-dev; macOS: xcode-select --install)"
        );
    }
    Ok(())
}
