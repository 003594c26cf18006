//! The three services as processes, each with a database of its own, and a broker between them.

use composable_rust_testing::TestDatabase;

use crate::support::ShopProcess;

/// The services: orders, payments, shipping.
pub(crate) struct Services {
    pub(crate) databases: [TestDatabase; 3],
    pub(crate) processes: [ShopProcess; 3],
    pub(crate) brokers: String,
    /// The beginning of the names of their topics.
    pub(crate) prefix: String,
}

impl Services {
    /// Creates processes that are not started, with these variables.
    pub(crate) async fn new(variables: &[(&'static str, String)]) -> Self {
        let names = ["orders", "payments", "shipping"];
        let databases = futures_util::future::join_all(names.map(|_| TestDatabase::create())).await;
        let databases: [TestDatabase; 3] = databases.try_into().unwrap();
        let (brokers, prefix) = (brokers(), format!("{}.", databases[0].name()));
        let processes = std::array::from_fn(|index| {
            let (name, store) = (names[index], databases[index].url());
            let own = [
                ("SHOP_SERVICES", name),
                ("SHOP_STORE", &*store),
                ("SHOP_BROKERS", &*brokers),
                ("SHOP_TOPIC_PREFIX", &*prefix),
                ("OTEL_SERVICE_NAME", name),
            ];
            let others = variables.iter().map(|(name, value)| (*name, &**value));
            ShopProcess::new(&own.into_iter().chain(others).collect::<Vec<_>>())
        });
        Self { databases, processes, brokers, prefix }
    }
}

/// Returns the address of the broker that `cargo xtask test` starts.
fn brokers() -> String {
    std::env::var("KAFKA_BROKERS").ok().filter(|brokers| !brokers.is_empty()).unwrap_or_else(|| {
        panic!(
            "KAFKA_BROKERS is not set: run `cargo xtask test`, which starts a broker, or set it to \
             the address of one, for example localhost:9092"
        )
    })
}
