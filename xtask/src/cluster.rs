//! Private, throw-away clusters of the PostgreSQL installed here.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::{Context, Result, bail};

use crate::account::Account;
use crate::binaries::Binaries;
use crate::session::Session;

/// Each test has a pool of its own.
pub(crate) const MAX_CONNECTIONS: u16 = 400;

/// Between finding a free port and the server's taking it, somebody else may.
const ATTEMPTS: usize = 5;

/// The longest folder for which the socket's path stays below the system's limit (104 on macOS).
const LONGEST_FOLDER: usize = 60;

/// A commit waits until it is applied by a replica, any that is there.
const WAIT_FOR_THE_REPLICA: [&str; 2] =
    ["synchronous_standby_names=*", "synchronous_commit=remote_apply"];

/// The replica applies a commit this long after the primary wrote it.
const APPLY_LATE: [&str; 1] = ["recovery_min_apply_delay=5ms"];

/// A folder for clusters.
///
/// They are as durable as PostgreSQL is by default, `fsync` included. Who reaches 127.0.0.1 may
/// use them, without a password.
#[derive(Debug)]
pub(crate) struct Clusters {
    binaries: Binaries,
    account: Option<Account>,
    folder: PathBuf,
}

impl Clusters {
    pub(crate) fn create(binaries: Binaries, session: &Session) -> Result<Self> {
        let account = Account::to_switch_to()?;
        let folder = session.create_folder(&parent(account), "composable-rust-pg-")?;
        if let Some(account) = account {
            account.own(&folder).context("giving the clusters' folder to their account")?;
        }
        Ok(Self { binaries, account, folder })
    }

    /// Starts a server on its own and returns its port on 127.0.0.1.
    pub(crate) fn start(&self, session: &Session) -> Result<u16> {
        let cluster = Cluster { home: self, name: "data" };
        cluster.init(session)?;
        cluster.start(&[], session)
    }

    /// Starts a server whose commits wait for a synchronous replica, at least 5 ms, and that
    /// replica; returns the server's port on 127.0.0.1.
    pub(crate) fn start_slow_commit(&self, session: &Session) -> Result<u16> {
        let primary = Cluster { home: self, name: "primary" };
        primary.init(session)?;
        let port = primary.start(&WAIT_FOR_THE_REPLICA, session)?;
        let replica = Cluster { home: self, name: "replica" };
        replica.copy_from(port, session)?;
        replica.start(&APPLY_LATE, session)?;
        Ok(port)
    }
}

/// One of them.
struct Cluster<'a> {
    home: &'a Clusters,
    name: &'static str,
}

impl Cluster<'_> {
    fn init(&self, session: &Session) -> Result<()> {
        let mut initdb = self.command("initdb");
        // Not synced: the cluster need not survive a power loss before its first commit.
        initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]);
        initdb.arg("--no-sync").arg("--pgdata").arg(self.data());
        self.make(&mut initdb, session)
    }

    /// Becomes a replica of the server on that port.
    fn copy_from(&self, port: u16, session: &Session) -> Result<()> {
        let mut copy = self.command("pg_basebackup");
        copy.args(["--host=127.0.0.1", &format!("--port={port}"), "--username=postgres"]);
        copy.args(["--no-password", "--checkpoint=fast", "--no-sync", "--write-recovery-conf"]);
        self.make(copy.arg("--pgdata").arg(self.data()), session)
    }

    fn make(&self, command: &mut Command, session: &Session) -> Result<()> {
        let log = self.log("making");
        if !session.run_logged(command, &log)?.success() {
            bail!("{} failed:\n{}", Path::new(command.get_program()).display(), contents(&log));
        }
        Ok(())
    }

    /// Starts its server and returns the port.
    fn start(&self, settings: &[&str], session: &Session) -> Result<u16> {
        for _ in 0..ATTEMPTS {
            let port = free_port()?;
            let mut command = self.server(port, settings);
            let mut server = session.spawn_server(&mut command, &self.server_log())?;
            if self.wait_until_ready(&mut server)? {
                session.reap_server("the PostgreSQL server", server);
                return Ok(port);
            }
            session.forget_server(&server)?;
        }
        bail!("each of {ATTEMPTS} free ports was taken by somebody else first")
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

    /// True once it takes connections, false if its port was taken.
    fn wait_until_ready(&self, server: &mut Child) -> Result<bool> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if let Some(status) = server.try_wait().context("waiting for the server")? {
                let log = contents(&self.server_log());
                if says_port_is_taken(&log) {
                    return Ok(false);
                }
                bail!("the PostgreSQL server did not start ({status}):\n{log}");
            }
            if says_ready(&contents(&self.data().join("postmaster.pid"))) {
                return Ok(true);
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!("PostgreSQL was not ready within a minute:\n{}", contents(&self.server_log()))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.home.binaries.program(program));
        // A folder that the account may be in; messages that we can read.
        command.current_dir(&self.home.folder).env("LC_ALL", "C");
        if let Some(account) = self.home.account {
            account.apply(&mut command);
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

/// The server writes its state in the eighth line; `pg_ctl` reads it there too.
fn says_ready(postmaster_pid: &str) -> bool {
    postmaster_pid.lines().nth(7).is_some_and(|state| state.trim() == "ready")
}

pub(crate) fn says_port_is_taken(log: &str) -> bool {
    log.contains("Address already in use") || log.contains("Address in use")
}

pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("looking for a port")?;
    Ok(listener.local_addr().context("looking for a port")?.port())
}

pub(crate) fn contents(file: &Path) -> String {
    fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// The folder for temporary files, unless the account cannot reach it or its name is too long
/// for a socket.
fn parent(account: Option<Account>) -> PathBuf {
    let parent = env::temp_dir();
    let reachable = account.is_none() || parent.ancestors().all(is_open_to_everybody);
    if reachable && parent.as_os_str().len() <= LONGEST_FOLDER { parent } else { "/tmp".into() }
}

fn is_open_to_everybody(folder: &Path) -> bool {
    folder.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_servers_state() {
        let started = "4711\n/tmp/x/data\n1767225600\n54321\n/tmp/x\n127.0.0.1\n   54321 0\n";
        assert!(!says_ready(started));
        assert!(!says_ready(&format!("{started}starting\n")));
        assert!(says_ready(&format!("{started}ready   \n")));
        assert!(!says_ready(""));
    }

    #[test]
    fn a_taken_port_is_told_from_other_failures() {
        assert!(says_port_is_taken(
            "LOG:  could not bind IPv4 address \"127.0.0.1\": Address already in use"
        ));
        assert!(!says_port_is_taken("FATAL:  data directory has invalid permissions"));
    }

    #[test]
    fn a_private_folder_is_not_open() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!is_open_to_everybody(folder.path()));
        assert!(is_open_to_everybody(Path::new("/")));
    }
}
