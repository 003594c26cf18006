//! The program of the shop: one process, or one of three services, by configuration.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use composable_rust::axum::{Health, serve};
use composable_rust::shutdown_signal;
use composable_rust::telemetry::{PrometheusMetrics, Telemetry};
use composable_rust_cli::{Admin, Operations, StoreOperations, operator};
use production_ready::config::{Config, VARIABLES};
use production_ready::http::router;
use production_ready::load::{self, Load, LoadArgs, generate};
use production_ready::shop::Shop;
use tokio::net::TcpListener;

/// Orders, payments and shipping. Configured by environment variables: see `variables`.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until a signal: the first one ends gracefully, the second at once
    Serve,
    /// Serve all services from temporary files, with a load of orders
    Demo {
        /// Orders per second
        #[arg(long, default_value_t = 20)]
        rate: u32,
    },
    /// Place orders at a rate, report latencies, and audit the services that it starts
    ///
    /// Without `--url`, the services are processes of this program, on the PostgreSQL server of
    /// `DATABASE_URL` and the brokers of `KAFKA_BROKERS`, or on SQLite in one process.
    Load(LoadArgs),
    /// Check the configuration and print its summary
    Check,
    /// Print the variables with their defaults
    Variables,
    #[command(flatten)]
    Operations(Operations),
    #[command(flatten)]
    Store(StoreOperations),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(command: Command) -> anyhow::Result<ExitCode> {
    if let Command::Variables = command {
        for (name, default, meaning) in VARIABLES {
            println!(
                "{name:<24} {meaning} (default: {})",
                if default.is_empty() { "none" } else { default }
            );
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Command::Load(args) = command {
        let report = load::run(&args).await?;
        return Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let config = Config::from_variables(std::env::vars())?;
    match command {
        Command::Check => println!("{config}"),
        Command::Operations(operations) => {
            let shop = Shop::open_existing(&config).await?;
            let (_, app) = shop.apps.first().context("no service is configured")?;
            return Ok(operations.run(&Admin::new(app, operator())).await);
        }
        Command::Store(operations) => return Ok(operations.run(&config.store).await),
        Command::Serve => {
            println!("{config}");
            let telemetry = Telemetry::from_env("shop")?.log_writer(std::io::stderr).init()?;
            let shop = Shop::open(&config).await?;
            serve_shop(&shop, &config, telemetry.prometheus()).await?;
        }
        Command::Demo { rate } => {
            let telemetry = Telemetry::from_env("shop")?.log_writer(std::io::stderr).init()?;
            let config = Config { console_changes: true, ..config };
            let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
            let shop = Shop::open_demo(&config, folder.path()).await?;
            println!("three services in one process, with files in {}", folder.path().display());
            for (name, _) in &shop.apps {
                println!("open http://{}/console/{name}", config.listen);
            }
            println!("also /live, /ready and /metrics; {rate} orders are placed each second");
            println!("Ctrl-C stops it and removes the files");
            let load = tokio::spawn(demo_load(&config, rate));
            serve_shop(&shop, &config, telemetry.prometheus()).await?;
            load.abort();
        }
        Command::Load(_) | Command::Variables => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Places orders at a rate until it is dropped. Failures are logged, and the load continues.
fn demo_load(config: &Config, rate: u32) -> impl Future<Output = anyhow::Result<()>> + use<> {
    let load = Load {
        name: uuid::Uuid::new_v4().simple().to_string(),
        urls: vec![format!("http://{}", config.listen)],
        rate,
        commands: None,
        connections: 16,
        patience: Duration::from_secs(60),
    };
    async move {
        let mut completed = generate(&load)?;
        while let Some(command) = completed.recv().await {
            if let Err(error) = command.outcome {
                tracing::warn!(error, order = command.n, "an order of the load was not placed");
            }
        }
        Ok(())
    }
}

/// Serves requests until a signal, then drains, finishes what was accepted, and stops all apps.
async fn serve_shop(
    shop: &Shop,
    config: &Config,
    metrics: PrometheusMetrics,
) -> anyhow::Result<()> {
    let health = Health::new(shop.apps.iter().map(|(name, app)| (*name, app)));
    let listener = TcpListener::bind(config.listen).await;
    let listener = listener.with_context(|| format!("cannot listen at {}", config.listen))?;
    shop.start();
    tracing::info!(address = %config.listen, "serving");
    let router = router(shop, &health, config, metrics)?;
    let drain = config.drain;
    let signal = async move {
        shutdown_signal().await;
        tracing::info!(?drain, "draining; a second signal ends at once");
        tokio::spawn(async {
            shutdown_signal().await;
            tracing::warn!("ended by a second signal");
            std::process::exit(130);
        });
        health.drain(drain).await;
    };
    let (_, first) = shop.apps.first().context("no service is configured")?;
    let served = serve(first, listener, router, signal, config.grace).await?;
    let stopped = shop.shutdown(Duration::from_secs(1).max(config.grace)).await;
    if !(served && stopped) {
        anyhow::bail!("accepted commands did not finish within {:?}", config.grace);
    }
    tracing::info!("stopped");
    Ok(())
}
