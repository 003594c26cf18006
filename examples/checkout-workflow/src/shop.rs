//! The shop's apps: the same saga and aggregates, in one process or several, as one service or three.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use composable_rust::prelude::*;
use composable_rust::{
    AppBuilder, CircuitBreakerSettings, EventBus, EventStore, Format, RetryPolicy, SharedEventBus,
    SharedEventStore, StoreUrl,
};

use crate::{Checkout, Inventory, Order, Payment, PaymentProvider, Service, Shipping, Stores};

/// How the shop goes about its work.
#[derive(Debug, Clone)]
pub struct Shop {
    /// Who is asked for the money.
    pub provider: PaymentProvider,
    /// How long a task of a checkout may take.
    pub patience: Duration,
    /// How long a call of the provider may take.
    pub time_limit: Duration,
    /// How often the provider is called about one payment.
    pub attempts: RetryPolicy,
    /// How long the share of a process that is gone waits for others.
    pub lease: Duration,
}

/// How long a command from outside may take, for instance while the database restarts.
const DEADLINE: Duration = Duration::from_secs(60);

impl Shop {
    /// With short waits for the provider, which is a simulation.
    pub fn new(provider: PaymentProvider) -> Self {
        Self {
            provider,
            patience: Duration::from_secs(10),
            time_limit: Duration::from_millis(200),
            attempts: RetryPolicy { max_attempts: 3, initial_backoff: Duration::from_millis(100) },
            lease: Duration::from_secs(10),
        }
    }

    /// The app of `services` on one store. With a bus, every service has a store of its own, and the
    /// others are reached over the bus. Without, the others are in other processes on this store.
    pub fn app(
        &self,
        store: impl EventStore,
        services: &[Service],
        bus: Option<SharedEventBus>,
    ) -> AppBuilder {
        let mut app = App::builder(store).settings(|settings| {
            settings.default_deadline = DEADLINE;
            settings.lease_ttl = self.lease;
            if let Some(most) = bus.as_ref().and_then(EventBus::max_payload_bytes) {
                settings.max_payload_bytes = settings.max_payload_bytes.min(most);
            }
        });
        let joined = bus.is_some();
        if let Some(bus) = bus {
            app = app.event_bus(bus);
        }
        if services.contains(&Service::Checkout) {
            app = app.aggregate::<Checkout>(self.patience).aggregate::<Order>(());
            if joined {
                // As JSON, for whoever else reads them.
                app = app.publish::<Checkout>(Format::Json).publish::<Order>(Format::Json);
            }
        }
        app = match (services.contains(&Service::Payments), joined) {
            (true, false) => self.payments(app),
            (true, true) => {
                self.payments(app).serve::<Payment>().publish::<Payment>(Format::Binary)
            }
            (false, false) => app.elsewhere::<Payment>(),
            (false, true) => app.remote::<Payment>(),
        };
        match (services.contains(&Service::Warehouse), joined) {
            (true, false) => warehouse(app),
            (true, true) => warehouse(app)
                .serve::<Inventory>()
                .serve::<Shipping>()
                .publish::<Inventory>(Format::Binary)
                .publish::<Shipping>(Format::Binary),
            (false, false) => app.elsewhere::<Inventory>().elsewhere::<Shipping>(),
            (false, true) => app.remote::<Inventory>().remote::<Shipping>(),
        }
    }

    fn payments(&self, app: AppBuilder) -> AppBuilder {
        app.aggregate::<Payment>(()).gateway_with(self.provider.clone(), |gateway| {
            gateway.timeout = self.time_limit;
            gateway.retry = self.attempts;
            // Hanging and failing payments come in bursts: they are tried again when the others are
            // done. A provider that is down fails them all.
            gateway.circuit_breaker = CircuitBreakerSettings {
                window: 500,
                failure_rate_percent: 90,
                open_duration: Duration::from_secs(2),
                ..CircuitBreakerSettings::default()
            };
            gateway.max_concurrent_calls = 256;
        })
    }

    /// Opens the stores of `services` and puts their apps together. Services that are
    /// [`Stores::PerService`] need a bus.
    ///
    /// # Errors
    ///
    /// When a store is not said or cannot be opened, or there is no bus for what needs one.
    pub async fn open(
        &self,
        services: &[Service],
        stores: &Stores,
        bus: Option<&SharedEventBus>,
    ) -> anyhow::Result<Apps> {
        let mut apps = Vec::new();
        match stores {
            Stores::Shared(url) => {
                let app = self.app(open(url).await?, services, None).build()?;
                apps.push((services.to_vec(), app));
            }
            Stores::PerService(urls) => {
                let bus =
                    bus.context("services on stores of their own need a bus: add --brokers")?;
                for service in services {
                    let store = open(url_of(*service, urls)?).await?;
                    let app = self.app(store, &[*service], Some(bus.clone())).build()?;
                    apps.push((vec![*service], app));
                }
            }
        }
        Ok(Apps(apps))
    }

    /// Opens the stores of the whole shop for looking at what is there; nothing is to be started or
    /// sent.
    ///
    /// # Errors
    ///
    /// When a store is not said or cannot be opened.
    pub async fn look(&self, stores: &Stores) -> anyhow::Result<Apps> {
        let Stores::PerService(urls) = stores else {
            return self.open(&Service::ALL, stores, None).await;
        };
        let mut apps = Vec::new();
        for service in Service::ALL {
            let store = open(url_of(service, urls)?).await?;
            apps.push((vec![service], self.app(store, &[service], None).build()?));
        }
        Ok(Apps(apps))
    }
}

fn warehouse(app: AppBuilder) -> AppBuilder {
    app.aggregate::<Inventory>(()).aggregate::<Shipping>(())
}

async fn open(url: &StoreUrl) -> anyhow::Result<SharedEventStore> {
    url.connect().await.with_context(|| format!("{url} cannot be opened"))
}

fn url_of(service: Service, urls: &BTreeMap<Service, StoreUrl>) -> anyhow::Result<&StoreUrl> {
    match urls.get(&service) {
        Some(url) => Ok(url),
        None => bail!("where is the store of the {service}? Add --store {service}=URL"),
    }
}

/// Apps, and which services run in each.
#[derive(Debug, Clone)]
pub struct Apps(Vec<(Vec<Service>, App)>);

impl Apps {
    /// All services in one app.
    pub fn together(app: &App) -> Self {
        Self(vec![(Service::ALL.to_vec(), app.clone())])
    }

    /// These and others.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// The app that `service` runs in.
    ///
    /// # Panics
    ///
    /// When the service was not asked for.
    #[track_caller]
    pub fn of(&self, service: Service) -> &App {
        let found = self.0.iter().find(|(services, _)| services.contains(&service));
        found.map_or_else(|| panic!("the {service} was not opened"), |(_, app)| app)
    }

    /// All of them.
    pub fn each(&self) -> impl Iterator<Item = &App> {
        self.0.iter().map(|(_, app)| app)
    }

    /// Starts what follows from commits.
    pub fn start(&self) {
        self.each().for_each(App::start);
    }

    /// Stops all of them; whether everything that was accepted has finished.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        let shutdowns = self.each().map(|app| app.shutdown(grace));
        futures_util::future::join_all(shutdowns).await.into_iter().all(|done| done)
    }
}
