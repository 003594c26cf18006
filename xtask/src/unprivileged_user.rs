//! The unprivileged user that PostgreSQL runs as.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

/// The user id and group id of an existing user other than root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnprivilegedUser {
    uid: u32,
    gid: u32,
}

/// User names in the order in which they are tried. `nobody` exists even where no PostgreSQL
/// package is installed.
const CANDIDATES: [&str; 3] = ["postgres", "_postgres", "nobody"];

impl UnprivilegedUser {
    /// Returns the user to run PostgreSQL as, or `None` if this process is not root.
    ///
    /// PostgreSQL refuses to run as root.
    ///
    /// # Errors
    ///
    /// If this process is root and no unprivileged user exists.
    pub(crate) fn required() -> Result<Option<Self>> {
        if !is_root() {
            return Ok(None);
        }
        match CANDIDATES.iter().find_map(|name| Self::find(name)) {
            Some(user) => Ok(Some(user)),
            None => bail!(
                "PostgreSQL does not run as root, and no user named {} exists to run it as",
                CANDIDATES.join(" or ")
            ),
        }
    }

    /// Makes `command` run as this user.
    pub(crate) fn apply(self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// Makes this user the owner of a file or folder.
    pub(crate) fn take_ownership(self, path: &Path) -> std::io::Result<()> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
    }

    fn find(name: &str) -> Option<Self> {
        let id = |option| {
            let output = Command::new("id").args([option, name]).output().ok()?;
            String::from_utf8(output.stdout).ok()?.trim().parse().ok()
        };
        let user = Self { uid: id("-u")?, gid: id("-g")? };
        (user.uid != 0).then_some(user)
    }
}

/// Returns `true` if this process runs as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
