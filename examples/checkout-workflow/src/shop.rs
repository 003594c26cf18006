//! The apps of the shop: the same saga and aggregates in one process or several, as one service or
//! three.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use composable_rust::bus::{EventBus, SharedEventBus};
use composable_rust::codec::Format;
use composable_rust::prelude::*;
use composable_rust::settings::{CircuitBreakerSettings, RetryPolicy};
use composable_rust::store::{EventStore, SharedEventStore};
use composable_rust::{AppBuilder, StoreUrl};

use crate::{Checkout, Inventory, Order, Payment, PaymentProvider, Service, Shipping, Stores};

/// The configuration of the shop.
#[derive(Debug, Clone)]
pub struct Shop {
    /// The payment provider.
    pub provider: PaymentProvider,
    /// The timeout of a step of a checkout. Default: 10 seconds.
    pub step_timeout: Duration,
    /// The timeout of a call to the provider. Default: 200 milliseconds.
    pub call_timeout: Duration,
    /// The retries of a call to the provider. Default: 3 attempts.
    pub retry: RetryPolicy,
    /// The time after which other processes take over the work of a crashed one. Default: 10
    /// seconds.
    pub lease_ttl: Duration,
}

/// The deadline of a command from a client: long enough for a restart of the database.
const DEADLINE: Duration = Duration::from_secs(60);

impl Shop {
    /// Creates the configuration with its defaults: short timeouts, for a simulated provider.
    pub fn new(provider: PaymentProvider) -> Self {
        Self {
            provider,
            step_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_millis(200),
            retry: RetryPolicy { max_attempts: 3, initial_backoff: Duration::from_millis(100) },
            lease_ttl: Duration::from_secs(10),
        }
    }

    /// Configures the app that runs `services` on one store.
    ///
    /// With a bus, every service has a store of its own, and the app reaches the other services
    /// over the bus. Without a bus, other processes run the other services on the same store.
    pub fn app(
        &self,
        store: impl EventStore,
        services: &[Service],
        bus: Option<SharedEventBus>,
    ) -> AppBuilder {
        let mut app = App::builder(store).settings(|settings| {
            settings.default_deadline = DEADLINE;
            settings.lease_ttl = self.lease_ttl;
            if let Some(limit) = bus.as_ref().and_then(EventBus::max_payload_bytes) {
                settings.max_payload_bytes = settings.max_payload_bytes.min(limit);
            }
        });
        let has_bus = bus.is_some();
        if let Some(bus) = bus {
            app = app.event_bus(bus);
        }
        if services.contains(&Service::Checkout) {
            app = app.aggregate::<Checkout>(self.step_timeout).aggregate::<Order>(());
            if has_bus {
                // As JSON, so that other programs can read them.
                app = app.publish::<Checkout>(Format::Json).publish::<Order>(Format::Json);
            }
        }
        app = match (services.contains(&Service::Payments), has_bus) {
            (true, false) => self.payments(app),
            (true, true) => {
                self.payments(app).serve::<Payment>().publish::<Payment>(Format::Binary)
            }
            (false, false) => app.elsewhere::<Payment>(),
            (false, true) => app.remote::<Payment>(),
        };
        match (services.contains(&Service::Warehouse), has_bus) {
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
            gateway.timeout = self.call_timeout;
            gateway.retry = self.retry;
            // Hanging and failing payments come in bursts, because they are retried together after
            // the others. Only a provider that is down fails nearly all calls.
            gateway.circuit_breaker = CircuitBreakerSettings {
                window: 500,
                failure_rate_percent: 90,
                open_duration: Duration::from_secs(2),
                ..CircuitBreakerSettings::default()
            };
            gateway.max_concurrent_calls = 256;
        })
    }

    /// Opens the stores of `services` and builds their apps.
    ///
    /// # Errors
    ///
    /// When a store is not configured or cannot be opened, or the services have separate stores
    /// ([`Stores::PerService`]) but no bus.
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
                let bus = bus.context("services with separate stores need a bus; add --brokers")?;
                for service in services {
                    let store = open(url_of(*service, urls)?).await?;
                    let app = self.app(store, &[*service], Some(bus.clone())).build()?;
                    apps.push((vec![*service], app));
                }
            }
        }
        Ok(Apps(apps))
    }

    /// Opens the stores of all services for reading. The apps must not be started, and nothing can
    /// be sent to other services.
    ///
    /// # Errors
    ///
    /// When a store is not configured or cannot be opened.
    pub async fn open_for_reading(&self, stores: &Stores) -> anyhow::Result<Apps> {
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
    url.connect().await.with_context(|| format!("cannot open the store {url}"))
}

fn url_of(service: Service, urls: &BTreeMap<Service, StoreUrl>) -> anyhow::Result<&StoreUrl> {
    match urls.get(&service) {
        Some(url) => Ok(url),
        None => bail!("the {service} service has no store; add --store {service}=URL"),
    }
}

/// The running apps, each with its services.
#[derive(Debug, Clone)]
pub struct Apps(Vec<(Vec<Service>, App)>);

impl Apps {
    /// Creates the list of one app that runs all services.
    pub fn single(app: &App) -> Self {
        Self(vec![(Service::ALL.to_vec(), app.clone())])
    }

    /// Adds the apps of `others`.
    #[must_use]
    pub fn merge(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// Returns the app that runs `service`.
    ///
    /// # Panics
    ///
    /// When no app runs the service.
    #[track_caller]
    pub fn app(&self, service: Service) -> &App {
        let found = self.0.iter().find(|(services, _)| services.contains(&service));
        found.map_or_else(|| panic!("no app runs the {service} service"), |(_, app)| app)
    }

    /// Returns all apps.
    pub fn iter(&self) -> impl Iterator<Item = &App> {
        self.0.iter().map(|(_, app)| app)
    }

    /// Starts the workers of all apps.
    pub fn start(&self) {
        self.iter().for_each(App::start);
    }

    /// Stops all apps. Returns `true` if all accepted work has finished.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        let shutdowns = self.iter().map(|app| app.shutdown(grace));
        futures_util::future::join_all(shutdowns).await.into_iter().all(|done| done)
    }
}
