//! Throw-away PostgreSQL clusters, run with the PostgreSQL installed on this machine.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::{Context, Result, bail};

use crate::binaries::Binaries;
use crate::session::Session;
use crate::unprivileged_user::UnprivilegedUser;

/// The `max_connections` setting. It is high because each test has its own connection pool.
pub(crate) const MAX_CONNECTIONS: u16 = 400;

/// The number of ports to try, because another process may take a free port before the server does.
const MAX_ATTEMPTS: usize = 5;

/// The maximum length of a cluster folder's path, in bytes. The path of the socket in it must stay
/// below the system's limit (104 on macOS).
const MAX_FOLDER_LENGTH: usize = 60;

/// Settings of the slow server: a commit waits until a replica has applied it.
const PRIMARY_SETTINGS: [&str; 2] =
    ["synchronous_standby_names=*", "synchronous_commit=remote_apply"];

/// Settings of the replica: it applies a commit 5 ms after the primary wrote it.
const REPLICA_SETTINGS: [&str; 1] = ["recovery_min_apply_delay=5ms"];

/// A folder for clusters.
///
/// The clusters have PostgreSQL's default durability, including `fsync`. All local users can
/// connect without a password.
#[derive(Debug)]
pub(crate) struct Clusters {
    binaries: Binaries,
    user: Option<UnprivilegedUser>,
    folder: PathBuf,
}

impl Clusters {
    /// Creates the folder.
    pub(crate) fn create(binaries: Binaries, session: &Session) -> Result<Self> {
        let user = UnprivilegedUser::required()?;
        let folder = session.create_folder(&parent(user), "composable-rust-pg-")?;
        if let Some(user) = user {
            user.take_ownership(&folder)
                .context("failed to change the owner of the clusters' folder")?;
        }
        Ok(Self { binaries, user, folder })
    }

    /// Starts a server without a replica and returns its port on 127.0.0.1.
    pub(crate) fn start(&self, session: &Session) -> Result<u16> {
        let cluster = Cluster { home: self, name: "data" };
        cluster.init(session)?;
        cluster.start(&[], session)
    }

    /// Starts a server and a synchronous replica, and returns the server's port on 127.0.0.1.
    ///
    /// Each commit waits for the replica, at least 5 ms.
    pub(crate) fn start_slow_commit(&self, session: &Session) -> Result<u16> {
        let primary = Cluster { home: self, name: "primary" };
        primary.init(session)?;
        let port = primary.start(&PRIMARY_SETTINGS, session)?;
        let replica = Cluster { home: self, name: "replica" };
        replica.copy_from(port, session)?;
        replica.start(&REPLICA_SETTINGS, session)?;
        Ok(port)
    }
}

/// One cluster.
struct Cluster<'a> {
    home: &'a Clusters,
    name: &'static str,
}

impl Cluster<'_> {
    /// Creates an empty cluster.
    fn init(&self, session: &Session) -> Result<()> {
        let mut initdb = self.command("initdb");
        // Not synced: the cluster need not survive a power loss before its first commit.
        initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]);
        initdb.arg("--no-sync").arg("--pgdata").arg(self.data());
        self.run_logged(&mut initdb, session)
    }

    /// Creates this cluster as a replica of the server on `port`.
    fn copy_from(&self, port: u16, session: &Session) -> Result<()> {
        let mut copy = self.command("pg_basebackup");
        copy.args(["--host=127.0.0.1", &format!("--port={port}"), "--username=postgres"]);
        copy.args(["--no-password", "--checkpoint=fast", "--no-sync", "--write-recovery-conf"]);
        self.run_logged(copy.arg("--pgdata").arg(self.data()), session)
    }

    fn run_logged(&self, command: &mut Command, session: &Session) -> Result<()> {
        let log = self.log("setup");
        if !session.run_logged(command, &log)?.success() {
            bail!("{} failed:\n{}", Path::new(command.get_program()).display(), read_lossy(&log));
        }
        Ok(())
    }

    /// Starts the cluster's server and returns its port.
    fn start(&self, settings: &[&str], session: &Session) -> Result<u16> {
        for _ in 0..MAX_ATTEMPTS {
            let port = free_port()?;
            let command = self.server(port, settings);
            let mut server = session.spawn_server(&command, self.home.user, &self.server_log())?;
            if self.wait_until_ready(&mut server)? {
                session.watch_server("the PostgreSQL server", server);
                return Ok(port);
            }
            session.unregister_server(&server)?;
        }
        bail!("other processes took each of {MAX_ATTEMPTS} free ports first")
    }

    fn server(&self, port: u16, settings: &[&str]) -> Command {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).args(["-p", &port.to_string()]);
        let sockets = format!("unix_socket_directories={}", self.home.folder.display());
        let connections = format!("max_connections={MAX_CONNECTIONS}");
        let common = ["listen_addresses=127.0.0.1", &sockets, &connections];
        for setting in common.iter().chain(settings) {
            command.args(["-c", setting]);
        }
        command
    }

    /// Returns `true` once the server accepts connections, and `false` if its port was taken.
    fn wait_until_ready(&self, server: &mut Child) -> Result<bool> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if let Some(status) = server.try_wait().context("failed to wait for the server")? {
                let log = read_lossy(&self.server_log());
                if reports_port_in_use(&log) {
                    return Ok(false);
                }
                bail!("the PostgreSQL server did not start ({status}):\n{log}");
            }
            if reports_ready(&read_lossy(&self.data().join("postmaster.pid"))) {
                return Ok(true);
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!("PostgreSQL was not ready within a minute:\n{}", read_lossy(&self.server_log()))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.home.binaries.program(program));
        // The user may not be able to enter the current folder. The locale keeps messages in
        // English.
        command.current_dir(&self.home.folder).env("LC_ALL", "C");
        if let Some(user) = self.home.user {
            user.apply(&mut command);
        }
        command
    }

    fn data(&self) -> PathBuf {
        self.home.folder.join(self.name)
    }

    fn server_log(&self) -> PathBuf {
        self.log("server")
    }

    fn log(&self, what: &str) -> PathBuf {
        self.home.folder.join(format!("{}-{what}.log", self.name))
    }
}

/// Returns `true` if the eighth line of `postmaster.pid` is `ready`, which `pg_ctl` checks too.
fn reports_ready(postmaster_pid: &str) -> bool {
    postmaster_pid.lines().nth(7).is_some_and(|state| state.trim() == "ready")
}

/// Returns `true` if the log says that the server's port is in use.
pub(crate) fn reports_port_in_use(log: &str) -> bool {
    log.contains("Address already in use") || log.contains("Address in use")
}

/// Finds a free port on 127.0.0.1.
pub(crate) fn free_port() -> Result<u16> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("failed to find a free port")?;
    Ok(listener.local_addr().context("failed to find a free port")?.port())
}

/// Reads a file as text, or returns an empty string if that fails.
pub(crate) fn read_lossy(file: &Path) -> String {
    fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Returns the folder for temporary files, or `/tmp` if the user cannot enter that folder or its
/// path is too long for a socket.
fn parent(user: Option<UnprivilegedUser>) -> PathBuf {
    let parent = env::temp_dir();
    let reachable = user.is_none() || parent.ancestors().all(is_open_to_all);
    if reachable && parent.as_os_str().len() <= MAX_FOLDER_LENGTH { parent } else { "/tmp".into() }
}

fn is_open_to_all(folder: &Path) -> bool {
    folder.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_is_read_from_postmaster_pid() {
        let started = "4711\n/tmp/x/data\n1767225600\n54321\n/tmp/x\n127.0.0.1\n   54321 0\n";
        assert!(!reports_ready(started));
        assert!(!reports_ready(&format!("{started}starting\n")));
        assert!(reports_ready(&format!("{started}ready   \n")));
        assert!(!reports_ready(""));
    }

    #[test]
    fn a_taken_port_is_distinguished_from_other_failures() {
        assert!(reports_port_in_use(
            "LOG:  could not bind IPv4 address \"127.0.0.1\": Address already in use"
        ));
        assert!(!reports_port_in_use("FATAL:  data directory has invalid permissions"));
    }

    #[test]
    fn a_private_folder_is_not_open() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!is_open_to_all(folder.path()));
        assert!(is_open_to_all(Path::new("/")));
    }
}
