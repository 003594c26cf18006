//! A Kafka broker for one run.

use std::env;
use std::process::Command;

use anyhow::Result;

use crate::container::{self, Engine};
use crate::jars::{Jars, KAFKA_VERSION};
use crate::kraft::Kraft;
use crate::session::Session;

/// A broker on its way. It is taken down with everything else of the session, unless it was there
/// before.
#[derive(Debug)]
pub(crate) struct Starting {
    how: How,
    jars: Option<Jars>,
}

#[derive(Debug)]
enum How {
    Known(String),
    Kraft(Box<Kraft>),
}

/// A running broker.
#[derive(Debug)]
pub(crate) struct Kafka {
    brokers: String,
    /// For the brokers that tests start themselves.
    jars: Option<Jars>,
}

impl Kafka {
    /// The brokers that `KAFKA_BROKERS` names, else Redpanda in a container, else Apache Kafka from
    /// Maven Central on this machine's Java, which is installed if it is missing.
    ///
    /// It may not be ready: wait for it once everything else is started. Says in one line on
    /// standard error what it chose; standard output is the command's.
    ///
    /// # Errors
    ///
    /// Says what to install or set when there is no way to a broker.
    pub(crate) fn begin(session: &Session) -> Result<Starting> {
        if let Some(brokers) = env::var("KAFKA_BROKERS").ok().filter(|list| !list.is_empty()) {
            eprintln!("Kafka from KAFKA_BROKERS");
            return Ok(Starting { how: How::Known(brokers), jars: jars(session) });
        }
        if let Some(port) = start_container(session) {
            let brokers = format!("127.0.0.1:{port}");
            return Ok(Starting { how: How::Known(brokers), jars: jars(session) });
        }
        let jars = Jars::provide(session)?;
        let kraft = Kraft::begin(jars.clone(), session)?;
        Ok(Starting { how: How::Kraft(Box::new(kraft)), jars: Some(jars) })
    }

    /// Where it listens, as clients want it.
    pub(crate) fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Sets `KAFKA_BROKERS`, and for tests that start a broker of their own `KAFKA_LIBS` and
    /// `KAFKA_JAVA`.
    pub(crate) fn set(&self, command: &mut Command) {
        command.env("KAFKA_BROKERS", &self.brokers);
        if let Some(jars) = &self.jars {
            command.env("KAFKA_LIBS", &jars.libs).env("KAFKA_JAVA", &jars.java);
        }
    }
}

impl Starting {
    pub(crate) fn wait_until_ready(self, session: &Session) -> Result<Kafka> {
        let brokers = match self.how {
            How::Known(brokers) => brokers,
            How::Kraft(kraft) => {
                let port = kraft.wait_until_ready(session)?;
                eprintln!("Apache Kafka {KAFKA_VERSION} on 127.0.0.1:{port}");
                format!("127.0.0.1:{port}")
            }
        };
        Ok(Kafka { brokers, jars: self.jars })
    }
}

/// Tests that start a broker of their own fail without them, and say so.
fn jars(session: &Session) -> Option<Jars> {
    Jars::provide(session)
        .inspect_err(|error| eprintln!("xtask: no broker can be started by tests: {error:#}"))
        .ok()
}

/// `None` where no engine answers or it cannot start the image (it may be unable to fetch it).
fn start_container(session: &Session) -> Option<u16> {
    let engine = Engine::answering()?;
    match container::start_redpanda(engine, session) {
        Ok(port) => {
            eprintln!("Redpanda {} in {engine} on 127.0.0.1:{port}", container::REDPANDA_IMAGE);
            Some(port)
        }
        Err(error) => {
            eprintln!("xtask: {error:#}; using Apache Kafka instead");
            None
        }
    }
}
