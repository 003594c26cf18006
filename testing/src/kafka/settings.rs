//! The configuration of a broker.

use std::path::Path;

/// The user of the encrypted listener.
#[derive(Debug, Clone)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: String,
}

/// The ports of a broker on 127.0.0.1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub(super) plain: u16,
    pub(super) controller: u16,
    pub(super) encrypted: u16,
}

/// The password of the broker's key store, which no other program uses.
pub(super) const STORE_PASSWORD: &str = "of-a-test";

/// A single node with all roles. Topics are not created on demand, so that code that relies on it
/// fails.
pub(super) fn properties(folder: &Path, ports: Ports, login: Option<&Login>) -> String {
    let Ports { plain, controller, encrypted } = ports;
    let folder = folder.display();
    let mut listeners = format!("PLAINTEXT://127.0.0.1:{plain}");
    let mut rest = String::new();
    if let Some(Login { user, password }) = login {
        listeners = format!("{listeners},SASL_SSL://127.0.0.1:{encrypted}");
        let security = "org.apache.kafka.common.security";
        rest = format!(
            "ssl.keystore.location={folder}/broker.p12\n\
             ssl.keystore.type=PKCS12\n\
             ssl.keystore.password={STORE_PASSWORD}\n\
             sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n\
             listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=\
             {security}.scram.ScramLoginModule required;\n\
             listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=\
             {security}.scram.ScramLoginModule required;\n\
             listener.name.sasl_ssl.plain.sasl.jaas.config=\
             {security}.plain.PlainLoginModule required user_{user}=\"{password}\";\n"
        );
    }
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners={listeners},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners={listeners}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=\
         PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL\n\
         log.dirs={folder}/data\n\
         auto.create.topics.enable=false\n\
         offsets.topic.replication.factor=1\n\
         offsets.topic.num.partitions=4\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         transaction.state.log.num.partitions=4\n\
         group.initial.rebalance.delay.ms=0\n\
         {rest}"
    )
}

/// Logs warnings and errors to standard output.
pub(super) const LOGGING: &str = "\
rootLogger.level=WARN
rootLogger.appenderRef.console.ref=console
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d %p %c{1} %m%n
";
