//! The services as processes of this program, with all telemetry on.

use std::fs::{File, OpenOptions};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
use tokio::process::{Child, Command};

use super::client::http;
use crate::config::{Config, Service};
use crate::shop::Shop;

/// The time within which a process starts or stops.
const LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// The servers that the processes use.
#[derive(Debug, Clone, Default)]
pub(super) struct Servers {
    /// The URL of a PostgreSQL server, with the right to create databases; `None` for SQLite.
    pub(super) database: Option<String>,
    /// The Kafka brokers; `None` if each process runs all services on one store.
    pub(super) brokers: Option<String>,
}

impl Servers {
    /// Reads `DATABASE_URL` and `KAFKA_BROKERS`.
    pub(super) fn from_env() -> Self {
        let read = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self { database: read("DATABASE_URL"), brokers: read("KAFKA_BROKERS") }
    }
}

/// The processes of a load. They are killed when it is dropped.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) processes: Vec<ServiceProcess>,
    servers: Servers,
    databases: Vec<String>,
    folder: PathBuf,
}

/// The sizes of the stores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// The tables and indexes, with what is not vacuumed yet.
    pub data_bytes: u64,
    /// The write-ahead log; 0 for SQLite.
    pub wal_bytes: u64,
}

impl Disk {
    /// Returns the growth since an earlier look.
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            data_bytes: self.data_bytes.saturating_sub(earlier.data_bytes),
            wal_bytes: self.wal_bytes.saturating_sub(earlier.wal_bytes),
        }
    }
}

/// One process.
#[derive(Debug)]
pub(super) struct ServiceProcess {
    /// The name, such as `orders-2`.
    pub(super) name: String,
    addr: SocketAddr,
    variables: Vec<(String, String)>,
    log: PathBuf,
    child: Option<Child>,
}

impl Fleet {
    /// Creates the stores and starts `replicas` processes of each service. Their logs go into
    /// `folder`, as do the files of SQLite. `telemetry` is the address of the collector.
    pub(super) async fn start(
        servers: Servers,
        replicas: usize,
        folder: &Path,
        telemetry: SocketAddr,
    ) -> anyhow::Result<Self> {
        let (processes, databases) = (Vec::new(), Vec::new());
        let mut fleet = Self { processes, servers, databases, folder: folder.to_owned() };
        let services: Vec<(&str, &str)> = match fleet.servers.brokers {
            Some(_) => Service::ALL.map(|service| (service.name(), service.name())).into(),
            None => vec![("shop", "orders,payments,shipping")],
        };
        // New groups would read what an earlier load left at the brokers.
        let topics = format!("load-{}.", uuid::Uuid::new_v4().simple());
        for (name, services) in services {
            let store = fleet.create_store(name).await?;
            for replica in 1..=replicas {
                let name = format!("{name}-{replica}");
                let addr = free_address()?;
                let mut variables = vec![
                    ("SHOP_SERVICES", services.to_owned()),
                    ("SHOP_STORE", store.clone()),
                    ("SHOP_LISTEN", addr.to_string()),
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{telemetry}")),
                    ("LOG_FORMAT", "json".to_owned()),
                ];
                if let Some(brokers) = fleet.servers.brokers.clone() {
                    let prefix = topics.clone();
                    variables.extend([("SHOP_BROKERS", brokers), ("SHOP_TOPIC_PREFIX", prefix)]);
                }
                let variables =
                    variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
                let log = folder.join(format!("{name}.log"));
                File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
                let mut process = ServiceProcess { name, addr, variables, log, child: None };
                // One after the other, because the first creates the tables.
                process.start().await?;
                fleet.processes.push(process);
            }
        }
        Ok(fleet)
    }

    async fn create_store(&mut self, name: &str) -> anyhow::Result<String> {
        let Some(url) = &self.servers.database else {
            let file = self.folder.join(format!("{name}-{}.db", uuid::Uuid::new_v4().simple()));
            return Ok(format!("sqlite:{}", file.display()));
        };
        let options: PgConnectOptions = url.parse().context("DATABASE_URL")?;
        let database = format!("load_{name}_{}", uuid::Uuid::new_v4().simple());
        let mut server = PgConnection::connect_with(&options).await.context("DATABASE_URL")?;
        server.execute(&*format!("create database {database}")).await?;
        self.databases.push(database.clone());
        Ok(options.database(&database).to_url_lossy().to_string())
    }

    /// Returns the present sizes of the stores.
    pub(super) async fn disk(&self) -> anyhow::Result<Disk> {
        let Some(url) = &self.servers.database else {
            let files = std::fs::read_dir(&self.folder)?.filter_map(Result::ok);
            let files = files.filter(|file| file.file_name().to_string_lossy().contains(".db"));
            let data_bytes = files.filter_map(|file| Some(file.metadata().ok()?.len())).sum();
            return Ok(Disk { data_bytes, wal_bytes: 0 });
        };
        let mut server = PgConnection::connect(url).await.context("DATABASE_URL")?;
        let sizes = "select coalesce(sum(pg_database_size(datname)), 0)::bigint,
            pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint
            from pg_database where datname = any($1)";
        let sizes = sqlx::query_as::<_, (i64, i64)>(sizes).bind(&self.databases);
        let (data, wal) = sizes.fetch_one(&mut server).await?;
        Ok(Disk { data_bytes: data.unsigned_abs(), wal_bytes: wal.unsigned_abs() })
    }

    /// Returns the URLs of all processes.
    pub(super) fn urls(&self) -> Vec<String> {
        self.processes.iter().map(|process| format!("http://{}", process.addr)).collect()
    }

    /// Returns the URLs of the processes that run the orders.
    pub(super) fn order_urls(&self) -> Vec<String> {
        let has_orders = |process: &&ServiceProcess| {
            process.variables.iter().any(|(name, value)| {
                name == "SHOP_SERVICES" && value.starts_with(Service::Orders.name())
            })
        };
        let processes = self.processes.iter().filter(has_orders);
        processes.map(|process| format!("http://{}", process.addr)).collect()
    }

    /// Opens the app of each store, without workers.
    pub(super) async fn open_shops(&self) -> anyhow::Result<Vec<Shop>> {
        let mut shops = Vec::new();
        for process in self.processes.iter().filter(|process| process.name.ends_with("-1")) {
            let config = Config::from_variables(process.variables.clone())?;
            shops.push(Shop::open(&config).await?);
        }
        Ok(shops)
    }

    /// Stops all processes at once, and drops their databases.
    pub(super) async fn end(mut self) -> anyhow::Result<()> {
        for process in &mut self.processes {
            process.kill().await?;
        }
        if let Some(url) = &self.servers.database {
            let mut server = PgConnection::connect(url).await.context("DATABASE_URL")?;
            for database in &self.databases {
                server.execute(&*format!("drop database {database} with (force)")).await?;
            }
        }
        Ok(())
    }
}

impl ServiceProcess {
    /// Starts the process and waits until it is ready.
    pub(super) async fn start(&mut self) -> anyhow::Result<()> {
        let log = OpenOptions::new().append(true).open(&self.log).context("cannot open the log")?;
        let mut command = Command::new(std::env::current_exe().context("this program's path")?);
        command.arg("serve").envs(self.variables.iter().cloned()).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {}", self.name))?;
        let child = self.child.insert(child);
        let (start, ready) = (Instant::now(), format!("http://{}/ready", self.addr));
        let client = http(LIMIT)?;
        loop {
            if let Some(status) = child.try_wait()? {
                bail!("{} ended ({status}): see {}", self.name, self.log.display());
            }
            let response = client.get(&ready).send().await;
            if response.is_ok_and(|response| response.status().is_success()) {
                return Ok(());
            }
            if start.elapsed() > LIMIT {
                bail!("{} is not ready after {LIMIT:?}: see {}", self.name, self.log.display());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Ends the process gracefully, as a supervisor does, and waits for its end.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let pid = pid.with_context(|| format!("{} has ended", self.name))?;
        kill_process(pid, Signal::TERM).with_context(|| format!("cannot stop {}", self.name))?;
        let ended = tokio::time::timeout(LIMIT, child.wait()).await;
        let status = ended.with_context(|| format!("{} does not end", self.name))??;
        anyhow::ensure!(status.success(), "{} did not end gracefully: {status}", self.name);
        Ok(())
    }

    /// Kills the process.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill().await.with_context(|| format!("cannot kill {}", self.name))
    }
}

fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("there is no free port")?;
    listener.local_addr().context("there is no free port")
}
