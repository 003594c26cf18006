//! The Kafka broker that a run uses.

use std::env;
use std::process::Command;

use anyhow::Result;

use crate::container::{self, Engine};
use crate::kafka_jars::{KAFKA_VERSION, KafkaJars};
use crate::kafka_process::KafkaProcess;
use crate::session::Session;

/// A broker that may not be ready yet. The session's reaper stops it if this run started it.
#[derive(Debug)]
pub(crate) struct StartingKafka {
    source: BrokerSource,
    jars: Option<KafkaJars>,
}

#[derive(Debug)]
enum BrokerSource {
    /// The addresses of brokers that are ready.
    Running(String),
    /// A process of this run, which may not be ready.
    Started(Box<KafkaProcess>),
}

/// A running broker.
#[derive(Debug)]
pub(crate) struct Kafka {
    brokers: String,
    /// Used by tests that start their own broker.
    jars: Option<KafkaJars>,
}

impl Kafka {
    /// Starts a broker, unless `KAFKA_BROKERS` names one.
    ///
    /// Tries Redpanda in a container first, then Apache Kafka from Maven Central, with this
    /// machine's Java, which is installed if it is missing. Prints the choice to standard error,
    /// because standard output belongs to the user's command.
    ///
    /// The broker may not be ready on return. The caller starts everything else before it calls
    /// [`StartingKafka::wait_until_ready`].
    ///
    /// # Errors
    ///
    /// If no broker can be started. The message names the program to install or the variable to
    /// set.
    pub(crate) fn start(session: &Session) -> Result<StartingKafka> {
        if let Some(brokers) = env::var("KAFKA_BROKERS").ok().filter(|list| !list.is_empty()) {
            eprintln!("using the Kafka brokers in KAFKA_BROKERS");
            return Ok(StartingKafka {
                source: BrokerSource::Running(brokers),
                jars: jars(session),
            });
        }
        if let Some(port) = start_container(session) {
            let brokers = format!("127.0.0.1:{port}");
            return Ok(StartingKafka {
                source: BrokerSource::Running(brokers),
                jars: jars(session),
            });
        }
        let jars = KafkaJars::provision(session)?;
        let process = KafkaProcess::start(jars.clone(), session)?;
        Ok(StartingKafka { source: BrokerSource::Started(Box::new(process)), jars: Some(jars) })
    }

    /// The addresses for clients, as in `bootstrap.servers`.
    pub(crate) fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Sets `KAFKA_BROKERS` for a command, and `KAFKA_LIBS` and `KAFKA_JAVA` for tests that start
    /// their own broker.
    pub(crate) fn set_env(&self, command: &mut Command) {
        command.env("KAFKA_BROKERS", &self.brokers);
        if let Some(jars) = &self.jars {
            command.env("KAFKA_LIBS", &jars.libs).env("KAFKA_JAVA", &jars.java);
        }
    }
}

impl StartingKafka {
    /// Waits until the broker accepts requests.
    pub(crate) fn wait_until_ready(self, session: &Session) -> Result<Kafka> {
        let brokers = match self.source {
            BrokerSource::Running(brokers) => brokers,
            BrokerSource::Started(process) => {
                let port = process.wait_until_ready(session)?;
                eprintln!("Apache Kafka {KAFKA_VERSION} on 127.0.0.1:{port}");
                format!("127.0.0.1:{port}")
            }
        };
        Ok(Kafka { brokers, jars: self.jars })
    }
}

/// Returns the jars for tests that start their own broker. Without jars, those tests fail.
fn jars(session: &Session) -> Option<KafkaJars> {
    KafkaJars::provision(session)
        .inspect_err(|error| {
            eprintln!("xtask: tests that start their own broker will fail: {error:#}");
        })
        .ok()
}

/// Starts Redpanda in a container and returns its port.
///
/// Returns `None` if that is impossible, for example because no container engine runs.
fn start_container(session: &Session) -> Option<u16> {
    let engine = Engine::running()?;
    match container::start_redpanda(engine, session) {
        Ok(port) => {
            eprintln!("Redpanda {} in {engine} on 127.0.0.1:{port}", container::REDPANDA_IMAGE);
            Some(port)
        }
        Err(error) => {
            eprintln!("xtask: {error:#}; starting Apache Kafka instead");
            None
        }
    }
}
