//! The PostgreSQL server that a run uses, and an optional one with slow commits.

use std::env;
use std::process::{Command, ExitStatus};

use anyhow::{Result, bail};

use crate::binaries::Binaries;
use crate::cluster::Clusters;
use crate::container::{self, Engine};
use crate::package_manager::{Dependency, PackageManager};
use crate::session::Session;
use crate::version::Version;

/// A running server. Dropping it stops the server if this run started it.
#[derive(Debug)]
pub(crate) struct Server {
    url: String,
    /// The port on 127.0.0.1. `None` for the server in `DATABASE_URL`.
    port: Option<u16>,
    clusters: Option<Clusters>,
    slow_commit_url: Option<String>,
    session: Session,
}

impl Server {
    /// Starts a server, unless `DATABASE_URL` names one.
    ///
    /// Tries a container first, then a throw-away cluster of the PostgreSQL on this machine, which
    /// is installed if it is missing. Prints the choice to standard error, because standard output
    /// belongs to the user's command.
    ///
    /// # Errors
    ///
    /// If no server can be started. The message names the program to install or the variable to
    /// set.
    pub(crate) fn provision(session: Session) -> Result<Self> {
        if let Some(url) = env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()) {
            if !is_postgres(&url) {
                bail!(
                    "DATABASE_URL is set, but not to a PostgreSQL server (postgres://…): \
                     correct it, or unset it to start a server"
                );
            }
            eprintln!("using the PostgreSQL server in DATABASE_URL");
            return Ok(Self { url, port: None, clusters: None, slow_commit_url: None, session });
        }
        let (port, clusters) = match start_container(&session) {
            Some(port) => (port, None),
            None => start_cluster(&session).map(|(port, clusters)| (port, Some(clusters)))?,
        };
        Ok(Self { url: url(port), port: Some(port), clusters, slow_commit_url: None, session })
    }

    /// Starts a second server whose commits take at least 5 ms, as in production with a synchronous
    /// replica.
    ///
    /// It runs with the PostgreSQL on this machine, and stops with the first server.
    ///
    /// # Errors
    ///
    /// If PostgreSQL is not installed and cannot be. The message says how to install it.
    pub(crate) fn add_slow_commit(&mut self) -> Result<()> {
        let clusters = match self.clusters.take() {
            Some(clusters) => clusters,
            None => Clusters::create(installed(&self.session)?, &self.session)?,
        };
        let port = self.clusters.insert(clusters).start_slow_commit(&self.session)?;
        eprintln!("PostgreSQL with a synchronous replica, 5 ms late, on 127.0.0.1:{port}");
        self.slow_commit_url = Some(url(port));
        Ok(())
    }

    /// Returns `true` if the server is a throw-away cluster.
    pub(crate) fn is_cluster(&self) -> bool {
        self.clusters.is_some()
    }

    /// The URL of the server, with a role that may create databases.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The URL of the server with slow commits, if it was started.
    pub(crate) fn slow_commit_url(&self) -> Option<&str> {
        self.slow_commit_url.as_deref()
    }

    /// Runs a command with the server's address in `DATABASE_URL`.
    ///
    /// For a server that this run started, also sets the variables that `psql` reads (`PGHOST` and
    /// others). `SLOW_DATABASE_URL` is the URL of the server with slow commits, if it was started.
    pub(crate) fn run(&self, command: &mut Command) -> Result<ExitStatus> {
        command.env("DATABASE_URL", &self.url);
        if let Some(url) = &self.slow_commit_url {
            command.env("SLOW_DATABASE_URL", url);
        }
        if let Some(port) = self.port {
            command.env("PGHOST", "127.0.0.1").env("PGPORT", port.to_string());
            command.env("PGUSER", "postgres").env("PGDATABASE", "postgres");
        }
        self.session.run(command)
    }

    /// The session that the server belongs to.
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }
}

fn url(port: u16) -> String {
    format!("postgres://postgres@127.0.0.1:{port}/postgres")
}

fn is_postgres(url: &str) -> bool {
    ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme))
}

/// Starts PostgreSQL in a container and returns its port.
///
/// Returns `None` if that is impossible, for example because no container engine runs.
fn start_container(session: &Session) -> Option<u16> {
    let engine = Engine::running()?;
    match container::start(engine, session) {
        Ok(port) => {
            eprintln!("PostgreSQL {} in {engine} on 127.0.0.1:{port}", container::IMAGE);
            Some(port)
        }
        Err(error) => {
            eprintln!("xtask: {error:#}; using the PostgreSQL on this machine instead");
            None
        }
    }
}

fn start_cluster(session: &Session) -> Result<(u16, Clusters)> {
    let binaries = installed(session)?;
    let origin = format!("PostgreSQL {} from {}", binaries.version, binaries.folder.display());
    let clusters = Clusters::create(binaries, session)?;
    let port = clusters.start(session)?;
    eprintln!("{origin} on 127.0.0.1:{port}");
    Ok((port, clusters))
}

/// Returns the newest PostgreSQL on this machine, after installing one if there is none.
fn installed(session: &Session) -> Result<Binaries> {
    let mut installed = Binaries::installed();
    if Binaries::newest(&installed).is_none() {
        if let Some(manager) = PackageManager::usable() {
            let line = manager.install_command(Dependency::Postgres);
            eprintln!("no PostgreSQL server is installed; running: {line}");
            manager.install(Dependency::Postgres, session)?;
            installed = Binaries::installed();
        }
    }
    match Binaries::newest(&installed) {
        Some(newest) => Ok(newest.clone()),
        None => bail!(missing_message(&installed)),
    }
}

fn missing_message(installed: &[Binaries]) -> String {
    let supported = Version::SUPPORTED;
    let found = match installed.iter().max_by_key(|found| found.version) {
        Some(other) => format!("only {} in {}", other.version, other.folder.display()),
        None => "none".to_owned(),
    };
    let install = match PackageManager::detect() {
        Some(manager) => {
            format!(", or install it ({})", manager.install_command(Dependency::Postgres))
        }
        None => ", or install it".to_owned(),
    };
    format!(
        "PostgreSQL {} to {} is needed, but {found} was found: set DATABASE_URL to a server, start \
         Docker or Podman{install}",
        supported.start(),
        supported.end()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_postgres_urls_are_accepted() {
        assert!(is_postgres("postgres://me@host/db"));
        assert!(is_postgres("postgresql://host"));
        assert!(!is_postgres("sqlite:orders.db"));
    }

    #[test]
    fn the_message_names_the_version_found() {
        let old = Binaries {
            folder: "/usr/lib/postgresql/14/bin".into(),
            version: Version { major: 14, minor: 3 },
        };
        let message = missing_message(&[old]);
        assert!(message.contains("15 to 18"), "{message}");
        assert!(message.contains("only 14.3 in /usr/lib/postgresql/14/bin was found"), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }
}
