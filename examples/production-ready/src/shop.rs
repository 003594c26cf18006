//! The apps of the services.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use composable_rust::bus::SharedEventBus;
use composable_rust::codec::Format;
use composable_rust::prelude::*;
use composable_rust::redpanda::RedpandaEventBus;
use composable_rust::settings::RetryPolicy;
use composable_rust::store::SharedEventStore;
use composable_rust::testing::InMemoryEventBus;
use composable_rust::{AppBuilder, SqlReadModel, StoreUrl, connect_read_model};

use crate::config::{Config, Service};
use crate::order::{Fulfilment, FulfilmentCommand, Order, OrderEvent};
use crate::overview::{self, Overview};
use crate::payment::{Payment, Provider};
use crate::shipping::Parcel;

/// The apps of a process.
#[derive(Debug, Clone)]
pub struct Shop {
    /// The apps, each with its name: that of its service, or `shop` for several.
    pub apps: Vec<(&'static str, App)>,
    /// The read model, if the process runs the orders.
    pub overview: Option<SqlReadModel>,
}

impl Shop {
    /// Opens what a configuration names.
    ///
    /// # Errors
    ///
    /// A database or the brokers cannot be reached, or the tables have another version.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let store = open_store(&config.store, config.migrate).await?;
        let overview = if config.services.contains(&Service::Orders) {
            Some(overview::open(&config.read_model).await?)
        } else {
            None
        };
        Self::on(store, overview, config).await
    }

    /// Opens what a configuration names and what exists, as operators' commands do: nothing is
    /// created or migrated.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and there is no store.
    pub async fn open_existing(config: &Config) -> anyhow::Result<Self> {
        let store = open_store(&config.store, false).await?;
        let overview = if config.services.contains(&Service::Orders) {
            Some(connect_read_model(&config.read_model).await?)
        } else {
            None
        };
        Self::on(store, overview, config).await
    }

    async fn on(
        store: SharedEventStore,
        overview: Option<SqlReadModel>,
        config: &Config,
    ) -> anyhow::Result<Self> {
        let bus = match &config.brokers {
            Some(brokers) => Some(open_bus(brokers, &config.topic_prefix).await?),
            None => None,
        };
        let app = app(store, bus, &config.services, overview.clone(), config).build()?;
        let name = match config.services.len() {
            1 => config.services.iter().next().map_or("shop", |service| service.name()),
            _ => "shop",
        };
        Ok(Self { apps: vec![(name, app)], overview })
    }

    /// Opens the three services in this process, each with a file of its own in `folder`, and a bus
    /// in memory between them.
    ///
    /// # Errors
    ///
    /// A file cannot be opened.
    pub async fn open_demo(config: &Config, folder: &Path) -> anyhow::Result<Self> {
        let bus = InMemoryEventBus::new();
        let url = |name: &str| format!("sqlite:{}", folder.join(format!("{name}.db")).display());
        let overview = overview::open(&url("overview")).await?;
        let mut apps = Vec::new();
        for service in Service::ALL {
            let store = open_store(&url(service.name()).parse()?, true).await?;
            let bus = SharedEventBus::new(bus.clone());
            let app = app(store, Some(bus), &[service].into(), Some(overview.clone()), config);
            apps.push((service.name(), app.build()?));
        }
        Ok(Self { apps, overview: Some(overview) })
    }

    /// Returns the app that runs the orders; `None` if another process does.
    pub fn orders(&self) -> Option<&App> {
        let is_orders = |(name, _): &&(&str, App)| *name == "orders" || *name == "shop";
        self.overview.as_ref().and(self.apps.iter().find(is_orders)).map(|(_, app)| app)
    }

    /// Starts the workers of all apps.
    pub fn start(&self) {
        self.apps.iter().for_each(|(_, app)| app.start());
    }

    /// Stops all apps. Returns `true` if all accepted commands were finished within `grace`.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        let shutdowns = self.apps.iter().map(|(_, app)| app.shutdown(grace));
        futures_util::future::join_all(shutdowns).await.into_iter().all(|finished| finished)
    }
}

/// Opens an event store. With `migrate` false, it must exist, and its tables are only checked.
async fn open_store(url: &StoreUrl, migrate: bool) -> anyhow::Result<SharedEventStore> {
    let store = if migrate { url.connect().await } else { url.connect_existing().await };
    store.with_context(|| format!("cannot open the store {url}"))
}

async fn open_bus(brokers: &str, prefix: &str) -> anyhow::Result<SharedEventBus> {
    let bus = RedpandaEventBus::builder(brokers).client_id("production-ready").topic_prefix(prefix);
    let bus =
        bus.connect().await.with_context(|| format!("cannot connect to the brokers {brokers}"))?;
    Ok(SharedEventBus::new(bus))
}

/// Configures the app of some services. With a bus, the others have stores of their own; without
/// one, other processes run them on the same store.
fn app(
    store: SharedEventStore,
    bus: Option<SharedEventBus>,
    services: &BTreeSet<Service>,
    overview: Option<SqlReadModel>,
    config: &Config,
) -> AppBuilder {
    let has_bus = bus.is_some();
    let mut app =
        App::builder(store).program("shop", env!("CARGO_PKG_VERSION")).settings(|settings| {
            // Longer than a restart of the database, and shorter than the patience of clients.
            settings.default_deadline = Duration::from_secs(15);
        });
    if let Some(bus) = bus {
        app = app.event_bus(bus);
    }
    if services.contains(&Service::Orders) {
        app = orders(app, config);
        if let Some(overview) = overview {
            app = app.projection(Overview, overview);
        }
        if has_bus {
            // For others: analytics, mails, search.
            app = app.publish::<Order>(Format::Json);
        }
    }
    app = match (services.contains(&Service::Payments), has_bus) {
        (true, has_bus) => {
            let app = payments(app, config.provider.clone());
            if has_bus { app.serve::<Payment>() } else { app }
        }
        (false, true) => app.remote::<Payment>(),
        (false, false) => app.elsewhere::<Payment>(),
    };
    match (services.contains(&Service::Shipping), has_bus) {
        (true, true) => app.aggregate::<Parcel>(()).serve::<Parcel>(),
        (true, false) => app.aggregate::<Parcel>(()),
        (false, true) => app.remote::<Parcel>(),
        (false, false) => app.elsewhere::<Parcel>(),
    }
}

fn orders(app: AppBuilder, config: &Config) -> AppBuilder {
    app.aggregate::<Order>(()).aggregate::<Fulfilment>(config.step).on::<Order, Fulfilment, _>(
        "fulfil",
        |recorded| match &recorded.event {
            OrderEvent::Placed(cart) => {
                let id = Fulfilment::id(recorded.stream.id());
                Some((id, FulfilmentCommand::Start(cart.clone())))
            }
            OrderEvent::Fulfilled | OrderEvent::Cancelled => None,
        },
    )
}

fn payments(app: AppBuilder, provider: Provider) -> AppBuilder {
    app.aggregate::<Payment>(()).gateway_with(provider, |gateway| {
        gateway.timeout = Duration::from_secs(5);
        gateway.retry =
            RetryPolicy { max_attempts: 3, initial_backoff: Duration::from_millis(200) };
        gateway.max_concurrent_calls = 256;
    })
}
