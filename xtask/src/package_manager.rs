//! Installing PostgreSQL where it is missing.

use std::fmt;
use std::io;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::account::is_root;
use crate::program;
use crate::session::Session;

/// A distribution's package manager.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PackageManager {
    pub(crate) program: &'static str,
    /// Arguments of a first run that fetches the package lists, if that is a step of its own.
    refresh: &'static [&'static str],
    install: &'static [&'static str],
    needs_root: bool,
}

const ALL: [PackageManager; 5] = [
    PackageManager {
        program: "apt-get",
        refresh: &["update", "--quiet"],
        install: &["install", "--yes", "--quiet", "--no-install-recommends", "postgresql"],
        needs_root: true,
    },
    PackageManager {
        program: "dnf",
        refresh: &[],
        install: &["install", "--assumeyes", "postgresql-server", "postgresql-contrib"],
        needs_root: true,
    },
    PackageManager {
        program: "pacman",
        refresh: &[],
        install: &["--sync", "--refresh", "--needed", "--noconfirm", "postgresql"],
        needs_root: true,
    },
    PackageManager {
        program: "apk",
        refresh: &[],
        install: &["add", "--update-cache", "postgresql"],
        needs_root: true,
    },
    PackageManager {
        program: "brew",
        refresh: &[],
        install: &["install", "postgresql@17"],
        needs_root: false,
    },
];

impl PackageManager {
    pub(crate) fn all() -> &'static [Self] {
        &ALL
    }

    /// The one of this machine, if we may use it without asking.
    pub(crate) fn usable() -> Option<Self> {
        let here = ALL.into_iter().find(|manager| program::find(manager.program).is_some())?;
        let allowed = if here.needs_root { is_root() || sudo_answers() } else { !is_root() };
        allowed.then_some(here)
    }

    /// Installs the server's package.
    pub(crate) fn install(self, session: &Session) -> Result<()> {
        if !self.refresh.is_empty()
            && !session.run_apart(&mut self.command(self.refresh))?.success()
        {
            eprintln!("xtask: the package lists could not be renewed; trying with the old ones");
        }
        if !session.run_apart(&mut self.command(self.install))?.success() {
            bail!("PostgreSQL could not be installed: {self}");
        }
        Ok(())
    }

    fn command(self, args: &[&str]) -> Command {
        let mut command = Command::new("env");
        if self.needs_root && !is_root() {
            command = Command::new("sudo");
            command.args(["-n", "env"]);
        }
        command.arg("DEBIAN_FRONTEND=noninteractive").arg(self.program).args(args);
        // Standard output is for the command that needs the server.
        command.stdin(Stdio::null()).stdout(io::stderr());
        command
    }
}

fn sudo_answers() -> bool {
    program::find("sudo").is_some() && program::succeeds(Command::new("sudo").args(["-n", "true"]))
}

impl fmt::Display for PackageManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.program, self.install.join(" "))
    }
}
