//! Installs missing programs with the system's package manager.

use std::fmt;
use std::io;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::program;
use crate::session::Session;
use crate::unprivileged_user::is_root;

/// A distribution's package manager.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PackageManager {
    pub(crate) program: &'static str,
    /// Arguments that update the package lists. Empty if installing does that.
    refresh: &'static [&'static str],
    install: &'static [&'static str],
    postgres: &'static [&'static str],
    java: &'static [&'static str],
    pgbouncer: &'static [&'static str],
    prometheus: &'static [&'static str],
    browser: &'static [&'static str],
    needs_root: bool,
}

/// A program that tests or benchmarks need.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Dependency {
    /// The PostgreSQL server.
    Postgres,
    /// Java, to run a Kafka broker, and Maven, to download it.
    Java,
    /// `PgBouncer`, the connection pooler of some tests.
    PgBouncer,
    /// Prometheus, whose `promtool` checks alerts and dashboards.
    Prometheus,
    /// Chromium and its driver, for the tests of the console.
    Browser,
}

/// The supported package managers.
const ALL: [PackageManager; 5] = [
    PackageManager {
        program: "apt-get",
        refresh: &["update", "--quiet"],
        install: &["install", "--yes", "--quiet", "--no-install-recommends"],
        postgres: &["postgresql"],
        java: &["default-jre-headless", "maven"],
        pgbouncer: &["pgbouncer"],
        prometheus: &["prometheus"],
        browser: &["chromium", "chromium-driver"],
        needs_root: true,
    },
    PackageManager {
        program: "dnf",
        refresh: &[],
        install: &["install", "--assumeyes"],
        postgres: &["postgresql-server", "postgresql-contrib"],
        java: &["java-21-openjdk-headless", "maven"],
        pgbouncer: &["pgbouncer"],
        prometheus: &["prometheus"],
        browser: &["chromium", "chromedriver"],
        needs_root: true,
    },
    PackageManager {
        program: "pacman",
        refresh: &[],
        install: &["--sync", "--refresh", "--needed", "--noconfirm"],
        postgres: &["postgresql"],
        java: &["jre21-openjdk-headless", "maven"],
        pgbouncer: &["pgbouncer"],
        prometheus: &["prometheus"],
        browser: &["chromium"],
        needs_root: true,
    },
    PackageManager {
        program: "apk",
        refresh: &[],
        install: &["add", "--update-cache"],
        postgres: &["postgresql"],
        java: &["openjdk21-jre-headless", "maven"],
        pgbouncer: &["pgbouncer"],
        prometheus: &["prometheus"],
        browser: &["chromium", "chromium-chromedriver"],
        needs_root: true,
    },
    PackageManager {
        program: "brew",
        refresh: &[],
        install: &["install"],
        postgres: &["postgresql@17"],
        java: &["openjdk@21", "maven"],
        pgbouncer: &["pgbouncer"],
        prometheus: &["prometheus"],
        browser: &["chromedriver"],
        needs_root: false,
    },
];

impl PackageManager {
    /// Returns this machine's package manager.
    pub(crate) fn detect() -> Option<Self> {
        ALL.into_iter().find(|manager| program::find(manager.program).is_some())
    }

    /// Returns this machine's package manager if this process can install packages without a
    /// password.
    pub(crate) fn usable() -> Option<Self> {
        let manager = Self::detect()?;
        let allowed =
            if manager.needs_root { is_root() || has_passwordless_sudo() } else { !is_root() };
        allowed.then_some(manager)
    }

    /// Returns the command line that installs a dependency.
    pub(crate) fn install_command(self, dependency: Dependency) -> String {
        format!("{} {}", self.program, self.arguments(dependency).join(" "))
    }

    /// Installs a dependency.
    pub(crate) fn install(self, dependency: Dependency, session: &Session) -> Result<()> {
        if !self.refresh.is_empty()
            && !session.run_in_group(&mut self.command(self.refresh))?.success()
        {
            eprintln!("xtask: failed to update the package lists; installing with the old ones");
        }
        if !session.run_in_group(&mut self.command(&self.arguments(dependency)))?.success() {
            bail!("failed to install {dependency} with: {}", self.install_command(dependency));
        }
        Ok(())
    }

    fn arguments(self, dependency: Dependency) -> Vec<&'static str> {
        let packages = match dependency {
            Dependency::Postgres => self.postgres,
            Dependency::Java => self.java,
            Dependency::PgBouncer => self.pgbouncer,
            Dependency::Prometheus => self.prometheus,
            Dependency::Browser => self.browser,
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
        // Standard output belongs to the user's command.
        command.stdin(Stdio::null()).stdout(io::stderr());
        command
    }
}

fn has_passwordless_sudo() -> bool {
    program::find("sudo").is_some() && program::succeeds(Command::new("sudo").args(["-n", "true"]))
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "PostgreSQL",
            Self::Java => "Java and Maven",
            Self::PgBouncer => "PgBouncer",
            Self::Prometheus => "Prometheus",
            Self::Browser => "Chromium",
        })
    }
}
