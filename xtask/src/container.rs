//! PostgreSQL and Redpanda in containers.

use std::fmt;
use std::process::{self, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::cluster::{MAX_CONNECTIONS, free_port};
use crate::program;
use crate::session::Session;

/// The PostgreSQL image.
pub(crate) const IMAGE: &str = "postgres:17";
/// The Redpanda image.
pub(crate) const REDPANDA_IMAGE: &str = "redpandadata/redpanda:v24.3.1";

/// A container engine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Engine(&'static str);

impl Engine {
    /// Returns an engine that is installed and whose daemon responds.
    pub(crate) fn running() -> Option<Self> {
        ["docker", "podman"].into_iter().map(Self).find(|engine| {
            let timeout = Duration::from_secs(10);
            program::find(engine.0).is_some()
                && program::succeeds_within(timeout, Command::new(engine.0).arg("info"))
        })
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Starts PostgreSQL and returns its port on 127.0.0.1.
pub(crate) fn start(engine: Engine, session: &Session) -> Result<u16> {
    let name = new_name(engine, session)?;
    let mut run = Command::new(engine.0);
    run.args(["run", "--detach", "--name", &name, "--publish", "127.0.0.1::5432"])
        .args(["--env", "POSTGRES_HOST_AUTH_METHOD=trust", "--shm-size", "256m", IMAGE])
        .args(["-c", &format!("max_connections={MAX_CONNECTIONS}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    if !session.run_in_group(&mut run)?.success() {
        bail!("{engine} failed to start {IMAGE}");
    }
    wait_until_ready(engine, &name)?;
    let output = Command::new(engine.0).args(["port", &name, "5432/tcp"]).output()?;
    port(&String::from_utf8_lossy(&output.stdout)).context("the container has no port")
}

/// Starts Redpanda and returns its port on 127.0.0.1.
///
/// The port is chosen here, because Redpanda advertises it to its clients.
pub(crate) fn start_redpanda(engine: Engine, session: &Session) -> Result<u16> {
    let name = new_name(engine, session)?;
    let port = free_port()?;
    let mut run = Command::new(engine.0);
    run.args(["run", "--detach", "--name", &name])
        .args(["--publish", &format!("127.0.0.1:{port}:{port}"), REDPANDA_IMAGE])
        .args(["redpanda", "start", "--mode", "dev-container", "--smp", "1", "--memory", "1G"])
        .args(["--kafka-addr", &format!("PLAINTEXT://0.0.0.0:{port}")])
        .args(["--advertise-kafka-addr", &format!("PLAINTEXT://127.0.0.1:{port}")])
        .args(["--set", "redpanda.auto_create_topics_enabled=false"])
        .args(["--set", "redpanda.group_initial_rebalance_delay=0"])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    if !session.run_in_group(&mut run)?.success() {
        bail!("{engine} failed to start {REDPANDA_IMAGE}");
    }
    let mut probe = Command::new(engine.0);
    probe.args(["exec", &name, "rpk", "cluster", "health", "--exit-when-healthy"]);
    wait_until(&mut probe, &format!("Redpanda in container {name}"))?;
    Ok(port)
}

/// Returns a new container name, after registering the container with the reaper.
fn new_name(engine: Engine, session: &Session) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let name = format!("composable-rust-{}-{}", process::id(), now.as_nanos());
    session.register_container(engine.0, &name)?;
    Ok(name)
}

/// Waits until PostgreSQL accepts TCP connections.
///
/// While the image sets up the database, it runs a first server that listens on a Unix socket only.
/// Connecting by address waits for the second one.
fn wait_until_ready(engine: Engine, name: &str) -> Result<()> {
    let mut probe = Command::new(engine.0);
    probe.args(["exec", name, "pg_isready", "--host", "127.0.0.1", "--username", "postgres"]);
    wait_until(&mut probe, &format!("PostgreSQL in container {name}"))
}

/// Runs `probe` until it succeeds.
fn wait_until(probe: &mut Command, what: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !program::succeeds_within(Duration::from_secs(10), probe) {
        if Instant::now() > deadline {
            bail!("{what} was not ready within a minute");
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Parses the output of `docker port`.
fn port(output: &str) -> Option<u16> {
    output.lines().find_map(|line| line.trim().rsplit_once(':')?.1.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_parsed() {
        assert_eq!(port("127.0.0.1:49153\n"), Some(49153));
        assert_eq!(port("0.0.0.0:32768\n[::]:32768\n"), Some(32768));
        assert_eq!(port("Error: No public port '5432/tcp' published"), None);
    }
}
