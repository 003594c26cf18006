//! Encrypted connections and logging in.

use std::time::Duration;

use composable_rust_redpanda::{ConnectError, RedpandaEventBusBuilder};
use composable_rust_testing::TestBroker;

use crate::brokers::builder;
use crate::fixtures::{messages, publish, subscribe, take, unique};

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

        let refused = login(settings(), "alice", "wrong").connect().await.unwrap_err();
        assert!(matches!(refused, ConnectError::Refused { .. }), "{mechanism}: {refused:?}");
    }
    // Nobody vouches for the broker here.
    let distrustful = builder(&broker.encrypted_brokers()).sasl_plain("alice", "alice-secret");
    let refused = distrustful.connect().await.unwrap_err();
    assert!(matches!(refused, ConnectError::Refused { .. }), "{refused:?}");
}
