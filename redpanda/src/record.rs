//! Between messages and records.

use composable_rust_core::{BusError, BusMessage, BusPlace, Timestamp};
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::BaseRecord;

/// A message as it came from the broker.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) place: BusPlace,
    pub(crate) message: BusMessage,
    pub(crate) published_at: Option<Timestamp>,
}

/// A message on its way to the broker: its topic's name there, and its headers.
pub(crate) fn record<'a>(topic: &'a str, message: &'a BusMessage) -> BaseRecord<'a, str, [u8], ()> {
    BaseRecord::to(topic)
        .key(message.key.as_str())
        .payload(message.payload.as_slice())
        .headers(headers(message))
}

pub(crate) fn headers(message: &BusMessage) -> OwnedHeaders {
    let empty = OwnedHeaders::new_with_capacity(message.headers.len());
    message.headers.iter().fold(empty, |headers, (name, value)| {
        headers.insert(Header { key: name, value: Some(value) })
    })
}

/// Whether the bus takes these messages.
pub(crate) fn admit<'a>(
    limit: usize,
    messages: impl IntoIterator<Item = &'a BusMessage>,
) -> Result<(), BusError> {
    for BusMessage { topic, headers, payload, .. } in messages {
        if payload.len() > limit {
            let bytes = payload.len();
            let what =
                format!("a payload of {bytes} bytes for {topic}, where {limit} are the limit");
            return Err(BusError::new(what));
        }
        // Names end with a NUL where librdkafka hands them over.
        if let Some((name, _)) = headers.iter().find(|(name, _)| name.contains('\0')) {
            return Err(BusError::new(format!("a header named {name:?} for {topic}")));
        }
    }
    Ok(())
}

/// A message from the broker. What is no UTF-8 is read with replacement characters, and what is
/// not there as empty.
pub(crate) fn arrived(record: &BorrowedMessage<'_>, prefix: &str) -> Arrived {
    let text =
        |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let topic = record.topic();
    let message = BusMessage {
        topic: topic.strip_prefix(prefix).unwrap_or(topic).to_owned(),
        key: text(record.key()),
        headers: record.headers().map_or_else(Vec::new, |headers| {
            headers.iter().map(|header| (header.key.to_owned(), text(header.value))).collect()
        }),
        payload: record.payload().unwrap_or_default().to_vec(),
    };
    let place = BusPlace { partition: record.partition(), offset: record.offset() };
    Arrived { place, message, published_at: published_at(record) }
}

/// When it was published, as the broker tells it.
pub(crate) fn published_at(record: &BorrowedMessage<'_>) -> Option<Timestamp> {
    let millis = record.timestamp().to_millis().filter(|millis| *millis >= 0);
    millis.map(|millis| Timestamp::from_micros(millis.saturating_mul(1_000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let message = |name: &str, bytes| BusMessage {
            topic: "t".to_owned(),
            key: "k".to_owned(),
            headers: vec![(name.to_owned(), "\0".to_owned())],
            payload: vec![0; bytes],
        };
        assert!(admit(5, [&message("a", 5)]).is_ok());
        assert!(admit(5, [&message("a", 0), &message("a", 6)]).is_err());
        assert!(admit(5, [&message("a\0b", 0)]).is_err());
    }
}
