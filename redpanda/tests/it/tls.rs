//! Encrypted connections and authentication.

use std::time::Duration;

use composable_rust_core::bus::EventBus as _;
use composable_rust_redpanda::RedpandaEventBusBuilder;
use composable_rust_testing::TestBroker;

use crate::brokers::builder;
use crate::fixtures::{message, messages, publish, subscribe, take, unique};

type Login = fn(RedpandaEventBusBuilder, &str, &str) -> RedpandaEventBusBuilder;

const LOGINS: [(&str, Login); 3] = [
    ("PLAIN", |builder, user, password| builder.sasl_plain(user, password)),
    ("SCRAM-SHA-256", |builder, user, password| builder.sasl_scram_256(user, password)),
    ("SCRAM-SHA-512", |builder, user, password| builder.sasl_scram_512(user, password)),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_accept_the_right_password_and_reject_a_wrong_one() {
    let broker = TestBroker::start_encrypted("alice", "alice-secret").await;
    let settings = || {
        builder(&broker.encrypted_brokers())
            .connect_timeout(Duration::from_secs(10))
            .tls_authorities(broker.authority())
    };
    for (mechanism, login) in LOGINS {
        let bus = login(settings(), "alice", "alice-secret").connect().await;
        let bus = bus.unwrap_or_else(|error| panic!("{mechanism}: {error:?}"));
        let topic = unique("orders");
        publish(&bus, messages(&topic, "k", 3)).await;
        let taken = take(&mut subscribe(&bus, &unique("billing"), &topic).await, 3).await;
        assert_eq!(taken, messages(&topic, "k", 3), "{mechanism}");

        let error = publish_error(login(settings(), "alice", "wrong")).await;
        assert!(error.contains("uthentication"), "{mechanism}: {error}");
    }
    // Without the broker's certificate authority, the client does not trust the broker.
    let distrustful = builder(&broker.encrypted_brokers()).sasl_plain("alice", "alice-secret");
    let error = publish_error(distrustful).await;
    assert!(error.contains("SSL"), "{error}");
}

/// Publishes a message, which fails, and returns the causes of the error.
async fn publish_error(settings: RedpandaEventBusBuilder) -> String {
    let settings = settings.create_topics(false).publish_timeout(Duration::from_secs(5));
    let bus = settings.connect().await.expect("the bus opens without asking a broker");
    let error = bus.publish(message(&unique("orders"), "k", 0)).await.unwrap_err();
    let mut causes = std::iter::successors(std::error::Error::source(&error), |e| e.source());
    causes.by_ref().map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
