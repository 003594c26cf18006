//! A place of its own for each test on the PostgreSQL server that `DATABASE_URL` names.

use composable_rust::postgres::PostgresEventStore;

/// The URL of a new, empty schema.
pub(crate) async fn database() -> String {
    let server = std::env::var("DATABASE_URL")
        .expect("DATABASE_URL is not set: run `cargo xtask test`, which starts a server");
    let schema = format!("orders_{}", rand::random::<u64>());
    let builder = PostgresEventStore::builder(&server).schema(&schema);
    builder.connect().await.expect("the server can be used");
    let separator = if server.contains('?') { '&' } else { '?' };
    format!("{server}{separator}options=-csearch_path%3D{schema}")
}
