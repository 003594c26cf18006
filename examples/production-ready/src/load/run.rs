//! The command `load`: processes, load, faults, audit, report.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::audit::Audit;
use super::collector::Collector;
use super::faults::{Fault, inject};
use super::fleet::{Disk, Fleet, Servers};
use super::generator::{Completed, Load, generate};
use super::metrics::Scraper;
use super::report::{Quantiles, Report, Tick};
use super::statistics::Statistics;

/// Interval of the printed progress.
const PROGRESS: Duration = Duration::from_secs(10);

/// The time after which a command is given up, longer than the restart of a process.
const PATIENCE: Duration = Duration::from_secs(120);

/// The arguments of `load`.
#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    /// Server of the orders, such as `http://127.0.0.1:8080`; several share the load. Without any,
    /// the load starts the services and audits their stores at the end
    #[arg(long, value_name = "URL")]
    pub url: Vec<String>,
    /// Orders per second
    #[arg(long, default_value_t = 100)]
    pub rate: u32,
    /// Duration
    #[arg(long, default_value_t = 60)]
    pub seconds: u32,
    /// Maximum number of connections
    #[arg(long, default_value_t = 256)]
    pub connections: usize,
    /// Processes of each service
    #[arg(long, default_value_t = 1, conflicts_with = "url")]
    pub replicas: usize,
    /// Fault that each process has once, at even distances
    #[arg(long, value_enum, default_value_t = Fault::None, conflicts_with = "url")]
    pub fault: Fault,
    /// Time limit of the last fulfilments after the load
    #[arg(long, default_value_t = 300, conflicts_with = "url")]
    pub settle_seconds: u64,
    /// Folder of the report, the logs and the files of SQLite
    #[arg(long, value_name = "FOLDER", default_value = "load-report")]
    pub report: PathBuf,
}

/// Runs a load, prints its progress and its report, and writes the report into the folder.
///
/// # Errors
///
/// The services cannot be started, or do not end gracefully. Failures of commands are in the
/// report.
pub async fn run(args: &LoadArgs) -> anyhow::Result<Report> {
    let folder = &args.report;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let report = if args.url.is_empty() {
        of_own_services(args).await?
    } else {
        let scraper = Scraper::new(args.url.clone())?;
        let driven = drive(args, &name(), args.url.clone(), scraper).await?;
        report(args, args.url.join(", "), &driven)
    };
    report.write(folder)?;
    println!("\n{report}The report is in {}.", folder.display());
    Ok(report)
}

/// Starts the services, runs the load with its faults, and audits the stores.
async fn of_own_services(args: &LoadArgs) -> anyhow::Result<Report> {
    let servers = Servers::from_env();
    let services = format!(
        "{} of {}, {}",
        match args.replicas {
            1 => "1 process".to_owned(),
            replicas => format!("{replicas} processes"),
        },
        if servers.brokers.is_some() {
            "each of three services over Kafka"
        } else {
            "all services"
        },
        if servers.database.is_some() { "PostgreSQL" } else { "SQLite" }
    );
    let collector = Collector::start().await?;
    let mut fleet = Fleet::start(servers, args.replicas, &args.report, collector.addr).await?;
    println!("{services}: {} processes are ready", fleet.processes.len());
    let before = fleet.disk().await?;
    let (name, urls, scraper) = (name(), fleet.order_urls(), Scraper::new(fleet.urls())?);
    let duration = Duration::from_secs(args.seconds.into());
    let (driven, incidents) =
        tokio::join!(drive(args, &name, urls, scraper), inject(args.fault, &mut fleet, duration));
    let (driven, incidents) = (driven?, incidents?);
    println!("the load has ended; waiting for the last fulfilments, then auditing");
    let shops = fleet.open_shops().await?;
    let limit = Duration::from_secs(args.settle_seconds);
    let audit = Audit::run(&shops, &name, &driven.statistics.acknowledged, limit).await?;
    let mut report = report(args, services, &driven);
    report.incidents = incidents;
    report.audit = Some(audit);
    report.telemetry_bytes = collector.bytes();
    report.disk = fleet.disk().await?.since(before);
    drop(shops);
    fleet.end().await?;
    Ok(report)
}

/// Returns a name that no earlier load has.
fn name() -> String {
    uuid::Uuid::new_v4().simple().to_string()[..8].to_owned()
}

/// The outcome of a load, with what the services did meanwhile.
struct Driven {
    statistics: Statistics,
    scraper: Scraper,
    elapsed: Duration,
}

/// Runs the load and prints its progress.
async fn drive(
    args: &LoadArgs,
    name: &str,
    urls: Vec<String>,
    mut scraper: Scraper,
) -> anyhow::Result<Driven> {
    let load = Load {
        name: name.to_owned(),
        urls,
        rate: args.rate,
        commands: Some(u64::from(args.rate) * u64::from(args.seconds)),
        connections: args.connections,
        patience: PATIENCE,
    };
    scraper.start().await;
    let start = Instant::now();
    let mut completed = generate(&load)?;
    let mut statistics = Statistics::default();
    let mut ticks = interval(PROGRESS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut last = (0, 0);
    while receive(&mut completed, &mut statistics, &mut ticks).await {
        scraper.scrape().await;
        let now = (statistics.acknowledged.len() as u64, scraper.total());
        let per_second = |now: u64, last: u64| (now - last) / PROGRESS.as_secs();
        let recent = statistics.take_recent();
        println!(
            "{:>6} s  {}/s acknowledged  p50 {:.1} ms  p99 {:.1} ms  {} waiting  {} retried  \
             {} failed  {}/s handled  {} unfinished",
            start.elapsed().as_secs(),
            per_second(now.0, last.0),
            recent.quantile(0.5),
            recent.quantile(0.99),
            completed.sender_strong_count().saturating_sub(1),
            statistics.retried(),
            statistics.failed(),
            per_second(now.1, last.1),
            scraper.unfinished(),
        );
        last = now;
    }
    scraper.scrape().await;
    Ok(Driven { statistics, scraper, elapsed: start.elapsed() })
}

/// Records completed commands until the next tick. Returns `false` after the last command.
async fn receive(
    completed: &mut UnboundedReceiver<Completed>,
    statistics: &mut Statistics,
    ticks: &mut Interval,
) -> bool {
    loop {
        tokio::select! {
            biased;
            _ = ticks.tick() => return true,
            command = completed.recv() => match command {
                Some(command) => statistics.record(command),
                None => return false,
            }
        }
    }
}

fn report(args: &LoadArgs, services: String, driven: &Driven) -> Report {
    let Driven { statistics, scraper, elapsed } = driven;
    let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    Report {
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        services,
        rate: args.rate,
        seconds: args.seconds,
        due: statistics.completed(),
        acknowledged: statistics.acknowledged.len() as u64,
        failures: statistics.failures.clone(),
        retries: statistics.retries.clone(),
        latency_ms: Quantiles::of(&statistics.latency),
        handled: scraper.handled().clone(),
        handled_per_second: scraper.total() * 1_000 / millis.max(1),
        unfinished: scraper.unfinished(),
        telemetry_bytes: 0,
        disk: Disk::default(),
        fault: args.fault,
        incidents: Vec::new(),
        audit: None,
        timeline: Tick::all(statistics),
    }
}
