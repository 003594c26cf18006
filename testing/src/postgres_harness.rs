//! A PostgreSQL database for one test.

use std::thread;

use sqlx::{Connection as _, Executor as _, PgConnection};
use uuid::Uuid;

/// The first words of every message about the server.
const VARIABLE: &str = "DATABASE_URL";

/// An empty database on a real server. Dropping the value drops the database.
///
/// The environment variable `DATABASE_URL` names the server; `cargo xtask test` starts one and sets
/// it. The role must be allowed to create databases. Databases of killed tests remain; their names
/// begin with `composable_rust_test_`.
///
/// # Example: a store in a database of its own
///
/// ```no_run
/// # async fn example() {
/// use composable_rust_testing::TestDatabase;
///
/// let database = TestDatabase::create().await;
/// println!("connect to {}", database.url());
/// # }
/// ```
#[derive(Debug)]
pub struct TestDatabase {
    server: String,
    name: String,
}

impl TestDatabase {
    /// Creates an empty database with a unique name.
    ///
    /// # Panics
    ///
    /// Panics if `DATABASE_URL` is not set, or the server cannot be reached or refuses.
    pub async fn create() -> Self {
        let server =
            server_of(std::env::var(VARIABLE).ok()).unwrap_or_else(|what| panic!("{what}"));
        let name = format!("composable_rust_test_{}", Uuid::new_v4().simple());
        // No client is connected to template0, so that creating a database never finds it in use.
        let create = format!("create database {name} template template0");
        if let Err(error) = run(&server, &create).await {
            panic!("no database can be created on the server of {VARIABLE}: {error}");
        }
        Self { server, name }
    }

    /// The URL of this database.
    pub fn url(&self) -> String {
        with_database(&self.server, &self.name)
    }

    /// The database's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for TestDatabase {
    /// Drops the database despite open connections. A failure is only printed.
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // This code cannot wait for the test's own runtime, which may be shutting down.
        let dropped = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let drop = format!("drop database if exists {name} with (force)");
            runtime.block_on(run(&server, &drop))
        });
        match dropped.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("test database {} stays behind: {error}", self.name),
            Err(_) => eprintln!("test database {} stays behind", self.name),
        }
    }
}

async fn run(server: &str, statement: &str) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(server).await?;
    connection.execute(statement).await?;
    connection.close().await
}

fn server_of(variable: Option<String>) -> Result<String, String> {
    variable.filter(|url| !url.is_empty()).ok_or_else(|| {
        format!(
            "{VARIABLE} is not set: run `cargo xtask test`, which starts a PostgreSQL server, or set \
             it to one whose role may create databases, for example \
             postgres://postgres@localhost:5432/postgres"
        )
    })
}

/// `url` with another database.
fn with_database(url: &str, name: &str) -> String {
    let (base, query) = match url.split_once('?') {
        Some((base, query)) => (base, format!("?{query}")),
        None => (url, String::new()),
    };
    let authority = base.find("://").map_or(0, |at| at + 3);
    let end = base[authority..].find('/').map_or(base.len(), |at| authority + at);
    format!("{}/{name}{query}", &base[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_database_of_a_url_changes() {
        for (url, expected) in [
            ("postgres://me:pw@host:5433/postgres", "postgres://me:pw@host:5433/t"),
            ("postgres://host", "postgres://host/t"),
            ("postgres://host/", "postgres://host/t"),
            ("postgres://host/db?sslmode=disable&a=/b", "postgres://host/t?sslmode=disable&a=/b"),
            ("postgres://%2Frun%2Fpostgresql/db", "postgres://%2Frun%2Fpostgresql/t"),
            ("postgres:///db?host=/run", "postgres:///t?host=/run"),
        ] {
            assert_eq!(with_database(url, "t"), expected);
        }
    }

    #[test]
    fn a_missing_server_says_what_to_do() {
        for missing in [None, Some(String::new())] {
            let message = server_of(missing).unwrap_err();
            assert!(message.contains("DATABASE_URL") && message.contains("cargo xtask test"));
        }
        assert_eq!(server_of(Some("postgres://x".to_owned())).as_deref(), Ok("postgres://x"));
    }
}
