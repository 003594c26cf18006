//! Opening an event store by its URL.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use composable_rust_core::store::{Adoption, SharedEventStore};

/// Opens the event store at `url`, creating it if it does not exist.
///
/// | URL | Store | Feature |
/// |---|---|---|
/// | `sqlite:PATH` | `SqliteEventStore`, in a file | `sqlite` |
/// | `postgres://USER@HOST/DATABASE` | `PostgresEventStore`, in a database | `postgres` |
/// | `memory:` | `InMemoryEventStore`, empty, dropped with its last handle | `testing` |
///
/// Parse a [`StoreUrl`] to check a URL before it is used, or to print it without its password. For
/// other settings than the defaults, use the builder of the store and
/// [`SharedEventStore::new`].
///
/// # Errors
///
/// - [`ConnectError::InvalidUrl`]: correct the URL, or enable the feature that it names.
/// - `ConnectError::Sqlite`, `ConnectError::Postgres`: the store cannot be opened. The adapter's
///   error names the remedy.
///
/// # Cancel safety
///
/// A dropped future may leave a created or migrated store without events; a later call completes
/// the store.
///
/// # Example: a store chosen by configuration
///
/// ```
/// use composable_rust::prelude::*;
/// use composable_rust::connect;
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let url = std::env::var("STORE_URL").unwrap_or_else(|_| "memory:".to_owned());
/// let app = App::builder(connect(&url).await?).build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub async fn connect(url: &str) -> Result<SharedEventStore, ConnectError> {
    url.parse::<StoreUrl>()?.connect().await
}

/// Opens the database at `url` for read models, creating its tables if they do not exist.
///
/// | URL | Read model | Feature |
/// |---|---|---|
/// | `sqlite:PATH` | `SqliteReadModel`, in a file | `sqlite` |
/// | `postgres://USER@HOST/DATABASE` | `PostgresReadModel`, in a database | `postgres` |
///
/// The URL may be that of the event store. In one SQLite file, open the event store first: it
/// rejects a file with other content.
///
/// # Errors
///
/// - [`ConnectError::InvalidUrl`]: correct the URL, or enable the feature that it names.
/// - [`ConnectError::ReadModel`]: the database cannot be opened.
///
/// # Example: a projection whose database is chosen by configuration
///
/// ```
/// use composable_rust::prelude::*;
/// use composable_rust::{connect, connect_read_model};
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// # let folder = tempfile::tempdir()?;
/// # let url = format!("sqlite:{}", folder.path().join("shop.db").display());
/// let store = connect(&url).await?;
/// let model = connect_read_model(&url).await?;
/// model
///     .execute_batch("create table if not exists sales (customer text primary key, cents bigint)")
///     .await?;
/// let query = "select customer, cents from sales where cents > $1";
/// let sales: Vec<(String, i64)> = model.query(query).bind(100).fetch_all().await?;
/// assert_eq!(sales, []);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub async fn connect_read_model(url: &str) -> Result<crate::SqlReadModel, ConnectError> {
    url.parse::<StoreUrl>()?.connect_read_model().await
}

/// The URL of an event store. Its `Display` and `Debug` texts hold no password.
///
/// # Example: a URL that is checked when the program starts
///
/// ```
/// use composable_rust::StoreUrl;
///
/// let url: StoreUrl = "postgres://app:secret@localhost/shop".parse()?;
/// assert_eq!(url.to_string(), "postgres://…");
/// let error = "mysql://app:secret@localhost/shop".parse::<StoreUrl>().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "unknown scheme `mysql:`; write sqlite:PATH, postgres://USER@HOST/DATABASE or memory:"
/// );
/// # Ok::<(), composable_rust::InvalidStoreUrl>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreUrl {
    /// A file. `sqlite:PATH`; as with sqlx, `sqlite://PATH` is the same.
    Sqlite(PathBuf),
    /// A PostgreSQL database. `postgres://…` or `postgresql://…`
    Postgres {
        /// The URL, which may hold a password.
        url: String,
        /// The schema that holds the store's tables. It is created if it does not exist; one
        /// database can hold several stores this way. Default: the first schema of the user's
        /// `search_path`.
        schema: Option<String>,
    },
    /// This process's memory. `memory:`
    Memory,
}

impl StoreUrl {
    /// Opens the store, creating it if it does not exist; see [`connect`].
    ///
    /// # Errors
    ///
    /// As [`connect`].
    ///
    /// # Cancel safety
    ///
    /// As [`connect`].
    pub async fn connect(&self) -> Result<SharedEventStore, ConnectError> {
        self.open(true, None).await
    }

    /// Opens the store if it exists, as operators' tools do: nothing is created or migrated.
    ///
    /// # Errors
    ///
    /// As [`connect`], and where [`connect`] would create or migrate the store.
    ///
    /// # Example: a store that must exist
    ///
    /// ```
    /// # use composable_rust::StoreUrl;
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// let url: StoreUrl = "sqlite:no-such.db".parse()?;
    /// let error = url.connect_existing().await.unwrap_err().to_string();
    /// assert!(error.contains("there is no event log"), "{error}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn connect_existing(&self) -> Result<SharedEventStore, ConnectError> {
        self.open(false, None).await
    }

    /// Opens a copy of the store, and decides which log it is from now on. Has no effect on a log
    /// that is where it was created, but as [`Adoption::UndetectedCopy`].
    ///
    /// # Errors
    ///
    /// As [`connect_existing`](Self::connect_existing).
    ///
    /// # Example: a copied file that continues the log
    ///
    /// ```
    /// # use composable_rust::StoreUrl;
    /// # use composable_rust::store::Adoption;
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = |name: &str| folder.path().join(name);
    /// # let store = composable_rust::sqlite::SqliteEventStore::open(path("shop.db")).await?;
    /// # store.back_up(path("restored.db")).await?;
    /// let restored: StoreUrl = format!("sqlite:{}", path("restored.db").display()).parse()?;
    /// assert!(restored.connect().await.is_err_and(|error| error.is_copied()));
    /// restored.adopt(Adoption::Successor).await?;
    /// restored.connect().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn adopt(&self, adoption: Adoption) -> Result<SharedEventStore, ConnectError> {
        self.open(false, Some(adoption)).await
    }

    #[cfg_attr(
        not(any(feature = "sqlite", feature = "postgres")),
        expect(unused_variables, reason = "a store in memory is always created")
    )]
    async fn open(
        &self,
        migrate: bool,
        adopt: Option<Adoption>,
    ) -> Result<SharedEventStore, ConnectError> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(path) => {
                let mut builder = crate::sqlite::SqliteEventStore::builder(path).migrate(migrate);
                if let Some(adoption) = adopt {
                    builder = builder.adopt(adoption);
                }
                Ok(SharedEventStore::new(builder.open().await?))
            }
            #[cfg(feature = "postgres")]
            Self::Postgres { url, schema } => {
                let mut builder =
                    crate::postgres::PostgresEventStore::builder(url).migrate(migrate);
                if let Some(schema) = schema {
                    builder = builder.schema(schema);
                }
                if let Some(adoption) = adopt {
                    builder = builder.adopt(adoption);
                }
                Ok(SharedEventStore::new(builder.connect().await?))
            }
            #[cfg(feature = "testing")]
            Self::Memory => {
                use composable_rust_core::environment::IdGenerator as _;
                use composable_rust_runtime::environment::{SystemClock, SystemIds};

                let store = crate::testing::InMemoryEventStore::new();
                let store = store.with_log_id(SystemIds.new_id()).with_clock(SystemClock);
                Ok(SharedEventStore::new(store))
            }
            #[cfg(not(all(feature = "sqlite", feature = "postgres", feature = "testing")))]
            other => Err(other.scheme().not_built_in().into()),
        }
    }

    /// Opens the database for read models; see [`connect_read_model`].
    ///
    /// # Errors
    ///
    /// As [`connect_read_model`].
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub async fn connect_read_model(&self) -> Result<crate::SqlReadModel, ConnectError> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(path) => {
                let model = crate::sqlite::SqliteReadModel::open(path).await;
                Ok(crate::SqlReadModel::Sqlite(model.map_err(ConnectError::ReadModel)?))
            }
            #[cfg(feature = "postgres")]
            Self::Postgres { url, schema } => {
                let mut builder = crate::postgres::PostgresReadModel::builder(url);
                if let Some(schema) = schema {
                    builder = builder.schema(schema);
                }
                let model = builder.connect().await;
                Ok(crate::SqlReadModel::Postgres(model.map_err(ConnectError::ReadModel)?))
            }
            Self::Memory => Err(InvalidStoreUrl::NoReadModel.into()),
            #[cfg(not(all(feature = "sqlite", feature = "postgres")))]
            other => Err(other.scheme().not_built_in().into()),
        }
    }

    fn scheme(&self) -> &'static Scheme {
        match self {
            Self::Sqlite(_) => &SQLITE,
            Self::Postgres { .. } => &POSTGRES,
            Self::Memory => &MEMORY,
        }
    }
}

impl FromStr for StoreUrl {
    type Err = InvalidStoreUrl;

    fn from_str(text: &str) -> Result<Self, InvalidStoreUrl> {
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(InvalidStoreUrl::NoScheme);
        };
        let parsed = match scheme.to_ascii_lowercase().as_str() {
            "sqlite" => match rest.strip_prefix("//").unwrap_or(rest) {
                "" | ":memory:" => return Err(SQLITE.malformed()),
                path if path.contains('?') => return Err(SQLITE.malformed()),
                path => Self::Sqlite(path.into()),
            },
            "postgres" | "postgresql" if rest.len() > 2 && rest.starts_with("//") => {
                let url = format!("{}:{rest}", scheme.to_ascii_lowercase());
                Self::Postgres { url, schema: None }
            }
            "postgres" | "postgresql" => return Err(POSTGRES.malformed()),
            "memory" if rest.is_empty() || rest == "//" => Self::Memory,
            "memory" => return Err(MEMORY.malformed()),
            // In `user:password@host`, the user precedes the first colon, and no more is printed.
            _ => return Err(InvalidStoreUrl::UnknownScheme { scheme: scheme.to_owned() }),
        };
        let scheme = parsed.scheme();
        if scheme.built_in { Ok(parsed) } else { Err(scheme.not_built_in()) }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres { schema: None, .. } => f.write_str("postgres://…"),
            Self::Postgres { schema: Some(schema), .. } => {
                write!(f, "postgres://… (schema {schema})")
            }
            Self::Memory => f.write_str("memory:"),
        }
    }
}

/// The same as [`Display`](fmt::Display).
impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

struct Scheme {
    name: &'static str,
    form: &'static str,
    feature: &'static str,
    built_in: bool,
}

const SQLITE: Scheme = Scheme {
    name: "sqlite",
    form: "sqlite:PATH",
    feature: "sqlite",
    built_in: cfg!(feature = "sqlite"),
};

const POSTGRES: Scheme = Scheme {
    name: "postgres",
    form: "postgres://USER@HOST/DATABASE",
    feature: "postgres",
    built_in: cfg!(feature = "postgres"),
};

const MEMORY: Scheme = Scheme {
    name: "memory",
    form: "memory:",
    feature: "testing",
    built_in: cfg!(feature = "testing"),
};

impl Scheme {
    fn malformed(&self) -> InvalidStoreUrl {
        InvalidStoreUrl::Malformed { scheme: self.name, form: self.form }
    }

    fn not_built_in(&self) -> InvalidStoreUrl {
        InvalidStoreUrl::NotBuiltIn { scheme: self.name, feature: self.feature }
    }
}

/// The reason why a text is not the URL of an event store. Its texts hold no password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidStoreUrl {
    /// The text has no scheme. Put one in front.
    #[error("the store URL has no scheme; write {FORMS}")]
    NoScheme,
    /// No store has this scheme. Use one that the message lists.
    #[error("unknown scheme `{scheme}:`; write {FORMS}")]
    UnknownScheme {
        /// The text before the first colon.
        scheme: String,
    },
    /// The text after the scheme does not belong to a store of this scheme.
    #[error("malformed `{scheme}:` URL; write {form}")]
    Malformed {
        /// The scheme.
        scheme: &'static str,
        /// The form of such a URL.
        form: &'static str,
    },
    /// A store in memory has no tables for read models. Use a file, or
    /// `testing::InMemoryReadModel`.
    #[error("`memory:` has no read models; write sqlite:PATH or postgres://USER@HOST/DATABASE")]
    NoReadModel,
    /// The program was built without this store.
    #[error(
        "`{scheme}:` stores are not built into this program; enable the feature `{feature}` of \
         composable-rust{}",
        built_in()
    )]
    NotBuiltIn {
        /// The scheme.
        scheme: &'static str,
        /// The feature of `composable-rust` that adds the store.
        feature: &'static str,
    },
}

const FORMS: &str = "sqlite:PATH, postgres://USER@HOST/DATABASE or memory:";

/// Returns the stores that this program can open, for an error message.
fn built_in() -> String {
    let forms: Vec<_> = [SQLITE, POSTGRES, MEMORY]
        .into_iter()
        .filter_map(|scheme| scheme.built_in.then_some(scheme.form))
        .collect();
    if forms.is_empty() { String::new() } else { format!(", or write {}", forms.join(" or ")) }
}

/// The reason why [`connect`] failed. Its texts, and those of its sources, hold no password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL names no store that this program can open. Correct it, or enable the feature that
    /// the message names.
    #[error(transparent)]
    InvalidUrl(#[from] InvalidStoreUrl),
    /// The file cannot be opened.
    #[cfg(feature = "sqlite")]
    #[error(transparent)]
    Sqlite(#[from] crate::sqlite::ConnectError),
    /// The database cannot be opened. Of these errors, only `Unreachable` and `ReadOnly` are worth
    /// another attempt.
    #[cfg(feature = "postgres")]
    #[error(transparent)]
    Postgres(#[from] crate::postgres::ConnectError),
    /// The read model cannot be opened. Of these errors, only `Unavailable` is worth another
    /// attempt.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    #[error("cannot open the read model")]
    ReadModel(#[source] composable_rust_core::store::StoreError),
}

impl ConnectError {
    /// Returns `true` if the log belongs to another database: decide which it is, with
    /// [`StoreUrl::adopt`].
    pub fn is_copied(&self) -> bool {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(error) => matches!(error, crate::sqlite::ConnectError::Copied { .. }),
            #[cfg(feature = "postgres")]
            Self::Postgres(error) => matches!(error, crate::postgres::ConnectError::Copied { .. }),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        text.parse::<StoreUrl>().expect_err("the text names no store").to_string()
    }

    #[test]
    #[cfg(all(feature = "sqlite", feature = "postgres", feature = "testing"))]
    fn a_url_names_a_store() {
        let file = |path: &str| Ok(StoreUrl::Sqlite(path.into()));
        assert_eq!("sqlite:a/b c.db".parse(), file("a/b c.db"));
        assert_eq!("sqlite:/a/b.db".parse(), file("/a/b.db"));
        assert_eq!("sqlite://a/b.db".parse(), file("a/b.db"));
        assert_eq!("sqlite:///a/b.db".parse(), file("/a/b.db"));
        assert_eq!("memory:".parse(), Ok(StoreUrl::Memory));
        assert_eq!("MEMORY://".parse(), Ok(StoreUrl::Memory));
        for url in ["postgres://app:secret@localhost/shop", "postgresql://app@localhost/a?b=c:d"] {
            let parsed = StoreUrl::Postgres { url: url.to_owned(), schema: None };
            assert_eq!(url.parse(), Ok(parsed));
        }
    }

    #[test]
    fn an_error_says_what_to_write_and_prints_no_password() {
        let forms = "sqlite:PATH, postgres://USER@HOST/DATABASE or memory:";
        let no_scheme = format!("the store URL has no scheme; write {forms}");
        let unknown = |scheme| format!("unknown scheme `{scheme}:`; write {forms}");
        let sqlite = "malformed `sqlite:` URL; write sqlite:PATH".to_owned();
        let postgres = "malformed `postgres:` URL; write postgres://USER@HOST/DATABASE".to_owned();
        let cases = [
            ("", no_scheme.clone()),
            ("shop.db", no_scheme),
            ("mysql://app:secret@host/shop", unknown("mysql")),
            ("app:secret@host/shop", unknown("app")),
            (":secret", unknown("")),
            ("sqlite:", sqlite.clone()),
            ("sqlite://", sqlite.clone()),
            ("sqlite::memory:", sqlite.clone()),
            ("sqlite:shop.db?mode=secret", sqlite),
            ("postgres:", postgres.clone()),
            ("postgres://", postgres.clone()),
            ("postgres:app:secret@host/shop", postgres),
            ("memory:secret", "malformed `memory:` URL; write memory:".to_owned()),
        ];
        for (text, expected) in cases {
            assert_eq!(error(text), expected, "{text}");
        }
    }

    #[test]
    fn neither_text_of_a_url_prints_the_password() {
        let url = "postgres://app:secret@host/shop".to_owned();
        for schema in [None, Some("payments".to_owned())] {
            let url = StoreUrl::Postgres { url: url.clone(), schema };
            assert!(!format!("{url} {url:?}").contains("secret"));
        }
    }

    #[test]
    fn an_error_names_the_feature_of_a_store_that_is_not_built_in() {
        let text = POSTGRES.not_built_in().to_string();
        let expected = "`postgres:` stores are not built into this program; enable the feature \
                        `postgres` of composable-rust";
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    #[cfg(not(feature = "postgres"))]
    fn a_scheme_that_is_not_built_in_is_rejected() {
        assert_eq!(error("postgres://app:secret@host/shop"), POSTGRES.not_built_in().to_string());
    }
}
