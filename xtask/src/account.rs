//! The unprivileged account that a server runs under.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

/// User and group numbers of an existing account.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account {
    uid: u32,
    gid: u32,
}

/// Tried in this order; `nobody` is there wherever packages are missing.
const NAMES: [&str; 3] = ["postgres", "_postgres", "nobody"];

impl Account {
    /// The account to switch to, because PostgreSQL refuses to run as root; `None` when this
    /// process is not root.
    ///
    /// # Errors
    ///
    /// When this is root and no unprivileged account exists.
    pub(crate) fn to_switch_to() -> Result<Option<Self>> {
        if !is_root() {
            return Ok(None);
        }
        match NAMES.iter().find_map(|name| Self::named(name)) {
            Some(account) => Ok(Some(account)),
            None => bail!(
                "PostgreSQL does not run as root, and there is no account named {} to run it under",
                NAMES.join(" or ")
            ),
        }
    }

    /// Makes the command run under this account.
    pub(crate) fn apply(self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// Gives the account a file or folder.
    pub(crate) fn own(self, path: &Path) -> std::io::Result<()> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
    }

    fn named(name: &str) -> Option<Self> {
        let number = |option| {
            let output = Command::new("id").args([option, name]).output().ok()?;
            String::from_utf8(output.stdout).ok()?.trim().parse().ok()
        };
        let account = Self { uid: number("-u")?, gid: number("-g")? };
        (account.uid != 0).then_some(account)
    }
}

/// Is this process root?
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
