//! The configuration, from the environment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use composable_rust::StoreUrl;

use crate::payment::Provider;

/// The beginning of the names of all variables.
const PREFIX: &str = "SHOP_";
/// A variable whose name ends so contains the path of a file with the value, as for a secret.
const FILE_SUFFIX: &str = "_FILE";

/// The variables, each with its default and its meaning.
pub const VARIABLES: &[(&str, &str, &str)] = &[
    ("SHOP_SERVICES", "orders,payments,shipping", "services that this process runs"),
    ("SHOP_STORE", "sqlite:shop.db", "event store: sqlite:PATH or postgres://…"),
    ("SHOP_READ_MODEL", "the store", "database of the read model"),
    ("SHOP_BROKERS", "", "brokers, HOST:PORT,…; empty: all services use one store"),
    ("SHOP_TOPIC_PREFIX", "", "beginning of the names of topics and groups at the brokers"),
    ("SHOP_LISTEN", "127.0.0.1:8080", "address of the HTTP server"),
    ("SHOP_STEP_SECONDS", "60", "time limit of a step of the fulfilment"),
    ("SHOP_DRAIN_SECONDS", "5", "time between the signal and the end of the listener"),
    ("SHOP_GRACE_SECONDS", "20", "time limit of requests and commands at shutdown"),
    ("SHOP_MIGRATE", "true", "create and migrate the tables at the start"),
    ("SHOP_CONSOLE_TOKEN", "", "token of the console at /console; empty: this machine only"),
    ("SHOP_CONSOLE_CHANGES", "false", "whether the console may change anything"),
    ("SHOP_PROVIDER_MILLIS", "20", "time that the simulated provider takes"),
    ("SHOP_PROVIDER_DECLINES", "5", "percentage of declined charges"),
    ("SHOP_PROVIDER_FAILURES", "0", "percentage of charges that are never answered"),
    ("SHOP_PROVIDER_LEDGER", "", "file in which the simulated provider notes its requests"),
];

/// A service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// Orders and their fulfilment.
    Orders,
    /// Payments and the provider.
    Payments,
    /// Parcels.
    Shipping,
}

impl Service {
    /// All services.
    pub const ALL: [Self; 3] = [Self::Orders, Self::Payments, Self::Shipping];

    /// Returns the name, as in `SHOP_SERVICES`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Payments => "payments",
            Self::Shipping => "shipping",
        }
    }
}

/// The configuration of a process.
#[derive(Clone)]
pub struct Config {
    /// The services that the process runs.
    pub services: BTreeSet<Service>,
    /// The event store.
    pub store: StoreUrl,
    /// The URL of the database of the read model.
    pub read_model: String,
    /// The brokers; `None` if all services use one store.
    pub brokers: Option<String>,
    /// The beginning of the names of topics and groups at the brokers.
    pub topic_prefix: String,
    /// The address of the HTTP server.
    pub listen: SocketAddr,
    /// The time limit of a step of the fulfilment.
    pub step: Duration,
    /// The time between the signal and the end of the listener.
    pub drain: Duration,
    /// The time limit of requests and commands at shutdown.
    pub grace: Duration,
    /// `true` if the tables are created and migrated at the start.
    pub migrate: bool,
    /// The token of the console; `None` if it serves this machine only.
    pub console_token: Option<String>,
    /// `true` if the console may change anything.
    pub console_changes: bool,
    /// The simulated provider.
    pub provider: Provider,
}

/// Returns one line for each text.
fn listed(texts: &[String]) -> String {
    texts.iter().flat_map(|text| ["  - ", text, "\n"]).collect()
}

/// Every mistake in the environment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the configuration has mistakes:\n{}", listed(.0))]
pub struct ConfigError(pub Vec<String>);

/// The variables that are not read yet, and the mistakes found.
struct Reader {
    variables: BTreeMap<String, String>,
    mistakes: Vec<String>,
}

impl Reader {
    /// Takes a variable's value, or that in the file that its `_FILE` variable names.
    fn take(&mut self, name: &str) -> Option<String> {
        let file = self.variables.remove(&format!("{name}{FILE_SUFFIX}"));
        let value = self.variables.remove(name);
        match (value, file) {
            (Some(_), Some(_)) => {
                self.mistakes.push(format!("{name} and {name}{FILE_SUFFIX} are both set"));
                None
            }
            (Some(value), None) => Some(value),
            (None, Some(path)) => match std::fs::read_to_string(Path::new(&path)) {
                Ok(value) => Some(value.trim_end().to_owned()),
                Err(error) => {
                    let mistake = format!("{name}{FILE_SUFFIX}: cannot read {path}: {error}");
                    self.mistakes.push(mistake);
                    None
                }
            },
            (None, None) => None,
        }
        .filter(|value| !value.is_empty())
    }

    /// Takes and parses a variable; `default` if it is not set or has a mistake.
    fn parse<T>(&mut self, name: &str, default: T, parse: impl Fn(&str) -> Result<T, String>) -> T {
        let Some(value) = self.take(name) else { return default };
        parse(&value).unwrap_or_else(|mistake| {
            self.mistakes.push(format!("{name}: {mistake}"));
            default
        })
    }

    fn seconds(&mut self, name: &str, default: u64) -> Duration {
        Duration::from_secs(self.parse(name, default, number))
    }

    fn percent(&mut self, name: &str, default: u8) -> u8 {
        self.parse(name, default, |text| match text.parse() {
            Ok(percent) if percent <= 100 => Ok(percent),
            _ => Err(format!("`{text}` is not a percentage from 0 to 100")),
        })
    }
}

impl Config {
    /// Reads the configuration from variables, such as `std::env::vars()`. Other variables than
    /// those that begin with `SHOP_` are ignored.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] lists every mistake, among them unknown variables.
    pub fn from_variables(
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let variables = variables.into_iter().filter(|(name, _)| name.starts_with(PREFIX));
        let mut reader = Reader { variables: variables.collect(), mistakes: Vec::new() };
        let services = reader.parse("SHOP_SERVICES", Service::ALL.into(), services);
        let default = StoreUrl::Sqlite("shop.db".into());
        let store_text = reader.take("SHOP_STORE").unwrap_or_else(|| "sqlite:shop.db".to_owned());
        let store = store_text.parse().unwrap_or_else(|error| {
            reader.mistakes.push(format!("SHOP_STORE: {error}"));
            default
        });
        let config = Self {
            services,
            store,
            read_model: reader.take("SHOP_READ_MODEL").unwrap_or(store_text),
            brokers: reader.take("SHOP_BROKERS"),
            topic_prefix: reader.take("SHOP_TOPIC_PREFIX").unwrap_or_default(),
            listen: reader.parse("SHOP_LISTEN", ([127, 0, 0, 1], 8080).into(), |text| {
                text.parse().map_err(|_| format!("`{text}` is not an address such as 0.0.0.0:8080"))
            }),
            step: reader.seconds("SHOP_STEP_SECONDS", 60),
            drain: reader.seconds("SHOP_DRAIN_SECONDS", 5),
            grace: reader.seconds("SHOP_GRACE_SECONDS", 20),
            migrate: reader.parse("SHOP_MIGRATE", true, boolean),
            console_token: reader.take("SHOP_CONSOLE_TOKEN"),
            console_changes: reader.parse("SHOP_CONSOLE_CHANGES", false, boolean),
            provider: Provider {
                latency: Duration::from_millis(reader.parse("SHOP_PROVIDER_MILLIS", 20, number)),
                declined_percent: reader.percent("SHOP_PROVIDER_DECLINES", 5),
                failing_percent: reader.percent("SHOP_PROVIDER_FAILURES", 0),
                ledger: reader.take("SHOP_PROVIDER_LEDGER").map(PathBuf::from),
            },
        };
        if config.brokers.is_some() && config.services.len() > 1 {
            reader.mistakes.push(
                "SHOP_BROKERS: with brokers every service has a store and a process of its own; \
                 name one service in SHOP_SERVICES"
                    .to_owned(),
            );
        }
        let Reader { variables, mut mistakes } = reader;
        for name in variables.into_keys() {
            let known: Vec<_> = VARIABLES.iter().map(|(name, ..)| *name).collect();
            mistakes.push(format!("{name} is unknown; the variables are {}", known.join(", ")));
        }
        if mistakes.is_empty() { Ok(config) } else { Err(ConfigError(mistakes)) }
    }
}

fn boolean(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("`{text}` is neither `true` nor `false`"))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is not a number"))
}

fn services(text: &str) -> Result<BTreeSet<Service>, String> {
    let service = |name: &str| {
        let found = Service::ALL.into_iter().find(|service| service.name() == name.trim());
        found.ok_or_else(|| {
            format!("`{name}` is not a service; they are orders, payments, shipping")
        })
    };
    text.split(',').map(service).collect()
}

/// The same as [`Display`](fmt::Display), so that no log contains a secret.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The summary that is printed at the start. It contains no password.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let services: Vec<_> = self.services.iter().map(|service| service.name()).collect();
        let read_model = self.read_model.parse::<StoreUrl>().map(|url| url.to_string());
        writeln!(f, "services     {}", services.join(", "))?;
        writeln!(f, "store        {}", self.store)?;
        writeln!(f, "read model   {}", read_model.unwrap_or_else(|_| "(not a URL)".to_owned()))?;
        writeln!(f, "brokers      {}", self.brokers.as_deref().unwrap_or("none"))?;
        writeln!(f, "listening    http://{}", self.listen)?;
        writeln!(f, "migrations   {}", if self.migrate { "at the start" } else { "checked only" })?;
        let access = match self.console_token {
            Some(_) => "with a token",
            None => "for this machine only",
        };
        let changes = if self.console_changes { "may change" } else { "read-only" };
        writeln!(f, "console      /console, {access}, {changes}")?;
        let (drain, grace) = (self.drain.as_secs(), self.grace.as_secs());
        write!(f, "shutdown     {drain} s to drain, then at most {grace} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let owned = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::from_variables(owned)
    }

    #[test]
    fn the_defaults_are_those_of_the_table() {
        let config = config(&[("PATH", "/bin"), ("SHOP_BROKERS", "")]).unwrap();
        insta::assert_snapshot!(config, @r"
        services     orders, payments, shipping
        store        sqlite:shop.db
        read model   sqlite:shop.db
        brokers      none
        listening    http://127.0.0.1:8080
        migrations   at the start
        console      /console, for this machine only, read-only
        shutdown     5 s to drain, then at most 20 s
        ");
        let table = VARIABLES.iter().filter(|(_, default, _)| !default.contains(' '));
        let given: Vec<_> = table.map(|(name, default, _)| (*name, *default)).collect();
        assert_eq!(self::config(&given).unwrap().to_string(), config.to_string());
    }

    #[test]
    fn every_mistake_is_listed() {
        let mistakes = config(&[
            ("SHOP_SERVICES", "orders,billing"),
            ("SHOP_STORE", "mysql://x"),
            ("SHOP_BROKERS", "localhost:9092"),
            ("SHOP_LISTEN", "8080"),
            ("SHOP_GRACE_SECONDS", "soon"),
            ("SHOP_PROVIDER_DECLINES", "101"),
            ("SHOP_STROE", "sqlite:x"),
            ("SHOP_READ_MODEL_FILE", "/does/not/exist"),
        ]);
        insta::assert_snapshot!(mistakes.unwrap_err());
    }

    #[test]
    fn a_password_is_not_printed_and_can_come_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        std::fs::write(&path, "postgres://shop:secret@db/shop\n").unwrap();
        let config = config(&[("SHOP_STORE_FILE", path.to_str().unwrap())]).unwrap();
        assert!(matches!(&config.store, StoreUrl::Postgres { url, .. } if url.contains("secret")));
        assert!(!config.to_string().contains("secret"), "{config}");
    }
}
