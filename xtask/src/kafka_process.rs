//! A throw-away Apache Kafka broker.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cargo;
use crate::cluster::{free_port, read_lossy, reports_port_in_use};
use crate::kafka_jars::KafkaJars;
use crate::session::Session;

/// The number of ports to try, because another process may take a free port before the broker does.
const MAX_ATTEMPTS: usize = 5;

/// The cluster id in the broker's data. Its value does not matter.
const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qg";

/// A broker process that may not be ready yet.
#[derive(Debug)]
pub(crate) struct KafkaProcess {
    jars: KafkaJars,
    folder: PathBuf,
    process: Child,
    port: u16,
}

impl KafkaProcess {
    /// Starts a broker without waiting until it is ready.
    pub(crate) fn start(jars: KafkaJars, session: &Session) -> Result<Self> {
        let target = cargo::root().join("target");
        fs::create_dir_all(&target)
            .with_context(|| format!("failed to create {}", target.display()))?;
        let folder = session.create_folder(&target, "kafka-data-")?;
        let (process, port) = spawn(&jars, &folder, session)?;
        Ok(Self { jars, folder, process, port })
    }

    /// Waits until the broker answers a request, and returns its port on 127.0.0.1.
    pub(crate) fn wait_until_ready(mut self, session: &Session) -> Result<u16> {
        for _ in 0..MAX_ATTEMPTS {
            if self.is_ready()? {
                session.watch_server("the Kafka broker", self.process);
                return Ok(self.port);
            }
            session.unregister_server(&self.process)?;
            (self.process, self.port) = spawn(&self.jars, &self.folder, session)?;
        }
        bail!("other processes took each of {MAX_ATTEMPTS} free ports first")
    }

    /// Returns `true` once the broker answers, and `false` if one of its ports was taken.
    fn is_ready(&mut self) -> Result<bool> {
        let log = self.folder.join("broker.log");
        let deadline = Instant::now() + Duration::from_secs(90);
        while Instant::now() < deadline {
            if let Some(status) =
                self.process.try_wait().context("failed to wait for the broker")?
            {
                let log = read_lossy(&log);
                if reports_port_in_use(&log) {
                    return Ok(false);
                }
                bail!("the Kafka broker did not start ({status}):\n{log}");
            }
            if answers(self.port) {
                return Ok(true);
            }
            thread::sleep(Duration::from_millis(50));
        }
        bail!("the Kafka broker was not ready within 90 seconds:\n{}", read_lossy(&log))
    }
}

fn spawn(jars: &KafkaJars, folder: &Path, session: &Session) -> Result<(Child, u16)> {
    let (port, controller) = (free_port()?, free_port()?);
    let settings = folder.join("server.properties");
    fs::write(&settings, properties(folder, port, controller))
        .context("failed to write the broker's settings")?;
    let logging = folder.join("log4j2.properties");
    fs::write(&logging, LOGGING).context("failed to write the broker's settings")?;
    if !folder.join("data").exists() {
        let mut format = jars.command();
        format.args(["kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER_ID, "--config"]);
        let log = folder.join("format.log");
        if !session.run_logged(format.arg(&settings), &log)?.success() {
            bail!("failed to create the Kafka broker's data folder:\n{}", read_lossy(&log));
        }
    }
    let mut broker = jars.command();
    broker.arg("-Xmx512m").arg(format!("-Dlog4j2.configurationFile={}", logging.display()));
    broker.arg("kafka.Kafka").arg(&settings);
    let process = session.spawn_broker(&broker, &folder.join("broker.log"))?;
    Ok((process, port))
}

/// Returns the settings of a single node that is broker and controller, open to all local users.
///
/// The broker does not create topics automatically, so that code that relies on it fails.
fn properties(folder: &Path, port: u16, controller: u16) -> String {
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         log.dirs={}\n\
         auto.create.topics.enable=false\n\
         offsets.topic.replication.factor=1\n\
         offsets.topic.num.partitions=4\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         transaction.state.log.num.partitions=4\n\
         group.initial.rebalance.delay.ms=0\n",
        folder.join("data").display()
    )
}

/// Logging configuration: warnings and errors go to standard output.
const LOGGING: &str = "\
rootLogger.level=WARN
rootLogger.appenderRef.console.ref=console
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d %p %c{1} %m%n
";

/// Returns `true` if the broker replies to an `ApiVersions` request (API key 18, version 0).
fn answers(port: u16) -> bool {
    let request = || {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        // Length, API key, API version, correlation id 7, no client id.
        stream.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff])?;
        let mut response = [0; 8];
        stream.read_exact(&mut response)?;
        std::io::Result::Ok(response[4..] == [0, 0, 0, 7])
    };
    request().unwrap_or(false)
}
