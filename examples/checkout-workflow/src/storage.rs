//! Where the events are kept.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use composable_rust::postgres::PostgresEventStore;
use composable_rust::sqlite::SqliteEventStore;
use composable_rust::testing::InMemoryEventStore;
use composable_rust::{IdGenerator as _, SharedEventStore, SystemClock, SystemIds};

use crate::Service;

/// Names an event store: `sqlite:PATH`, `postgres://…` or `memory:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// A file.
    Sqlite(PathBuf),
    /// A database on a server.
    Postgres {
        /// Which.
        url: String,
        /// The schema in it, unless it is the user's own.
        schema: Option<&'static str>,
    },
    /// This process's memory: gone when it ends.
    Memory,
}

/// A text that names no event store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no store; write sqlite:PATH, postgres://USER@HOST/DATABASE or memory:")]
pub struct InvalidStoreUrl(String);

impl FromStr for StoreUrl {
    type Err = InvalidStoreUrl;

    fn from_str(text: &str) -> Result<Self, InvalidStoreUrl> {
        match text.split_once(':') {
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::Sqlite(path.into())),
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => {
                Ok(Self::Postgres { url: text.to_owned(), schema: None })
            }
            Some(("memory", "")) => Ok(Self::Memory),
            // What stands before a colon may be a user, and after it a password.
            Some((scheme, _)) => Err(InvalidStoreUrl(format!("{scheme}:…"))),
            None => Err(InvalidStoreUrl(text.to_owned())),
        }
    }
}

impl fmt::Display for StoreUrl {
    /// Leaves out what may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres { .. } => f.write_str("postgres://…"),
            Self::Memory => f.write_str("memory:"),
        }
    }
}

impl StoreUrl {
    /// The store, created if there is none.
    ///
    /// # Errors
    ///
    /// When it cannot be opened; says why.
    pub async fn open(&self) -> anyhow::Result<SharedEventStore> {
        Ok(match self {
            Self::Sqlite(path) => SharedEventStore::new(SqliteEventStore::open(path).await?),
            Self::Postgres { url, schema } => {
                let mut builder = PostgresEventStore::builder(url);
                if let Some(schema) = schema {
                    builder = builder.schema(schema);
                }
                SharedEventStore::new(builder.connect().await?)
            }
            Self::Memory => {
                let store = InMemoryEventStore::new().with_log_id(SystemIds.new_id());
                SharedEventStore::new(store.with_clock(SystemClock))
            }
        })
    }

    /// The part of it that is one service's own: a file beside it, or a schema of the database.
    fn part_of(&self, service: Service) -> Self {
        match self {
            Self::Sqlite(path) => {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                let extension = path.extension().map_or("db".into(), |e| e.to_string_lossy());
                Self::Sqlite(path.with_file_name(format!("{stem}-{service}.{extension}")))
            }
            Self::Postgres { url, .. } => {
                Self::Postgres { url: url.clone(), schema: Some(service.name()) }
            }
            Self::Memory => Self::Memory,
        }
    }
}

/// Where each service keeps its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stores {
    /// All in one log.
    Shared(StoreUrl),
    /// Each in a log of its own, so that they talk over a bus.
    Apart(BTreeMap<Service, StoreUrl>),
}

/// What the stores cannot be made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStores {
    /// One of them names no store.
    #[error(transparent)]
    Url(#[from] InvalidStoreUrl),
    /// More than one for the same.
    #[error("name one store for all services, or one for each: checkout=URL, payments=URL, …")]
    Several,
}

impl Stores {
    /// Reads `[SERVICE=]URL` of each of `texts`; if there is none, it is `unless_said`. Of one for
    /// all, each service gets a part of its own if they are to be `apart`.
    ///
    /// # Errors
    ///
    /// Says what to write.
    pub fn parse(texts: &[String], unless_said: &Path, apart: bool) -> Result<Self, InvalidStores> {
        let mut named = BTreeMap::new();
        let mut shared = None;
        for text in texts {
            // A URL may have `=` further behind, after a character that no service's name has.
            let service =
                text.split_once('=').and_then(|(name, url)| Some((name.parse().ok()?, url)));
            let taken = match service {
                Some((service, url)) => named.insert(service, url.parse()?).is_some(),
                None => shared.replace(text.parse::<StoreUrl>()?).is_some(),
            };
            if taken {
                return Err(InvalidStores::Several);
            }
        }
        match (shared, named.is_empty()) {
            (Some(_), false) => Err(InvalidStores::Several),
            (None, false) => Ok(Self::Apart(named)),
            (shared, true) => {
                let shared = shared.unwrap_or_else(|| StoreUrl::Sqlite(unless_said.to_owned()));
                let part = |service| (service, shared.part_of(service));
                Ok(if apart {
                    Self::Apart(Service::ALL.map(part).into())
                } else {
                    Self::Shared(shared)
                })
            }
        }
    }

    /// Where the provider's ledger is unless said: beside the file, or in this folder; `None` is
    /// memory.
    pub fn ledger(&self) -> Option<PathBuf> {
        let store = match self {
            Self::Shared(store) => Some(store),
            Self::Apart(stores) => stores.values().next(),
        };
        match store {
            Some(StoreUrl::Sqlite(path)) => Some(path.with_extension("ledger.jsonl")),
            Some(StoreUrl::Memory) => None,
            Some(StoreUrl::Postgres { .. }) | None => Some("checkout-postgres.ledger.jsonl".into()),
        }
    }
}

impl fmt::Display for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared(store) => store.fmt(f),
            Self::Apart(stores) => {
                let stores: Vec<_> = stores.iter().map(|(s, url)| format!("{s}={url}")).collect();
                f.write_str(&stores.join(" "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str], apart: bool) -> Result<Stores, InvalidStores> {
        let texts: Vec<_> = texts.iter().map(ToString::to_string).collect();
        Stores::parse(&texts, Path::new("a/shop.db"), apart)
    }

    #[test]
    fn one_store_for_all_or_one_for_each() {
        let file = |path: &str| StoreUrl::Sqlite(path.into());
        assert_eq!(parse(&[], false), Ok(Stores::Shared(file("a/shop.db"))));
        assert_eq!(parse(&["sqlite:b.db"], false), Ok(Stores::Shared(file("b.db"))));
        let parts = Service::ALL.map(|s| (s, file(&format!("a/shop-{s}.db")))).into();
        assert_eq!(parse(&[], true), Ok(Stores::Apart(parts)));
        let url = "postgres://app:secret@localhost/shop?options=a=b";
        let postgres = |schema| StoreUrl::Postgres { url: url.to_owned(), schema };
        assert_eq!(parse(&[url], false), Ok(Stores::Shared(postgres(None))));
        let schemas = Service::ALL.map(|s| (s, postgres(Some(s.name())))).into();
        assert_eq!(parse(&[url], true), Ok(Stores::Apart(schemas)));
        let named = [(Service::Payments, postgres(None))].into();
        assert_eq!(parse(&[&format!("payments={url}")], false), Ok(Stores::Apart(named)));
    }

    #[test]
    fn other_texts_are_refused_without_printing_a_password() {
        for text in ["", "shop.db", "sqlite:", "memory:x", "mysql://u:secret@h/d", "stock=memory:"]
        {
            let error = parse(&[text], false).expect_err("it names no store").to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        for texts in [["memory:", "memory:"], ["memory:", "checkout=memory:"]] {
            assert_eq!(parse(&texts, false), Err(InvalidStores::Several));
        }
    }
}
