//! The connections that read.

use std::time::Duration;

use composable_rust_core::StoreError;

use futures_util::future::FutureExt as _;
use futures_util::stream::{self, Stream, StreamExt as _};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{PgConnection, PgPool, Postgres};

use tokio::sync::mpsc;

use crate::error::store_error;
use crate::limit::{is_whole, within};

/// So many rows at most are handed over at once.
const HANDED_OVER: usize = 16;

/// A pool whose connections are closed, not taken back, when an answer did not arrive whole: sqlx
/// would ask the server about them first, and a server that is silently gone never answers.
#[derive(Debug)]
pub(crate) struct Readers {
    pub(crate) pool: PgPool,
    /// How long an answer, or the next row of one, may take; `None`: for ever.
    limit: Option<Duration>,
}

impl Readers {
    pub(crate) fn new(pool: PgPool, limit: Option<Duration>) -> Self {
        Self { pool, limit }
    }

    /// Runs `statement` on a connection of its own.
    pub(crate) async fn run<T>(
        &self,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        let mut reader = self.get().await.map_err(store_error)?;
        let answer = match reader.connection.as_deref_mut() {
            Some(connection) => within(self.limit, statement(connection)).await,
            None => Err(sqlx::Error::PoolClosed),
        };
        reader.end(answer.as_ref().err());
        answer.map_err(store_error)
    }

    /// The rows of `query`, on a connection of their own.
    pub(crate) fn rows<'a>(
        &'a self,
        query: Query<'a, Postgres, PgArguments>,
    ) -> impl Stream<Item = Result<PgRow, sqlx::Error>> + Send + 'a {
        let (sender, mut receiver) = mpsc::channel(1);
        let mut reading = Box::pin(self.hand_over(query, sender).fuse());
        stream::poll_fn(move |context| {
            // It goes on until it waits for the server or for what it sent to be taken.
            let _ = reading.as_mut().poll_unpin(context);
            receiver.poll_recv(context)
        })
        .flat_map(stream::iter)
    }

    async fn hand_over(
        &self,
        query: Query<'_, Postgres, PgArguments>,
        mut sender: mpsc::Sender<Vec<Result<PgRow, sqlx::Error>>>,
    ) {
        let answer = self.hand_over_rows(query, &mut sender).await;
        if let Err(error) = answer {
            // It fails only when nobody reads on.
            let _ = sender.send(vec![Err(error)]).await;
        }
    }

    async fn hand_over_rows(
        &self,
        query: Query<'_, Postgres, PgArguments>,
        sender: &mut mpsc::Sender<Vec<Result<PgRow, sqlx::Error>>>,
    ) -> Result<(), sqlx::Error> {
        let mut reader = self.get().await?;
        let Some(connection) = reader.connection.as_deref_mut() else {
            return Err(sqlx::Error::PoolClosed);
        };
        let mut rows = query.fetch(connection).ready_chunks(HANDED_OVER);
        let failed = loop {
            let next = async { Ok(rows.next().await) };
            match within(self.limit, next).await {
                Ok(None) => break None,
                Ok(Some(mut chunk)) => {
                    // Nothing follows an error.
                    let failed = match chunk.last() {
                        Some(Err(_)) => chunk.pop().and_then(Result::err),
                        _ => None,
                    };
                    let _ = sender.send(chunk).await;
                    if failed.is_some() {
                        break failed;
                    }
                }
                Err(error) => break Some(error),
            }
        };
        drop(rows);
        reader.end(failed.as_ref());
        failed.map_or(Ok(()), Err)
    }

    async fn get(&self) -> Result<Reader<'_>, sqlx::Error> {
        Ok(Reader { readers: self, connection: Some(self.pool.acquire().await?) })
    }

    /// Closes the connections that nobody uses.
    fn clear(&self) {
        while let Some(connection) = self.pool.try_acquire() {
            drop(connection.detach());
        }
    }
}

/// A connection in use. Dropped before its end, it is closed.
struct Reader<'r> {
    readers: &'r Readers,
    connection: Option<PoolConnection<Postgres>>,
}

impl Reader<'_> {
    fn end(mut self, error: Option<&sqlx::Error>) {
        if error.is_some_and(|error| !is_whole(error)) {
            // The others were opened to the same server: most likely they are gone too.
            self.readers.clear();
        } else if let Some(mut connection) = self.connection.take() {
            // What sqlx does with one that is dropped, but for ever.
            let returned = connection.return_to_pool();
            let limit = self.readers.limit;
            tokio::spawn(async move {
                let returned = async {
                    returned.await;
                    Ok(())
                };
                within(limit, returned).await
            });
        }
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            drop(connection.detach());
        }
    }
}
