//! Rows that are read while they arrive.

use std::sync::Arc;

use futures_util::future::FutureExt as _;
use futures_util::stream::{self, Stream, StreamExt as _};
use sqlx::Postgres;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use tokio::sync::mpsc;

use crate::pool::Pool;

/// The maximum number of rows in one chunk.
const HANDOVER_CAPACITY: usize = 16;

impl Pool {
    /// Returns the rows of `query`, on a connection of their own.
    pub(crate) fn rows<'a>(
        self: &'a Arc<Self>,
        query: Query<'a, Postgres, PgArguments>,
    ) -> impl Stream<Item = Result<PgRow, sqlx::Error>> + Send + 'a {
        let (sender, mut receiver) = mpsc::channel(1);
        let mut reading = Box::pin(self.hand_over(query, sender).fuse());
        stream::poll_fn(move |context| {
            // It runs until it waits for the server or for the consumer of its rows.
            let _ = reading.as_mut().poll_unpin(context);
            receiver.poll_recv(context)
        })
        .flat_map(stream::iter)
    }

    async fn hand_over(
        self: &Arc<Self>,
        query: Query<'_, Postgres, PgArguments>,
        mut sender: mpsc::Sender<Vec<Result<PgRow, sqlx::Error>>>,
    ) {
        let response = self.hand_over_rows(query, &mut sender).await;
        if let Err(error) = response {
            // It fails only when the consumer is gone.
            let _ = sender.send(vec![Err(error)]).await;
        }
    }

    async fn hand_over_rows(
        self: &Arc<Self>,
        query: Query<'_, Postgres, PgArguments>,
        sender: &mut mpsc::Sender<Vec<Result<PgRow, sqlx::Error>>>,
    ) -> Result<(), sqlx::Error> {
        let mut lent = self.lend().await?;
        let process = lent.process();
        let (connection, is_reading) = lent.parts()?;
        let mut rows = query.fetch(connection).ready_chunks(HANDOVER_CAPACITY);
        let failed = loop {
            let next = async { Ok(rows.next().await) };
            match self.await_response(process, next).await {
                Ok(None) => break None,
                Ok(Some(mut chunk)) => {
                    *is_reading = true;
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
        lent.end(failed.as_ref());
        failed.map_or(Ok(()), Err)
    }
}
