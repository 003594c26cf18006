//! The alerts, fired by breaking the running shop and cleared by mending it, in a real Prometheus.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use composable_rust_testing::TestBroker;
use serde_json::Value;

use crate::support::{Running, ShopProcess, free_address, request, until};

struct Prometheus {
    addr: SocketAddr,
    _process: Running,
}

impl Prometheus {
    /// Starts Prometheus with the alerts of `deploy`, made [impatient](impatient).
    fn start(program: &Path, folder: &Path, shop: SocketAddr) -> Self {
        let rules = Path::new(env!("CARGO_MANIFEST_DIR"));
        let rules = rules.join("../../deploy/alerts/composable-rust.yaml");
        let rules = impatient(&fs::read_to_string(rules).unwrap());
        fs::write(folder.join("rules.yaml"), rules).unwrap();
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: [rules.yaml]\n\
             scrape_configs:\n- job_name: shop\n  static_configs: [{{targets: ['{shop}']}}]\n"
        );
        fs::write(folder.join("prometheus.yaml"), config).unwrap();
        let addr = free_address();
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", folder.join("prometheus.yaml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={addr}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let prometheus = Self { addr, _process: Running(command.spawn().unwrap()) };
        until("Prometheus is ready", || {
            request(addr, "GET /-/ready", "").is_some_and(|body| body.contains("Ready"))
        });
        prometheus
    }

    /// Returns the labels of the alerts of this name that fire.
    fn firing(&self, name: &str) -> Vec<Value> {
        let body = request(self.addr, "GET /api/v1/alerts", "").unwrap_or_default();
        let body: Value = serde_json::from_str(&body).unwrap_or_default();
        let alerts = body["data"]["alerts"].as_array().cloned().unwrap_or_default();
        let is_of =
            |alert: &Value| alert["labels"]["alertname"] == name && alert["state"] == "firing";
        alerts.into_iter().filter(is_of).map(|alert| alert["labels"].clone()).collect()
    }

    fn fires(&self, name: &str, label: (&str, &str)) {
        self.fires_while(name, label, || ());
    }

    /// Waits until an alert fires, and repeats an action until then.
    fn fires_while(&self, name: &str, label: (&str, &str), mut action: impl FnMut()) {
        until(&format!("{name} fires"), || {
            action();
            self.firing(name).iter().any(|labels| labels[label.0] == label.1)
        });
        println!("{name} fires for {}", label.1);
    }

    fn clears(&self, name: &str) {
        until(&format!("{name} clears"), || self.firing(name).is_empty());
        println!("{name} clears");
    }
}

/// Returns the rules so that alerts fire after seconds instead of minutes, and for few messages.
///
/// What they ask and of which metrics is unchanged.
fn impatient(rules: &str) -> String {
    let lines = rules.lines().map(|line| match line.split_once("for: ") {
        Some((indent, _)) if indent.trim().is_empty() => format!("{indent}for: 1s"),
        _ => line.to_owned(),
    });
    let mut text = lines.collect::<Vec<_>>().join("\n");
    for (patient, impatient) in [
        ("(composable_rust_relay_lag_seconds) > 60", "(composable_rust_relay_lag_seconds) > 5"),
        (
            "(composable_rust_queue_oldest_age_seconds) > 120",
            "(composable_rust_queue_oldest_age_seconds) > 5",
        ),
        ("(composable_rust_queue_depth) > 1000", "(composable_rust_queue_depth) > 20"),
        // The gauge is set every 15 seconds.
        ("[10m:1m]", "[40s:1s]"),
    ] {
        assert!(text.contains(patient), "no rule has {patient}");
        text = text.replace(patient, impatient);
    }
    text
}

fn program() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).map(|folder| folder.join("prometheus"));
    let found = found.into_iter().find(|path| path.is_file());
    if found.is_none() {
        eprintln!(
            "skipped: Prometheus is not installed (Debian, Ubuntu: apt-get install prometheus)"
        );
    }
    found
}

#[test]
fn alerts_fire_while_the_shop_is_broken_and_clear_when_it_is_mended() {
    let Some(program) = program() else { return };
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("shop.db");
    let store = format!("sqlite:{}", database.display());
    let mut shop = ShopProcess::new(&[("SHOP_STORE", &store)]);
    let prometheus = Prometheus::start(&program, folder.path(), shop.addr);

    // No process runs the payments.
    shop.start(&[("SHOP_SERVICES", "orders,shipping")]);
    shop.place(0..3);
    prometheus.fires("ComposableWorkerMissing", ("queue", "dispatch/payment"));
    shop.start(&[]);
    prometheus.clears("ComposableWorkerMissing");

    // The provider answers no charge.
    shop.start(&[("SHOP_PROVIDER_FAILURES", "100")]);
    shop.place(100..160);
    prometheus.fires("ComposableGatewayFailing", ("gateway", "provider"));
    shop.operate(&["gateways", "pause", "provider", "--reason", "test"]);
    prometheus.fires("ComposableGatewayPaused", ("gateway", "provider"));
    // The orders that are placed meanwhile wait for it.
    let mut orders = 1000..;
    prometheus.fires_while("ComposableQueueGrowing", ("queue", "call/provider"), || {
        let first = orders.nth(4).unwrap();
        shop.place(first - 4..first + 1);
    });
    shop.start(&[]);
    shop.operate(&["gateways", "resume", "provider", "--reason", "test"]);
    prometheus.clears("ComposableGatewayFailing");
    prometheus.clears("ComposableGatewayPaused");
    prometheus.clears("ComposableQueueGrowing");

    // The table of the read model is gone.
    let sql = |text: &str| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            use sqlx::Connection as _;
            let url = format!("sqlite:{}", database.display());
            let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
            sqlx::raw_sql(text).execute(&mut connection).await.unwrap();
        });
    };
    sql("alter table order_overview rename to lost");
    shop.place(200..203);
    prometheus.fires("ComposableProjectionFailed", ("projection", "order_overview"));
    sql("alter table lost rename to order_overview");
    shop.operate(&["projections", "resume", "order_overview", "--reason", "test"]);
    prometheus.clears("ComposableProjectionFailed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_fires_while_the_broker_is_away_and_clears_when_it_is_back() {
    let Some(program) = program() else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", folder.path().join("orders.db").display());
    let mut broker = TestBroker::start().await;
    let mut orders = ShopProcess::new(&[
        ("SHOP_SERVICES", "orders"),
        ("SHOP_STORE", &store),
        ("SHOP_BROKERS", &broker.brokers()),
    ]);
    let prometheus = Prometheus::start(&program, folder.path(), orders.addr);
    orders.start(&[]);
    orders.place(0..3);
    let relayed = || {
        let relays = orders.json(&["relays", "list"]);
        relays.as_array().unwrap().iter().all(|relay| relay["lag"] == 0)
    };
    until("the first events are published", relayed);

    broker.kill().await;
    orders.place(100..103);
    prometheus.fires("ComposableRelayLag", ("topic", "order-events"));
    prometheus.fires("ComposableQueueOld", ("queue", "send/bus"));
    broker.start_again().await;
    prometheus.clears("ComposableRelayLag");
    prometheus.clears("ComposableQueueOld");
    until("what waited for the broker is published", relayed);
}
