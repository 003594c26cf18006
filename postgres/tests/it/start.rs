//! Opening the store.

use std::collections::HashSet;
use std::time::Duration;

use composable_rust_core::queue::{Checkpoint, Checkpoints as _, Leases as _, Pause};
use composable_rust_core::store::{Adoption, EventStore as _, ExpectedVersion};
use composable_rust_postgres::{ConnectError, PostgresEventStore, PostgresEventStoreBuilder};
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::database::Database;
use crate::fixtures::{append, commit, load};

#[tokio::test]
async fn many_processes_start_at_the_same_time() {
    for schema in [Some("shop's"), None] {
        let database = Database::create().await;
        let builder = || schema.map_or(database.builder(), |name| database.builder().schema(name));
        let starts = (1..=12).map(|n| builder().partitions(n).connect());
        let stores = futures_util::future::join_all(starts).await;
        let logs: HashSet<_> = stores
            .into_iter()
            .map(|store| store.unwrap().log())
            .map(|log| (log.id, log.partitions, log.secret.code("", &[])))
            .collect();
        assert_eq!(logs.len(), 1);
    }
}

#[tokio::test]
async fn the_count_of_a_log_is_read() {
    let database = Database::create().await;
    let first = database.store(3).await;
    let second = database.store(5).await;
    assert_eq!(first.log(), second.log());
    let other = database.builder().schema("other").partitions(5).connect().await.unwrap();
    assert_eq!(other.log().partitions, 5);
    assert_ne!(other.log().id, first.log().id);
    assert_ne!(other.log().secret, first.log().secret);
    commit(&other, &append("a-1", ExpectedVersion::Any, &[1])).await;
    assert!(load(&first, "a-1").await.is_empty());
    assert!(matches!(
        database.builder().partitions(0).connect().await,
        Err(ConnectError::Partitions(_))
    ));
}

#[tokio::test]
async fn migrations_can_be_run_by_hand() {
    let database = Database::create().await;
    let connect = || database.builder().migrate(false).connect();
    assert!(matches!(connect().await, Err(ConnectError::SchemaOlder { found: 0, .. })));
    let mut connection = database.connection().await;
    let mut files: Vec<_> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    let migrations: Vec<_> =
        files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    for _ in 0..2 {
        for sql in &migrations {
            connection.execute(sqlx::raw_sql(sql)).await.unwrap();
        }
    }
    assert!(matches!(connect().await, Err(ConnectError::Partitions(_))));
    connection.execute("select create_log(2)").await.unwrap();
    let store = connect().await.unwrap();
    assert_eq!(store.log().partitions, 2);
    assert_eq!(database.store(8).await.log(), store.log());

    let newer = "create or replace function event_store_schema_version() returns integer \
                 language sql immutable as 'select 1000'";
    connection.execute(newer).await.unwrap();
    assert_eq!(database.builder().connect().await.unwrap().log(), store.log(), "it may be used");
    let oldest = "create or replace function event_store_oldest_code() returns integer \
                  language sql immutable as 'select 999'";
    connection.execute(oldest).await.unwrap();
    let refused = database.builder().connect().await;
    assert!(
        matches!(refused, Err(ConnectError::SchemaNewer { found: 1000, oldest: 999, .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn an_unreachable_server_is_named() {
    let error = PostgresEventStore::builder("postgres://127.0.0.1:1/shop")
        .acquire_timeout(Duration::from_secs(2))
        .connect()
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "cannot connect to the PostgreSQL server at 127.0.0.1:1");
    let error = PostgresEventStore::connect("sqlite:orders.db").await.unwrap_err();
    assert!(matches!(error, ConnectError::InvalidUrl(_)), "{error:?}");
}

#[tokio::test]
async fn the_isolation_level_of_the_database_does_not_matter() {
    let database = Database::create().await;
    let mut connection = database.connection().await;
    let name: String =
        sqlx::query_scalar("select current_database()").fetch_one(&mut connection).await.unwrap();
    let alter = format!("alter database {name} set default_transaction_isolation = serializable");
    connection.execute(alter.as_str()).await.unwrap();
    let store = database.store(1).await;
    commit(&store, &append("a-1", ExpectedVersion::Any, &[1])).await;
    // Other callers of the function get an error there.
    let mut foreign = database.connection().await;
    for call in [
        "select append_event(0::smallint, 'a-1', -1, gen_random_uuid(), 'x', 1, 'c', '', null)",
        "select erase_stream(0::smallint, 'a-1')",
    ] {
        let error = foreign.execute(call).await.unwrap_err();
        assert!(error.to_string().contains("READ COMMITTED"), "{error}");
    }
    assert_eq!(load(&store, "a-1").await.len(), 1);
}

/// A role that may only log in; it is dropped with the database.
struct Role<'a> {
    database: &'a Database,
    name: String,
}

impl<'a> Role<'a> {
    async fn create(database: &'a Database) -> Self {
        let name = format!("{}_role", database.name());
        let role = Self { database, name };
        role.grant(&format!("create role {} login", role.name)).await;
        role
    }

    async fn grant(&self, statement: &str) {
        self.database.connection().await.execute(statement).await.unwrap();
    }

    fn builder(&self) -> PostgresEventStoreBuilder {
        let url = self.database.url();
        let at = url.find("://").unwrap() + 3;
        let host = url[at..].split_once('@').map_or(&url[at..], |(_, host)| host);
        PostgresEventStore::builder(&format!("postgres://{}@{host}", self.name)).schema("orders")
    }

    async fn drop(self) {
        self.grant(&format!("drop owned by {0} cascade; drop role {0}", self.name)).await;
    }
}

#[tokio::test]
async fn a_role_needs_only_the_rights_that_it_uses() {
    let database = Database::create().await;
    let role = Role::create(&database).await;
    let name = &role.name;
    role.grant("create schema orders").await;
    role.grant(&format!("grant usage, create on schema orders to {name}")).await;
    role.builder().connect().await.expect("it may create tables in the schema that is there");
    role.grant(&format!("revoke create on schema orders from {name}")).await;
    let store = role.builder().connect().await.expect("nothing is left to create");
    commit(&store, &append("a-1", ExpectedVersion::Any, &[1])).await;
    drop(store);
    role.drop().await;
}

#[tokio::test]
async fn tables_of_other_owners_are_not_changed() {
    let database = Database::create().await;
    let mut connection = database.connection().await;
    connection.execute("create table events (id int); create view log as select 1").await.unwrap();
    match database.builder().connect().await {
        Err(ConnectError::ForeignTables { schema, tables }) => {
            assert_eq!((schema.as_str(), tables), ("public", vec!["events".into(), "log".into()]));
        }
        other => panic!("{other:?}"),
    }
    let tables: i64 =
        sqlx::query_scalar("select count(*) from pg_tables where schemaname = 'public'")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    assert_eq!(tables, 1, "nothing was created");
    database.builder().schema("orders").connect().await.unwrap();
}

#[tokio::test]
async fn a_schema_may_have_any_name_that_the_server_accepts() {
    let database = Database::create().await;
    for name in ["tab\tand \\", "line\nbreak", "a 'quote\", public", &"ö".repeat(31)] {
        let store = database.builder().schema(name).connect().await.unwrap();
        commit(&store, &append("a-1", ExpectedVersion::Any, &[1])).await;
        assert_eq!(load(&store, "a-1").await.len(), 1, "{name:?} holds the log of another");
    }
    for name in ["", "nul\0", &"ö".repeat(32)] {
        let refused = database.builder().schema(name).connect().await;
        assert!(matches!(refused, Err(ConnectError::InvalidSchema(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn a_database_must_hold_unicode() {
    let database = Database::create().await;
    let mut connection = database.connection().await;
    let name = format!("{}_ascii", database.name());
    let create = format!("create database {name} template template0 encoding 'SQL_ASCII'");
    connection.execute(create.as_str()).await.unwrap();
    let url = database.url().replace(database.name(), &name);
    let refused = PostgresEventStore::connect(&url).await;
    connection.execute(format!("drop database {name} with (force)").as_str()).await.unwrap();
    assert!(matches!(refused, Err(ConnectError::Encoding(_))), "{refused:?}");
}

/// A clone of the database, and the results of adopting it.
#[tokio::test]
async fn a_copied_database_is_rejected_until_it_is_adopted() {
    let database = Database::create().await;
    let store = database.store(2).await;
    commit(&store, &append("a-1", ExpectedVersion::Any, &[1])).await;
    let read = Checkpoint { partition: 0, offset: 7, event_id: None };
    let name = format!("bus/{}-commands/back-commands", store.log().id);
    store.save_checkpoints(&name, std::slice::from_ref(&read)).await.unwrap();
    let log = store.log();
    drop(store);
    let admin = database.url().replace(database.name(), "postgres");
    let mut connection = PgConnection::connect(&admin).await.unwrap();
    let copies = ["copy", "moved"].map(|kind| format!("{}_{kind}", database.name()));
    for copy in &copies {
        let end = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1";
        sqlx::query(end).bind(database.name()).execute(&mut connection).await.unwrap();
        let create = format!("create database {copy} template {}", database.name());
        connection.execute(create.as_str()).await.unwrap();
    }
    let [copy, moved] = copies
        .clone()
        .map(|copy| PostgresEventStore::builder(&database.url().replace(database.name(), &copy)));
    let refused = copy.clone().connect().await;
    let own = copy.clone().adopt(Adoption::Copy).connect().await.unwrap();
    let offset = {
        let name = format!("bus/{}-commands/back-commands", own.log().id);
        own.load_checkpoints(&name).await.unwrap().first().map(|checkpoint| checkpoint.offset)
    };
    let paused = [own.load_leases(&[]).await.unwrap().is_log_paused(), {
        own.resume(Pause::LOG).await.unwrap();
        own.load_leases(&[]).await.unwrap().is_log_paused()
    }];
    let (own_log, again) = (own.log(), copy.clone().connect().await.unwrap().log());
    // A physical copy has the identity of the original.
    let undetected = copy.adopt(Adoption::UndetectedCopy).connect().await.unwrap();
    let undetected_log = undetected.log();
    let undetected_paused = undetected.load_leases(&[]).await.unwrap().is_log_paused();
    let successor = moved.adopt(Adoption::Successor).connect().await.unwrap();
    let (moved_log, moved_paused) =
        (successor.log(), successor.load_leases(&[]).await.unwrap().is_log_paused());
    drop((own, undetected, successor));
    for copy in &copies {
        connection.execute(format!("drop database {copy} with (force)").as_str()).await.unwrap();
    }
    assert!(matches!(refused, Err(ConnectError::Copied { .. })), "{refused:?}");
    assert_ne!(own_log.id, log.id);
    assert_ne!(own_log.secret, log.secret);
    assert_eq!((own_log, offset, paused), (again, Some(7), [true, false]));
    assert_ne!(undetected_log.id, own_log.id);
    assert!(undetected_paused);
    assert_eq!((moved_log, moved_paused), (log, false));
    assert_eq!(database.store(2).await.log(), log, "the original is at home");
}
