//! Conversion between bus messages and Kafka records.

use composable_rust_core::Timestamp;
use composable_rust_core::bus::{BusMessage, BusRecord, PublishError, TopicOffset};
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::BaseRecord;

/// A message received from the broker.
#[derive(Debug)]
pub(crate) struct ReceivedRecord {
    pub(crate) at: TopicOffset,
    pub(crate) message: BusMessage,
    /// The raw parts, if the key or a header is missing or not UTF-8, or the payload is missing.
    raw: Option<Box<RawParts>>,
    pub(crate) published_at: Option<Timestamp>,
}

/// Returns the record of a message; `topic` is the topic's name on the wire.
pub(crate) fn record<'a>(topic: &'a str, message: &'a BusMessage) -> BaseRecord<'a, str, [u8], ()> {
    let record = BaseRecord::to(topic).key(message.key.as_str()).headers(headers(message));
    match payload(message) {
        Some(payload) => record.payload(payload),
        None => record,
    }
}

/// Returns the value of a message's record; `None` for a tombstone.
pub(crate) fn payload(message: &BusMessage) -> Option<&[u8]> {
    (!message.is_tombstone()).then_some(message.payload.as_slice())
}

pub(crate) fn headers(message: &BusMessage) -> OwnedHeaders {
    let empty = OwnedHeaders::new_with_capacity(message.headers.len());
    message.headers.iter().fold(empty, |headers, (name, value)| {
        headers.insert(Header { key: name, value: Some(value) })
    })
}

/// Checks the payload sizes and header names of messages before they are published.
pub(crate) fn check_size_and_headers<'a>(
    limit: usize,
    messages: impl IntoIterator<Item = &'a BusMessage>,
) -> Result<(), PublishError> {
    for BusMessage { topic, headers, payload, .. } in messages {
        if payload.len() > limit {
            let bytes = payload.len();
            let text =
                format!("payload of {bytes} bytes for {topic} exceeds the limit of {limit} bytes");
            return Err(PublishError::Invalid(text));
        }
        // librdkafka passes header names as strings that end with NUL.
        if let Some((name, _)) = headers.iter().find(|(name, _)| name.contains('\0')) {
            let text = format!("header name {name:?} for {topic} contains NUL");
            return Err(PublishError::Invalid(text));
        }
    }
    Ok(())
}

/// The key and headers of a record as bytes. `is_tombstone` is `true` if it has no payload.
#[derive(Debug)]
struct RawParts {
    key: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    is_tombstone: bool,
}

impl ReceivedRecord {
    #[cfg(test)]
    pub(crate) fn plain(at: TopicOffset, message: BusMessage) -> Self {
        Self { at, message, raw: None, published_at: None }
    }

    /// Returns the record as stored on its topic.
    pub(crate) fn record(&self) -> BusRecord {
        let text = BusRecord::from(&self.message);
        let Some(RawParts { key, headers, is_tombstone }) = self.raw.as_deref() else {
            return text;
        };
        let payload = text.payload.filter(|_| !is_tombstone);
        BusRecord { key: key.clone(), headers: headers.clone(), payload }
    }
}

/// Converts a record from the broker; removes `prefix` from its topic's name.
pub(crate) fn received(record: &BorrowedMessage<'_>, prefix: &str) -> ReceivedRecord {
    let text =
        |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let topic = record.topic();
    let headers = || record.headers().into_iter().flat_map(|headers| headers.iter());
    let message = BusMessage {
        topic: topic.strip_prefix(prefix).unwrap_or(topic).to_owned(),
        key: text(record.key()),
        headers: headers().map(|header| (header.key.to_owned(), text(header.value))).collect(),
        payload: record.payload().unwrap_or_default().to_vec(),
    };
    let is_text = |bytes: Option<&[u8]>| bytes.is_some_and(|b| std::str::from_utf8(b).is_ok());
    let is_plain = is_text(record.key()) && headers().all(|header| is_text(header.value));
    let raw = (!is_plain || record.payload().is_none()).then(|| {
        let owned =
            |header: Header<'_, &[u8]>| (header.key.to_owned(), header.value.map(<[u8]>::to_vec));
        Box::new(RawParts {
            key: record.key().map(<[u8]>::to_vec),
            headers: headers().map(owned).collect(),
            is_tombstone: record.payload().is_none(),
        })
    });
    let at = TopicOffset { partition: record.partition(), offset: record.offset() };
    ReceivedRecord { at, message, raw, published_at: published_at(record) }
}

/// Returns the record's timestamp, if it has one.
pub(crate) fn published_at(record: &BorrowedMessage<'_>) -> Option<Timestamp> {
    let millis = record.timestamp().to_millis().filter(|millis| *millis >= 0);
    millis.map(|millis| Timestamp::from_micros(millis.saturating_mul(1_000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oversized_payloads_and_nul_in_headers_are_rejected() {
        let message = |name: &str, bytes| BusMessage {
            topic: "t".to_owned(),
            key: "k".to_owned(),
            headers: vec![(name.to_owned(), "\0".to_owned())],
            payload: vec![0; bytes],
        };
        assert!(check_size_and_headers(5, [&message("a", 5)]).is_ok());
        assert!(check_size_and_headers(5, [&message("a", 0), &message("a", 6)]).is_err());
        assert!(check_size_and_headers(5, [&message("a\0b", 0)]).is_err());
    }
}
