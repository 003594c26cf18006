//! Outbox rows as the arrays that the server's functions take.

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::queue::OutboxMessage;
use composable_rust_core::store::NewOutboxRow;
use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::QueryScalar;
use uuid::Uuid;

pub(crate) type Query<'q, O> = QueryScalar<'q, Postgres, O, PgArguments>;

/// The owner of each row: its number, from 1, and its stream.
#[derive(Default)]
pub(crate) struct Owner<'a> {
    number: Vec<i32>,
    stream: Vec<&'a str>,
}

impl<'a> Owner<'a> {
    pub(crate) fn push(&mut self, number: i32, stream: &'a str) {
        self.number.push(number);
        self.stream.push(stream);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.number.is_empty()
    }

    pub(crate) fn bind<O>(self, query: Query<'a, O>) -> Query<'a, O> {
        query.bind(self.number).bind(self.stream)
    }
}

#[derive(Default)]
pub(crate) struct Content<'a> {
    name: Vec<&'a str>,
    version: Vec<i32>,
    codec: Vec<&'a str>,
    bytes: Vec<&'a [u8]>,
    metadata: Vec<Option<&'a str>>,
}

impl<'a> Content<'a> {
    pub(crate) fn push(&mut self, content: &'a EncodedMessage, metadata: &'a str) {
        self.name.push(&content.name);
        self.version.push(i32::from(content.version));
        self.codec.push(&content.codec);
        self.bytes.push(&content.bytes);
        self.metadata.push(self::metadata(metadata));
    }

    pub(crate) fn bind<O>(self, query: Query<'a, O>) -> Query<'a, O> {
        query
            .bind(self.name)
            .bind(self.version)
            .bind(self.codec)
            .bind(self.bytes)
            .bind(self.metadata)
    }
}

/// Outbox rows, by column.
#[derive(Default)]
pub(crate) struct OutboxRows<'a> {
    owner: Owner<'a>,
    id: Vec<Uuid>,
    kind: Vec<&'static str>,
    target: Vec<&'a str>,
    recipient: Vec<&'a str>,
    content: Content<'a>,
}

impl<'a> OutboxRows<'a> {
    pub(crate) fn push(&mut self, owner: i32, stream: &'a str, row: &'a NewOutboxRow) {
        self.owner.push(owner, stream);
        self.id.push(row.id);
        self.kind.push(row.kind.as_str());
        self.target.push(&row.target);
        self.recipient.push(&row.recipient);
        self.content.push(&row.content, &row.metadata);
    }

    pub(crate) fn extend(&mut self, owner: i32, rows: &'a [OutboxMessage]) {
        for queued in rows {
            self.push(owner, queued.sender.as_str(), &queued.row);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.owner.is_empty()
    }

    pub(crate) fn bind<O>(self, query: Query<'a, O>) -> Query<'a, O> {
        let query = self.owner.bind(query).bind(self.id).bind(self.kind);
        self.content.bind(query.bind(self.target).bind(self.recipient))
    }
}

/// Converts empty metadata to null.
pub(crate) fn metadata(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// Converts a count. Batches are bounded far below the range of an `i32`.
pub(crate) fn count(of: impl TryInto<i32>) -> i32 {
    of.try_into().unwrap_or(i32::MAX)
}
