//! Between messages and records.

use composable_rust_core::{BusMessage, BusRecord, PublishError, Timestamp, TopicOffset};
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::BaseRecord;

/// A message as it came from the broker.
#[derive(Debug)]
pub(crate) struct ReceivedRecord {
    pub(crate) place: TopicOffset,
    pub(crate) message: BusMessage,
    /// What of the message is missing or no text, as it is.
    odd: Option<Box<UnreadableHeader>>,
    pub(crate) published_at: Option<Timestamp>,
}

/// A message on its way to the broker: its topic's name there, and its headers.
pub(crate) fn record<'a>(topic: &'a str, message: &'a BusMessage) -> BaseRecord<'a, str, [u8], ()> {
    let record = BaseRecord::to(topic).key(message.key.as_str()).headers(headers(message));
    match payload(message) {
        Some(payload) => record.payload(payload),
        None => record,
    }
}

/// The value of a message's record; `None` for a tombstone.
pub(crate) fn payload(message: &BusMessage) -> Option<&[u8]> {
    (!message.is_tombstone()).then_some(message.payload.as_slice())
}

pub(crate) fn headers(message: &BusMessage) -> OwnedHeaders {
    let empty = OwnedHeaders::new_with_capacity(message.headers.len());
    message.headers.iter().fold(empty, |headers, (name, value)| {
        headers.insert(Header { key: name, value: Some(value) })
    })
}

/// Checks that the bus takes these messages.
pub(crate) fn admit<'a>(
    limit: usize,
    messages: impl IntoIterator<Item = &'a BusMessage>,
) -> Result<(), PublishError> {
    for BusMessage { topic, headers, payload, .. } in messages {
        if payload.len() > limit {
            let bytes = payload.len();
            let what =
                format!("a payload of {bytes} bytes for {topic}, where {limit} are the limit");
            return Err(PublishError::Invalid(what));
        }
        // Names end with a NUL where librdkafka hands them over.
        if let Some((name, _)) = headers.iter().find(|(name, _)| name.contains('\0')) {
            let what = format!("a header named {name:?} for {topic}");
            return Err(PublishError::Invalid(what));
        }
    }
    Ok(())
}

/// A message that is not all text: its key and headers, and whether it has a payload.
#[derive(Debug)]
struct UnreadableHeader {
    key: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    is_tombstone: bool,
}

impl ReceivedRecord {
    #[cfg(test)]
    pub(crate) fn plain(place: TopicOffset, message: BusMessage) -> Self {
        Self { place, message, odd: None, published_at: None }
    }

    /// The message as its topic holds it.
    pub(crate) fn record(&self) -> BusRecord {
        let whole = BusRecord::from(&self.message);
        let Some(UnreadableHeader { key, headers, is_tombstone }) = self.odd.as_deref() else {
            return whole;
        };
        let payload = whole.payload.filter(|_| !is_tombstone);
        BusRecord { key: key.clone(), headers: headers.clone(), payload }
    }
}

/// A message from the broker.
pub(crate) fn arrived(record: &BorrowedMessage<'_>, prefix: &str) -> ReceivedRecord {
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
    let odd = (!is_plain || record.payload().is_none()).then(|| {
        let owned =
            |header: Header<'_, &[u8]>| (header.key.to_owned(), header.value.map(<[u8]>::to_vec));
        Box::new(UnreadableHeader {
            key: record.key().map(<[u8]>::to_vec),
            headers: headers().map(owned).collect(),
            is_tombstone: record.payload().is_none(),
        })
    });
    let place = TopicOffset { partition: record.partition(), offset: record.offset() };
    ReceivedRecord { place, message, odd, published_at: published_at(record) }
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
