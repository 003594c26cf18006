//! The event stores of the services.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use composable_rust::{InvalidStoreUrl, StoreUrl};

use crate::Service;

/// The event store of each service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stores {
    /// One store for all services.
    Shared(StoreUrl),
    /// One store for each service; the services talk over a bus.
    PerService(BTreeMap<Service, StoreUrl>),
}

/// The reason why texts do not name the stores of the services.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStores {
    /// A text names no store.
    #[error(transparent)]
    Url(#[from] InvalidStoreUrl),
    /// A service has more than one store.
    #[error("name one store for all services, or one for each: checkout=URL, payments=URL, …")]
    Ambiguous,
}

impl Stores {
    /// Parses texts of the form `[SERVICE=]URL`. Without texts, the store is the SQLite file
    /// `default`. If the texts name one store and `per_service` is `true`, each service gets a
    /// part of it: a file beside the file, or a schema of the database.
    ///
    /// # Errors
    ///
    /// [`InvalidStores`], which says what to write.
    pub fn parse(
        texts: &[String],
        default: &Path,
        per_service: bool,
    ) -> Result<Self, InvalidStores> {
        let mut named = BTreeMap::new();
        let mut shared = None;
        for text in texts {
            // A URL contains `=` only after a character that no service's name contains.
            let service =
                text.split_once('=').and_then(|(name, url)| Some((name.parse().ok()?, url)));
            let repeated = match service {
                Some((service, url)) => named.insert(service, url.parse()?).is_some(),
                None => shared.replace(text.parse::<StoreUrl>()?).is_some(),
            };
            if repeated {
                return Err(InvalidStores::Ambiguous);
            }
        }
        match (shared, named.is_empty()) {
            (Some(_), false) => Err(InvalidStores::Ambiguous),
            (None, false) => Ok(Self::PerService(named)),
            (shared, true) => {
                let shared = shared.unwrap_or_else(|| StoreUrl::Sqlite(default.to_owned()));
                let part = |service| (service, part_of(&shared, service));
                Ok(if per_service {
                    Self::PerService(Service::ALL.map(part).into())
                } else {
                    Self::Shared(shared)
                })
            }
        }
    }

    /// The default path of the payment provider's ledger: beside the SQLite file, or in the current
    /// folder. `None` if the stores are in memory, as the ledger then is too.
    pub fn ledger_path(&self) -> Option<PathBuf> {
        let store = match self {
            Self::Shared(store) => Some(store),
            Self::PerService(stores) => stores.values().next(),
        };
        match store {
            Some(StoreUrl::Sqlite(path)) => Some(path.with_extension("ledger.jsonl")),
            Some(StoreUrl::Memory) => None,
            _ => Some("checkout-postgres.ledger.jsonl".into()),
        }
    }
}

impl fmt::Display for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared(store) => store.fmt(f),
            Self::PerService(stores) => {
                let stores: Vec<_> = stores.iter().map(|(s, url)| format!("{s}={url}")).collect();
                f.write_str(&stores.join(" "))
            }
        }
    }
}

/// The part of `store` that belongs to `service`.
fn part_of(store: &StoreUrl, service: Service) -> StoreUrl {
    match store {
        StoreUrl::Sqlite(path) => {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let extension = path.extension().map_or("db".into(), |e| e.to_string_lossy());
            StoreUrl::Sqlite(path.with_file_name(format!("{stem}-{service}.{extension}")))
        }
        StoreUrl::Postgres { url, .. } => {
            StoreUrl::Postgres { url: url.clone(), schema: Some(service.name().to_owned()) }
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str], per_service: bool) -> Result<Stores, InvalidStores> {
        let texts: Vec<_> = texts.iter().map(ToString::to_string).collect();
        Stores::parse(&texts, Path::new("a/shop.db"), per_service)
    }

    #[test]
    fn there_is_one_store_for_all_services_or_one_for_each() {
        let file = |path: &str| StoreUrl::Sqlite(path.into());
        assert_eq!(parse(&[], false), Ok(Stores::Shared(file("a/shop.db"))));
        assert_eq!(parse(&["sqlite:b.db"], false), Ok(Stores::Shared(file("b.db"))));
        let parts = Service::ALL.map(|s| (s, file(&format!("a/shop-{s}.db")))).into();
        assert_eq!(parse(&[], true), Ok(Stores::PerService(parts)));
        let url = "postgres://app:secret@localhost/shop?options=a=b";
        let postgres = |schema: Option<&str>| StoreUrl::Postgres {
            url: url.to_owned(),
            schema: schema.map(str::to_owned),
        };
        assert_eq!(parse(&[url], false), Ok(Stores::Shared(postgres(None))));
        let schemas = Service::ALL.map(|s| (s, postgres(Some(s.name())))).into();
        assert_eq!(parse(&[url], true), Ok(Stores::PerService(schemas)));
        let named = [(Service::Payments, postgres(None))].into();
        assert_eq!(parse(&[&format!("payments={url}")], false), Ok(Stores::PerService(named)));
    }

    #[test]
    fn a_service_has_at_most_one_store() {
        for text in ["", "stock=memory:"] {
            assert!(matches!(parse(&[text], false), Err(InvalidStores::Url(_))));
        }
        for texts in [["memory:", "memory:"], ["memory:", "checkout=memory:"]] {
            assert_eq!(parse(&texts, false), Err(InvalidStores::Ambiguous));
        }
    }
}
