//! PostgreSQL in a container.

use std::fmt;
use std::process::{self, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::cluster::MAX_CONNECTIONS;
use crate::program;
use crate::session::Session;

/// The image to run.
pub(crate) const IMAGE: &str = "postgres:17";

/// A container engine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Engine(&'static str);

impl Engine {
    /// One that is installed and answers: a client without its daemon does not count.
    pub(crate) fn answering() -> Option<Self> {
        ["docker", "podman"].into_iter().map(Self).find(|engine| {
            let limit = Duration::from_secs(10);
            program::find(engine.0).is_some()
                && program::succeeds_within(limit, Command::new(engine.0).arg("info"))
        })
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Starts the server and returns its port on 127.0.0.1.
pub(crate) fn start(engine: Engine, session: &Session) -> Result<u16> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let name = format!("composable-rust-{}-{}", process::id(), now.as_nanos());
    session.remove_container_later(engine.0, &name)?;
    let mut run = Command::new(engine.0);
    run.args(["run", "--detach", "--name", &name, "--publish", "127.0.0.1::5432"])
        .args(["--env", "POSTGRES_HOST_AUTH_METHOD=trust", "--shm-size", "256m", IMAGE])
        .args(["-c", &format!("max_connections={MAX_CONNECTIONS}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    if !session.run_apart(&mut run)?.success() {
        bail!("{engine} could not start {IMAGE}");
    }
    wait_until_ready(engine, &name)?;
    let output = Command::new(engine.0).args(["port", &name, "5432/tcp"]).output()?;
    port(&String::from_utf8_lossy(&output.stdout)).context("the container has no port")
}

/// The image's first server, which sets the database up, listens on a socket file alone; asking
/// by address finds the second one.
fn wait_until_ready(engine: Engine, name: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut ask = Command::new(engine.0);
    ask.args(["exec", name, "pg_isready", "--host", "127.0.0.1", "--username", "postgres"]);
    while !program::succeeds_within(Duration::from_secs(10), &mut ask) {
        if Instant::now() > deadline {
            bail!("PostgreSQL in container {name} was not ready within a minute");
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Reads what `docker port` prints.
fn port(output: &str) -> Option<u16> {
    output.lines().find_map(|line| line.trim().rsplit_once(':')?.1.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_port() {
        assert_eq!(port("127.0.0.1:49153\n"), Some(49153));
        assert_eq!(port("0.0.0.0:32768\n[::]:32768\n"), Some(32768));
        assert_eq!(port("Error: No public port '5432/tcp' published"), None);
    }
}
