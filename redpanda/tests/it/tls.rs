//! Encrypted connections and logging in.

use std::time::Duration;

use composable_rust_core::EventBus as _;
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
async fn who_knows_the_password_is_let_in() {
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

        let refused = refused(login(settings(), "alice", "wrong")).await;
        assert!(refused.contains("uthentication"), "{mechanism}: {refused}");
    }
    // Nobody vouches for the broker here.
    let distrustful = builder(&broker.encrypted_brokers()).sasl_plain("alice", "alice-secret");
    let refused = refused(distrustful).await;
    assert!(refused.contains("SSL"), "{refused}");
}

/// Why nothing can be published.
async fn refused(settings: RedpandaEventBusBuilder) -> String {
    let settings = settings.create_topics(false).publish_timeout(Duration::from_secs(5));
    let bus = settings.connect().await.expect("it opens, whoever answers");
    let error = bus.publish(message(&unique("orders"), "k", 0)).await.unwrap_err();
    let mut causes = std::iter::successors(std::error::Error::source(&error), |e| e.source());
    causes.by_ref().map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
