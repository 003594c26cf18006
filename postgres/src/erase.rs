//! Erasing, closing and overriding.

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::store::{AppendOutcome, StoreError};
use composable_rust_core::{EventId, Position, StreamId, Version};

use crate::PostgresEventStore;
use crate::error::store_error;
use crate::row::{bigint, smallint};

const ERASE_ELSEWHERE: &str = "select erase_elsewhere($1, $2)";
const ERASE_STREAM: &str = "select erase_stream($1, $2)";
const CLOSE_STREAM: &str = "select close_stream($1, $2, $3, $4)";
const OVERRIDE_EVENT: &str = "select override_event($1, $2, $3, $4, $5, $6, $7)";

fn number(returned: Option<i64>) -> Option<u64> {
    returned.and_then(|number| u64::try_from(number).ok())
}

pub(crate) async fn erase_stream(
    store: &PostgresEventStore,
    stream: &StreamId,
) -> Result<u64, StoreError> {
    let partition = store.log.partition_of(stream);
    let result: Vec<Option<i64>> = store
        .writers
        .run(async |writer| {
            sqlx::query(ERASE_ELSEWHERE)
                .bind(smallint(partition))
                .bind(stream.as_str())
                .execute(&mut *writer)
                .await?;
            sqlx::query_scalar(ERASE_STREAM)
                .bind(smallint(partition))
                .bind(stream.as_str())
                .fetch_one(writer)
                .await
        })
        .await?;
    let [erased, offset] = result[..] else {
        return Err(store_error(sqlx::Error::Protocol(
            "erase_stream returned a malformed result".to_owned(),
        )));
    };
    if let Some(offset) = number(offset) {
        store.heads.committed(Position::new(partition, offset));
    }
    Ok(number(erased).unwrap_or(0))
}

pub(crate) async fn close_stream(
    store: &PostgresEventStore,
    stream: &StreamId,
    expected: Version,
    event_id: EventId,
) -> Result<AppendOutcome, StoreError> {
    let partition = store.log.partition_of(stream);
    let result: Vec<Option<i64>> = store
        .writers
        .run(async |writer| {
            sqlx::query_scalar(CLOSE_STREAM)
                .bind(smallint(partition))
                .bind(stream.as_str())
                .bind(bigint(expected.get()))
                .bind(event_id.0)
                .fetch_one(writer)
                .await
        })
        .await?;
    let [closed, version, offset] = result[..] else {
        return Err(store_error(sqlx::Error::Protocol(
            "close_stream returned a malformed result".to_owned(),
        )));
    };
    let version = Version::new(number(version).unwrap_or(0));
    if closed != Some(1) {
        return Ok(AppendOutcome::Conflict { actual: version });
    }
    let position = number(offset).map(|offset| Position::new(partition, offset));
    if let Some(position) = position {
        store.heads.committed(position);
    }
    Ok(AppendOutcome::Committed { version, position, actual: version })
}

pub(crate) async fn override_event(
    store: &PostgresEventStore,
    stream: &StreamId,
    version: Version,
    replacement: &EncodedMessage,
) -> Result<(), StoreError> {
    replacement.validate()?;
    let replaced: bool = store
        .writers
        .run(async |writer| {
            sqlx::query_scalar(OVERRIDE_EVENT)
                .bind(smallint(store.log.partition_of(stream)))
                .bind(stream.as_str())
                .bind(bigint(version.get()))
                .bind(&*replacement.name)
                .bind(i32::from(replacement.version))
                .bind(&*replacement.codec)
                .bind(&*replacement.bytes)
                .fetch_one(writer)
                .await
        })
        .await?;
    if replaced {
        Ok(())
    } else {
        Err(StoreError::Invalid(format!(
            "stream {stream} has no event of version {version} with content"
        )))
    }
}
