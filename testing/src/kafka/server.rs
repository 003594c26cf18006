//! The broker's programs and its process.

use std::env;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// The time within which a broker is ready, also beside other tests on a slow machine.
const START_LIMIT: Duration = Duration::from_secs(240);

/// Java and Kafka's jars.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    java: PathBuf,
    libs: PathBuf,
}

impl Programs {
    /// Reads `KAFKA_LIBS` and `KAFKA_JAVA`.
    pub(super) fn find() -> Self {
        let libs = env::var_os("KAFKA_LIBS").filter(|libs| !libs.is_empty()).unwrap_or_else(|| {
            panic!(
                "KAFKA_LIBS is not set: run `cargo xtask test`, which fetches Apache Kafka, or set \
                 it to the folder with its jars (`libs` of a release)"
            )
        });
        let home = env::var_os("JAVA_HOME").map(|home| PathBuf::from(home).join("bin/java"));
        let chosen = env::var_os("KAFKA_JAVA").map(PathBuf::from);
        Self { java: chosen.or(home).unwrap_or_else(|| "java".into()), libs: libs.into() }
    }

    /// A command that runs a main class of the jars; its output goes to a file.
    pub(super) fn java(&self, log: &Path) -> Command {
        let mut path = self.libs.clone().into_os_string();
        path.push("/*");
        let mut command = logged(&self.java, log);
        command.arg("-cp").arg(path);
        command
    }

    /// Java's `keytool`.
    pub(super) fn keytool(&self, log: &Path) -> Command {
        // `java` may be a link into the installation.
        let java = self.java.canonicalize().unwrap_or_else(|_| self.java.clone());
        let beside = java.with_file_name("keytool");
        logged(if beside.exists() { &beside } else { Path::new("keytool") }, log)
    }
}

fn logged(program: &Path, log: &Path) -> Command {
    let log = File::options().create(true).append(true).open(log).expect("the log is written");
    let copy = log.try_clone().expect("the log is shared");
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(log).stderr(copy).kill_on_drop(true);
    command
}

/// Runs a program that must succeed.
pub(super) async fn succeed(command: &mut Command, log: &Path) {
    let status = command.status().await;
    let ended_well = status.as_ref().is_ok_and(std::process::ExitStatus::success);
    assert!(ended_well, "{:?} ended with {status:?}:\n{}", command.as_std(), contents(log));
}

pub(super) fn contents(log: &Path) -> String {
    let contents = std::fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&contents).into_owned()
}

/// Ports that are free at the moment.
pub(super) async fn free_ports<const N: usize>() -> [u16; N] {
    // Held together, so that they differ.
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("there is a free port");
        *port = listener.local_addr().expect("a bound listener has an address").port();
        held.push(listener);
    }
    ports
}

/// Waits until the broker accepts requests. Returns `false` if its process ends instead.
pub(super) async fn wait_until_ready(process: &mut Child, port: u16, log: &Path) -> bool {
    let deadline = Instant::now() + START_LIMIT;
    while Instant::now() < deadline {
        if process.try_wait().expect("the process is ours").is_some() {
            return false;
        }
        if timeout(Duration::from_secs(5), asked(port)).await.is_ok_and(|asked| asked.is_ok()) {
            return true;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("the broker was not ready within {START_LIMIT:?}:\n{}", contents(log));
}

/// Requests the supported API versions (request 18, version 0).
async fn asked(port: u16) -> io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    // Length, request and its version, number, no name.
    stream.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff]).await?;
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).await?;
    if answer[4..] == [0, 0, 0, 7] { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}
