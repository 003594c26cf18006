//! A private, throw-away Apache Kafka broker.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cargo;
use crate::cluster::{contents, free_port, says_port_is_taken};
use crate::jars::Jars;
use crate::session::Session;

/// Between finding a free port and the broker's taking it, somebody else may.
const ATTEMPTS: usize = 5;

/// Any will do; it is written to the data.
const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qg";

/// A broker that was started and may not be ready.
#[derive(Debug)]
pub(crate) struct Kraft {
    jars: Jars,
    folder: PathBuf,
    process: Child,
    port: u16,
}

impl Kraft {
    /// Starts a broker and does not wait for it.
    pub(crate) fn begin(jars: Jars, session: &Session) -> Result<Self> {
        let target = cargo::root().join("target");
        fs::create_dir_all(&target).with_context(|| format!("making {}", target.display()))?;
        let folder = session.create_folder(&target, "kafka-data-")?;
        let (process, port) = start(&jars, &folder, session)?;
        Ok(Self { jars, folder, process, port })
    }

    /// Waits until it answers, and returns its port on 127.0.0.1.
    pub(crate) fn wait_until_ready(mut self, session: &Session) -> Result<u16> {
        for _ in 0..ATTEMPTS {
            if self.is_ready()? {
                session.reap_server("the Kafka broker", self.process);
                return Ok(self.port);
            }
            session.forget_server(&self.process)?;
            (self.process, self.port) = start(&self.jars, &self.folder, session)?;
        }
        bail!("each of {ATTEMPTS} free ports was taken by somebody else first")
    }

    /// True once it answers, false if a port of its was taken.
    fn is_ready(&mut self) -> Result<bool> {
        let log = self.folder.join("broker.log");
        let deadline = Instant::now() + Duration::from_secs(90);
        while Instant::now() < deadline {
            if let Some(status) = self.process.try_wait().context("waiting for the broker")? {
                let log = contents(&log);
                if says_port_is_taken(&log) {
                    return Ok(false);
                }
                bail!("the Kafka broker did not start ({status}):\n{log}");
            }
            if answers(self.port) {
                return Ok(true);
            }
            thread::sleep(Duration::from_millis(50));
        }
        bail!("the Kafka broker was not ready within 90 seconds:\n{}", contents(&log))
    }
}

fn start(jars: &Jars, folder: &Path, session: &Session) -> Result<(Child, u16)> {
    let (port, controller) = (free_port()?, free_port()?);
    let settings = folder.join("server.properties");
    fs::write(&settings, properties(folder, port, controller)).context("writing the settings")?;
    let logging = folder.join("log4j2.properties");
    fs::write(&logging, LOGGING).context("writing the settings")?;
    if !folder.join("data").exists() {
        let mut format = jars.command();
        format.args(["kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER_ID, "--config"]);
        let log = folder.join("format.log");
        if !session.run_logged(format.arg(&settings), &log)?.success() {
            bail!("the Kafka broker's folder could not be made:\n{}", contents(&log));
        }
    }
    let mut broker = jars.command();
    broker.arg("-Xmx512m").arg(format!("-Dlog4j2.configurationFile={}", logging.display()));
    broker.arg("kafka.Kafka").arg(&settings);
    let process = session.spawn_broker(&mut broker, &folder.join("broker.log"))?;
    Ok((process, port))
}

/// One node that is everything. Who reaches 127.0.0.1 may use it. Topics are not made by asking for
/// them, so that whoever relies on that is found out.
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

/// Warnings and errors, to standard output.
const LOGGING: &str = "\
rootLogger.level=WARN
rootLogger.appenderRef.console.ref=console
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d %p %c{1} %m%n
";

/// Asks which versions of requests it takes (request 18 in version 0), and looks for an answer to
/// that.
fn answers(port: u16) -> bool {
    let ask = || {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        // Length, request and its version, number, no name.
        stream.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff])?;
        let mut answer = [0; 8];
        stream.read_exact(&mut answer)?;
        std::io::Result::Ok(answer[4..] == [0, 0, 0, 7])
    };
    ask().unwrap_or(false)
}
