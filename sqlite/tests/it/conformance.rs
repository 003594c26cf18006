//! The conformance suite of event stores.

use std::any::Any;
use std::time::Duration;

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::queue::OutboxKind;
use composable_rust_core::store::{NewOutboxRow, TimerArming};
use composable_rust_core::{MessageId, Timestamp};
use composable_rust_sqlite::SqliteEventStore;
use composable_rust_testing::conformance::StoreBackend;
use composable_rust_testing::{StoredOutboxRow, StoredTimer};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{ConnectOptions as _, Executor as _, Row as _};
use tempfile::TempDir;

struct File {
    _folder: TempDir,
    store: SqliteEventStore,
}

async fn file(partitions: u16) -> File {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let store = SqliteEventStore::builder(path).partitions(partitions).open().await.unwrap();
    File { _folder: folder, store }
}

impl File {
    /// A connection of another program.
    async fn connection(&self) -> SqliteConnection {
        SqliteConnectOptions::new()
            .filename(self.store.path())
            .busy_timeout(Duration::from_secs(60))
            .connect()
            .await
            .unwrap()
    }

    async fn rows(&self, sql: &str) -> Vec<SqliteRow> {
        sqlx::query(sql).fetch_all(&mut self.connection().await).await.unwrap()
    }
}

impl StoreBackend for File {
    type Store = SqliteEventStore;

    const WAITS_FOR_FOREIGN_WRITERS: bool = true;

    fn store(&self) -> SqliteEventStore {
        self.store.clone()
    }

    async fn open_again(&self) -> SqliteEventStore {
        SqliteEventStore::open(self.store.path()).await.unwrap()
    }

    /// Writes events at the ends of all partitions, and draws outbox sequences.
    async fn foreign_rollback(&self) {
        let mut connection = self.connection().await;
        connection.execute("begin immediate").await.unwrap();
        connection
            .execute(
                "insert into events select partition, 1 + coalesce((select max(log_offset) \
                 from events e where e.partition = p.partition), 0), 'rolled-back', 1, \
                 randomblob(16), 'x', 1, 'c', 0, '', x'' from partitions p; \
                 update partitions set outbox_sequence = outbox_sequence + 1; rollback",
            )
            .await
            .unwrap();
    }

    async fn hold_foreign_transaction(&self, duration: Duration) -> bool {
        let mut connection = self.connection().await;
        connection.execute("begin immediate").await.unwrap();
        connection.execute("create table foreign_work (n integer)").await.unwrap();
        tokio::time::sleep(duration).await;
        connection.execute("rollback").await.unwrap();
        true
    }

    async fn idle_snapshot(&self) -> Box<dyn Any + Send> {
        let mut connection = self.connection().await;
        connection.execute("begin; select count(*) from events").await.unwrap();
        // Closing the connection ends the transaction.
        Box::new(connection)
    }

    async fn outbox(&self) -> Option<Vec<StoredOutboxRow>> {
        let sql = "select message_type, schema_version, codec, message_data, metadata, stream_id, \
                   id, kind, target, recipient from outbox order by partition, sequence";
        let stored = |row: &SqliteRow| StoredOutboxRow {
            stream: row.get::<&str, _>(5).parse().unwrap(),
            row: NewOutboxRow {
                id: row.get(6),
                kind: OutboxKind::from_name(row.get(7)).unwrap(),
                target: row.get(8),
                recipient: row.get(9),
                content: content(row),
                metadata: row.get(4),
            },
        };
        Some(self.rows(sql).await.iter().map(stored).collect())
    }

    async fn timers(&self) -> Option<Vec<StoredTimer>> {
        let sql = "select message_type, schema_version, codec, message_data, metadata, stream_id, \
                   timer_id, armed_by, armed_index, due from timers";
        let stored = |row: &SqliteRow| StoredTimer {
            stream: row.get::<&str, _>(5).parse().unwrap(),
            id: row.get(6),
            arming: TimerArming { armed_by: MessageId(row.get(7)), effect_index: row.get(8) },
            due: Timestamp::from_micros(row.get(9)),
            content: content(row),
            metadata: row.get(4),
        };
        Some(self.rows(sql).await.iter().map(stored).collect())
    }
}

fn content(row: &SqliteRow) -> EncodedMessage {
    EncodedMessage {
        name: row.get::<String, _>(0).into(),
        version: row.get(1),
        codec: row.get::<String, _>(2).into(),
        bytes: row.get(3),
    }
}

composable_rust_testing::conformance!(file);
