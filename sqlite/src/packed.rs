//! Pages of events in one row.
//!
//! The driver hands each row from its own thread to the reader's, with an allocation for every
//! column and often a thread switch. That costs several times what SQLite needs to find the row. So
//! SQLite joins the events of a range to one value.

use composable_rust_core::event::StoredEvent;
use composable_rust_core::{EventId, Position, Timestamp, Version};
use uuid::Uuid;

use crate::load::content;

/// Joins the rows of `events e` and their overrides `o` to one value, which [`unpack`] decodes: of
/// each event its numbers in decimal, then its id, texts and payload. The casts preserve all bytes.
macro_rules! pack {
    () => {
        "group_concat(\
         printf('%d %d %d %d %d %d %d %d %d ', e.version, e.log_offset, e.created_at, \
         coalesce(o.schema_version, e.schema_version), octet_length(e.stream_id), \
         octet_length(e.metadata), octet_length(coalesce(o.event_type, e.event_type)), \
         octet_length(coalesce(o.codec, e.codec)), \
         octet_length(coalesce(o.event_data, e.event_data))) \
         || cast(e.event_id as text) || e.stream_id || e.metadata \
         || coalesce(o.event_type, e.event_type) || coalesce(o.codec, e.codec) \
         || cast(coalesce(o.event_data, e.event_data) as text), '')"
    };
}
pub(crate) use pack;

/// Decodes the events of a packed value and adds them to `events`.
pub(crate) fn unpack(
    partition: u16,
    bytes: &[u8],
    events: &mut Vec<StoredEvent>,
) -> Result<(), sqlx::Error> {
    let mut rest = Remaining(bytes);
    while !rest.0.is_empty() {
        let event = rest.event(partition);
        events.push(event.ok_or_else(|| sqlx::Error::Protocol("an event is cut short".into()))?);
    }
    Ok(())
}

/// The bytes that are not read yet.
struct Remaining<'b>(&'b [u8]);

impl<'b> Remaining<'b> {
    fn event(&mut self, partition: u16) -> Option<StoredEvent> {
        let (version, offset) = (self.number()?, self.number()?);
        let recorded_at = Timestamp::from_micros(self.number()?);
        let schema_version: i64 = self.number()?;
        let (stream, metadata): (usize, usize) = (self.number()?, self.number()?);
        let (name, codec, data) = (self.number()?, self.number()?, self.number()?);
        Some(StoredEvent {
            id: EventId(Uuid::from_slice(self.take(16)?).ok()?),
            stream: self.text(stream)?.parse().ok()?,
            version: Version::new(version),
            position: Position::new(partition, offset),
            metadata: self.text(metadata)?.to_owned(),
            content: content(
                self.text(name)?,
                schema_version,
                self.text(codec)?,
                self.take(data)?.to_vec(),
            ),
            recorded_at,
        })
    }

    fn number<N: std::str::FromStr>(&mut self) -> Option<N> {
        let end = self.0.iter().position(|byte| *byte == b' ')?;
        let digits = self.text(end)?;
        self.take(1)?;
        digits.parse().ok()
    }

    fn text(&mut self, bytes: usize) -> Option<&'b str> {
        std::str::from_utf8(self.take(bytes)?).ok()
    }

    fn take(&mut self, bytes: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use composable_rust_core::event::StoredContent;

    use super::*;

    fn packed() -> Vec<u8> {
        let mut bytes = b"7 42 -5 3 7 2 4 1 3 ".to_vec();
        bytes.extend([0xff; 16]);
        bytes.extend(b"order-1{}a.bcx\0 \x80");
        bytes
    }

    #[test]
    fn events_are_unpacked_one_after_the_other() {
        let mut events = Vec::new();
        unpack(2, &[packed(), packed()].concat(), &mut events).unwrap();
        assert_eq!(events.len(), 2);
        let event = &events[1];
        assert_eq!((event.version, event.position), (Version::new(7), Position::new(2, 42)));
        assert_eq!((event.stream.as_str(), &*event.metadata), ("order-1", "{}"));
        assert_eq!((event.id.0, event.recorded_at.as_micros()), (Uuid::max(), -5));
        let StoredContent::Present(content) = &event.content else { panic!("no content") };
        assert_eq!((&*content.name, content.version, &*content.codec), ("a.bc", 3, "x"));
        assert_eq!(content.bytes, b"\0 \x80");
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        let bytes = packed();
        for end in 1..bytes.len() {
            assert!(unpack(0, &bytes[..end], &mut Vec::new()).is_err(), "{end} bytes");
        }
    }
}
