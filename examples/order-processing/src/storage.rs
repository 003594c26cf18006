//! Where the orders are kept.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use composable_rust::postgres::PostgresEventStore;
use composable_rust::sqlite::SqliteEventStore;
use composable_rust::testing::InMemoryEventStore;
use composable_rust::{App, SystemClock};

use crate::Order;

/// Names an event store: `sqlite:PATH`, `postgres://…` or `memory:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// A file.
    Sqlite(PathBuf),
    /// A database on a server.
    Postgres(String),
    /// This process's memory: gone when it ends.
    Memory,
}

/// How long a command may take, for instance while the database restarts.
const DEADLINE: Duration = Duration::from_secs(60);

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
                Ok(Self::Postgres(text.to_owned()))
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
            Self::Postgres(_) => f.write_str("postgres://…"),
            Self::Memory => f.write_str("memory:"),
        }
    }
}

impl StoreUrl {
    /// The app on this store.
    ///
    /// # Errors
    ///
    /// When the store cannot be opened; says why.
    pub async fn open(&self) -> anyhow::Result<App> {
        let builder = match self {
            Self::Sqlite(path) => App::builder(SqliteEventStore::open(path).await?),
            Self::Postgres(url) => App::builder(PostgresEventStore::connect(url).await?),
            Self::Memory => App::builder(InMemoryEventStore::new().with_clock(SystemClock)),
        };
        builder
            .aggregate::<Order>(())
            .settings(|settings| settings.default_deadline = DEADLINE)
            .build()
            .context("the app cannot be built")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        assert_eq!("sqlite:a/b.db".parse(), Ok(StoreUrl::Sqlite("a/b.db".into())));
        assert_eq!("memory:".parse(), Ok(StoreUrl::Memory));
        let url = "postgres://app:secret@localhost/shop";
        assert_eq!(url.parse(), Ok(StoreUrl::Postgres(url.to_owned())));
    }

    #[test]
    fn other_texts_are_refused_without_printing_a_password() {
        for text in ["", "orders.db", "sqlite:", "memory:x", "postgres:x", "mysql://u:secret@h/d"] {
            let error = text.parse::<StoreUrl>().expect_err("it names no store").to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
