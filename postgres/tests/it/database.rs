//! A database of its own for each test.

use composable_rust_postgres::{PostgresEventStore, PostgresEventStoreBuilder};
use sqlx::{Connection as _, Executor as _, PgConnection};
use uuid::Uuid;

/// A database that is dropped when the test is done.
pub(crate) struct Database {
    server: String,
    name: String,
}

impl Database {
    pub(crate) async fn create() -> Self {
        let server = std::env::var("DATABASE_URL")
            .expect("DATABASE_URL is not set: run `cargo xtask test`, which starts a server");
        let name = format!("test_{}", Uuid::new_v4().simple());
        let mut connection = PgConnection::connect(&server).await.unwrap();
        connection.execute(format!("create database {name}").as_str()).await.unwrap();
        Self { server, name }
    }

    pub(crate) fn url(&self) -> String {
        let (base, query) = match self.server.split_once('?') {
            Some((base, query)) => (base, format!("?{query}")),
            None => (self.server.as_str(), String::new()),
        };
        let authority = base.find("://").map_or(0, |at| at + 3);
        let end = base[authority..].find('/').map_or(base.len(), |at| authority + at);
        format!("{}/{}{query}", &base[..end], self.name)
    }

    pub(crate) fn builder(&self) -> PostgresEventStoreBuilder {
        PostgresEventStore::builder(&self.url())
    }

    pub(crate) async fn store(&self, partitions: u16) -> PostgresEventStore {
        self.builder().partitions(partitions).connect().await.unwrap()
    }

    pub(crate) async fn connection(&self) -> PgConnection {
        PgConnection::connect(&self.url()).await.unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // The test's runtime is on its way out, so this one brings its own.
        let _ = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let Ok(mut connection) = PgConnection::connect(&server).await else { return };
                let drop = format!("drop database if exists {name} with (force)");
                let _ = connection.execute(drop.as_str()).await;
            });
            Ok::<_, std::io::Error>(())
        })
        .join();
    }
}
