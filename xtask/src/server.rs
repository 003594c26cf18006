//! A PostgreSQL server for one run, and where asked for one with slow commits.

use std::env;
use std::process::{Command, ExitStatus};

use anyhow::{Result, bail};

use crate::binaries::Binaries;
use crate::cluster::Clusters;
use crate::container::{self, Engine};
use crate::package_manager::{Need, PackageManager};
use crate::session::Session;
use crate::version::Version;

/// A running server. Dropping it takes it down, unless it was there before.
#[derive(Debug)]
pub(crate) struct Server {
    url: String,
    /// The port of a server of our own, on 127.0.0.1.
    port: Option<u16>,
    clusters: Option<Clusters>,
    slow_commit_url: Option<String>,
    session: Session,
}

impl Server {
    /// The server that `DATABASE_URL` names, else a container, else a throw-away cluster of the
    /// PostgreSQL installed here, which is installed if it is missing.
    ///
    /// Says in one line on standard error what it chose; standard output is the command's.
    ///
    /// # Errors
    ///
    /// Says what to install or set when there is no way to a server.
    pub(crate) fn provision(session: Session) -> Result<Self> {
        if let Some(url) = env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()) {
            if !is_postgres(&url) {
                bail!(
                    "DATABASE_URL is set, but not to a PostgreSQL server (postgres://…): \
                     correct it, or unset it to have a server started"
                );
            }
            eprintln!("PostgreSQL from DATABASE_URL");
            return Ok(Self { url, port: None, clusters: None, slow_commit_url: None, session });
        }
        let (port, clusters) = match start_container(&session) {
            Some(port) => (port, None),
            None => start_cluster(&session).map(|(port, clusters)| (port, Some(clusters)))?,
        };
        Ok(Self { url: url(port), port: Some(port), clusters, slow_commit_url: None, session })
    }

    /// Starts a second server, of the PostgreSQL installed here, whose commits take at least
    /// 5 ms, as they do in production with a synchronous replica; it goes down with the first.
    ///
    /// # Errors
    ///
    /// Says what to install or set when no PostgreSQL is installed here.
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

    /// Is it a cluster of the PostgreSQL installed here?
    pub(crate) fn is_cluster(&self) -> bool {
        self.clusters.is_some()
    }

    /// Where it listens; the role there may create databases.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Where the server with slow commits listens, if there is one.
    pub(crate) fn slow_commit_url(&self) -> Option<&str> {
        self.slow_commit_url.as_deref()
    }

    /// Runs a command with `DATABASE_URL` set, and for a server of our own also the variables
    /// by which `psql` and its kin find it; `SLOW_DATABASE_URL` names the server with slow
    /// commits if one was added.
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

    /// The run that the server belongs to.
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

/// `None` where no engine answers or it cannot start the image (it may be unable to fetch it).
fn start_container(session: &Session) -> Option<u16> {
    let engine = Engine::answering()?;
    match container::start(engine, session) {
        Ok(port) => {
            eprintln!("PostgreSQL {} in {engine} on 127.0.0.1:{port}", container::IMAGE);
            Some(port)
        }
        Err(error) => {
            eprintln!("xtask: {error:#}; using a PostgreSQL installed here instead");
            None
        }
    }
}

fn start_cluster(session: &Session) -> Result<(u16, Clusters)> {
    let binaries = installed(session)?;
    let from = format!("PostgreSQL {} from {}", binaries.version, binaries.folder.display());
    let clusters = Clusters::create(binaries, session)?;
    let port = clusters.start(session)?;
    eprintln!("{from} on 127.0.0.1:{port}");
    Ok((port, clusters))
}

/// The newest PostgreSQL installed here, after installing one if there is none.
fn installed(session: &Session) -> Result<Binaries> {
    let mut installed = Binaries::installed();
    if Binaries::newest(&installed).is_none() {
        if let Some(manager) = PackageManager::usable() {
            let line = manager.line(Need::Postgres);
            eprintln!("no PostgreSQL server is installed here: {line}");
            manager.install(Need::Postgres, session)?;
            installed = Binaries::installed();
        }
    }
    match Binaries::newest(&installed) {
        Some(newest) => Ok(newest.clone()),
        None => bail!(what_is_missing(&installed)),
    }
}

fn what_is_missing(installed: &[Binaries]) -> String {
    let supported = Version::SUPPORTED;
    let found = match installed.iter().max_by_key(|found| found.version) {
        Some(other) => format!("only {} in {}", other.version, other.folder.display()),
        None => "none".to_owned(),
    };
    let install = match PackageManager::here() {
        Some(manager) => format!(", or install it ({})", manager.line(Need::Postgres)),
        None => ", or install it".to_owned(),
    };
    format!(
        "a PostgreSQL server, version {} to {}, is needed and {found} was found: set DATABASE_URL \
         to one, start Docker or Podman{install}",
        supported.start(),
        supported.end()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_postgres_urls() {
        assert!(is_postgres("postgres://me@host/db"));
        assert!(is_postgres("postgresql://host"));
        assert!(!is_postgres("sqlite:orders.db"));
    }

    #[test]
    fn says_what_is_missing() {
        let old = Binaries {
            folder: "/usr/lib/postgresql/14/bin".into(),
            version: Version { major: 14, minor: 3 },
        };
        let said = what_is_missing(&[old]);
        assert!(said.contains("15 to 18"), "{said}");
        assert!(said.contains("only 14.3 in /usr/lib/postgresql/14/bin was found"), "{said}");
        assert!(!said.contains('\n'), "{said}");
    }
}
