//! The alerts, fired by breaking the running shop and cleared by mending it, in a real Prometheus.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{Running, ShopProcess, free_address, request, until};

struct Prometheus {
    addr: SocketAddr,
    _process: Running,
}

impl Prometheus {
    /// Starts Prometheus with the alerts of `deploy`, which fire at once instead of after minutes.
    fn start(program: &Path, folder: &Path, shop: SocketAddr) -> Self {
        let rules = Path::new(env!("CARGO_MANIFEST_DIR"));
        let rules = rules.join("../../deploy/alerts/composable-rust.yaml");
        let quick: Vec<_> = fs::read_to_string(rules)
            .unwrap()
            .lines()
            .map(|line| match line.split_once("for: ") {
                Some((indent, _)) if indent.trim().is_empty() => format!("{indent}for: 1s"),
                _ => line.to_owned(),
            })
            .collect();
        fs::write(folder.join("rules.yaml"), quick.join("\n")).unwrap();
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
        until(&format!("{name} fires"), || {
            self.firing(name).iter().any(|labels| labels[label.0] == label.1)
        });
        println!("{name} fires for {}", label.1);
    }

    fn clears(&self, name: &str) {
        until(&format!("{name} clears"), || self.firing(name).is_empty());
        println!("{name} clears");
    }
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
    shop.start(&[]);
    shop.operate(&["gateways", "resume", "provider", "--reason", "test"]);
    prometheus.clears("ComposableGatewayFailing");
    prometheus.clears("ComposableGatewayPaused");

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
