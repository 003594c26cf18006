//! Installing what is missing.

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
    postgres: &'static [&'static str],
    java: &'static [&'static str],
    pooler: &'static [&'static str],
    needs_root: bool,
}

/// What may be missing.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Need {
    /// A PostgreSQL server.
    Postgres,
    /// Java, to run a Kafka broker, and Maven, to fetch it.
    Java,
    /// `PgBouncer`, which some tests put before the server.
    Pooler,
}

const ALL: [PackageManager; 5] = [
    PackageManager {
        program: "apt-get",
        refresh: &["update", "--quiet"],
        install: &["install", "--yes", "--quiet", "--no-install-recommends"],
        postgres: &["postgresql"],
        java: &["default-jre-headless", "maven"],
        pooler: &["pgbouncer"],
        needs_root: true,
    },
    PackageManager {
        program: "dnf",
        refresh: &[],
        install: &["install", "--assumeyes"],
        postgres: &["postgresql-server", "postgresql-contrib"],
        java: &["java-21-openjdk-headless", "maven"],
        pooler: &["pgbouncer"],
        needs_root: true,
    },
    PackageManager {
        program: "pacman",
        refresh: &[],
        install: &["--sync", "--refresh", "--needed", "--noconfirm"],
        postgres: &["postgresql"],
        java: &["jre21-openjdk-headless", "maven"],
        pooler: &["pgbouncer"],
        needs_root: true,
    },
    PackageManager {
        program: "apk",
        refresh: &[],
        install: &["add", "--update-cache"],
        postgres: &["postgresql"],
        java: &["openjdk21-jre-headless", "maven"],
        pooler: &["pgbouncer"],
        needs_root: true,
    },
    PackageManager {
        program: "brew",
        refresh: &[],
        install: &["install"],
        postgres: &["postgresql@17"],
        java: &["openjdk@21", "maven"],
        pooler: &["pgbouncer"],
        needs_root: false,
    },
];

impl PackageManager {
    /// The one of this machine.
    pub(crate) fn here() -> Option<Self> {
        ALL.into_iter().find(|manager| program::find(manager.program).is_some())
    }

    /// The one of this machine, if we may use it without asking.
    pub(crate) fn usable() -> Option<Self> {
        let here = Self::here()?;
        let allowed = if here.needs_root { is_root() || sudo_answers() } else { !is_root() };
        allowed.then_some(here)
    }

    /// The command that installs what is needed, as one would type it.
    pub(crate) fn line(self, need: Need) -> String {
        format!("{} {}", self.program, self.arguments(need).join(" "))
    }

    /// Installs what is needed.
    pub(crate) fn install(self, need: Need, session: &Session) -> Result<()> {
        if !self.refresh.is_empty()
            && !session.run_apart(&mut self.command(self.refresh))?.success()
        {
            eprintln!("xtask: the package lists could not be renewed; trying with the old ones");
        }
        if !session.run_apart(&mut self.command(&self.arguments(need)))?.success() {
            bail!("{need} could not be installed: {}", self.line(need));
        }
        Ok(())
    }

    fn arguments(self, need: Need) -> Vec<&'static str> {
        let packages = match need {
            Need::Postgres => self.postgres,
            Need::Java => self.java,
            Need::Pooler => self.pooler,
        };
        [self.install, packages].concat()
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

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "PostgreSQL",
            Self::Java => "Java and Maven",
            Self::Pooler => "PgBouncer",
        })
    }
}
