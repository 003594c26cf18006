//! Filling stores: with the generated events in bulk, and with what waits by the app itself.

use std::fmt::Write as _;
use std::path::Path;

use composable_rust_core::TargetExt as _;
use composable_rust_core::queue::{OutboxKind, Queue};
use composable_rust_runtime::App;
use futures_util::TryStreamExt as _;
use futures_util::future::join_all;
use sqlx::postgres::PgPoolCopyExt as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, QueryBuilder, Sqlite};

use crate::app::{Order, OrderCommand};
use crate::generator::{Generator, Row};

/// The number of orders whose message to the stock is a dead letter.
pub(crate) const DEAD_LETTERS: usize = 5_000;
/// The number of orders whose message waits.
const WAITING: usize = 2_000;
/// The partitions of a log in a file.
const SQLITE_PARTITIONS: u16 = 8;

/// The next offset of each partition.
struct Offsets(Vec<u64>);

impl Offsets {
    fn new(partitions: u16) -> Self {
        Self(vec![0; usize::from(partitions)])
    }

    fn next(&mut self, row: &Row) -> (u16, u64) {
        let partitions = u16::try_from(self.0.len()).unwrap();
        let partition = row.stream.partition(partitions);
        let offset = &mut self.0[usize::from(partition)];
        *offset += 1;
        (partition, *offset)
    }
}

pub(crate) async fn postgres(url: &str, generator: &Generator, partitions: u16) {
    const PIECE: usize = 1 << 20;
    let pool = sqlx::PgPool::connect(url).await.unwrap();
    let mut copy = pool
        .copy_in_raw(
            "copy events (partition, log_offset, stream_id, version, event_id, created_at, \
             event_type, schema_version, codec, event_data, metadata) from stdin",
        )
        .await
        .unwrap();
    let (mut offsets, mut text) = (Offsets::new(partitions), String::new());
    for row in generator.rows() {
        let (partition, offset) = offsets.next(&row);
        let Row { id, stream, version, at, content, metadata } = &row;
        let (name, shape, codec) = (&content.name, content.version, &content.codec);
        write!(
            text,
            "{partition}\t{offset}\t{stream}\t{version}\t{id}\t{at}\t{name}\t{shape}\t{codec}\t\\\\x"
        )
        .unwrap();
        for byte in &content.bytes {
            write!(text, "{byte:02x}").unwrap();
        }
        writeln!(text, "\t{metadata}").unwrap();
        if text.len() >= PIECE {
            copy.send(text.as_bytes()).await.unwrap();
            text.clear();
        }
    }
    copy.send(text.as_bytes()).await.unwrap();
    copy.finish().await.unwrap();
    pool.execute("vacuum analyze").await.unwrap();
    pool.close().await;
}

pub(crate) async fn sqlite(file: &Path, generator: &Generator) {
    const ROWS: usize = 200;
    const ROWS_OF_TRANSACTION: usize = 1_000;
    let options = SqliteConnectOptions::new().filename(file).synchronous(SqliteSynchronous::Off);
    let mut connection = options.connect().await.unwrap();
    let (mut offsets, mut rows) = (Offsets::new(SQLITE_PARTITIONS), generator.rows().peekable());
    while rows.peek().is_some() {
        let mut transaction = connection.begin().await.unwrap();
        for _ in 0..ROWS_OF_TRANSACTION {
            let some: Vec<Row> = rows.by_ref().take(ROWS).collect();
            if some.is_empty() {
                break;
            }
            let mut insert = QueryBuilder::<Sqlite>::new(
                "insert into events (partition, log_offset, stream_id, version, event_id, \
                 event_type, schema_version, codec, created_at, metadata, event_data) ",
            );
            insert.push_values(&some, |mut values, row| {
                let (partition, offset) = offsets.next(row);
                values
                    .push_bind(partition)
                    .push_bind(i64::try_from(offset).unwrap())
                    .push_bind(row.stream.as_str().to_owned())
                    .push_bind(i64::try_from(row.version).unwrap())
                    .push_bind(row.id.as_bytes().to_vec())
                    .push_bind(row.content.name.to_string())
                    .push_bind(row.content.version)
                    .push_bind(row.content.codec.to_string())
                    .push_bind(row.at.as_micros())
                    .push_bind(row.metadata.clone())
                    .push_bind(row.content.bytes.clone());
            });
            insert.build().execute(&mut *transaction).await.unwrap();
        }
        transaction.commit().await.unwrap();
    }
    connection.close().await.unwrap();
}

/// Has the app place orders, whose messages to the stock wait: the first of them as dead letters.
pub(crate) async fn waiting(app: &App) {
    place(app, "dead", DEAD_LETTERS).await;
    for partition in 0..app.log().partitions {
        let queue = Queue { partition, kind: OutboxKind::Dispatch, target: "stock".to_owned() };
        let waiting: Vec<_> = app.queues().messages(&queue).try_collect().await.unwrap();
        for message in waiting {
            let reason = format!("the shelf is empty for {}", message.queued.sender);
            app.queues().park(&message, &reason).await.unwrap();
        }
    }
    place(app, "late", WAITING).await;
}

async fn place(app: &App, name: &str, count: usize) {
    let numbers: Vec<usize> = (0..count).collect();
    for some in numbers.chunks(500) {
        let placed = some.iter().map(|n| async move {
            let place = OrderCommand::Place { note: format!("for customer {n}") };
            app.handle(&Order::id(format!("{name}{n}"))).send(place).await.unwrap();
        });
        join_all(placed).await;
    }
}
