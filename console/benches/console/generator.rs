//! The events of a log that looks like that of a service.

use std::time::Duration;

use composable_rust_core::codec::{Codecs, EncodedMessage};
use composable_rust_core::{CorrelationId, Metadata, StreamId, Timestamp};
use uuid::Uuid;

use crate::app::OrderEvent;

/// The number of types other than orders.
const TYPES: u64 = 39;
/// The events of each of these types.
const STEPS: [&str; 6] = ["opened", "changed", "approved", "sent", "settled", "archived"];
/// The number of events of a workflow: those of its order, and two of another type.
const WORKFLOW: u64 = 6;
const OF_ORDER: u64 = 4;
/// The number of events of the longest stream, to which those of some workflows belong.
const LONGEST: u64 = 10_000;
/// The time in which the events were recorded.
const SPAN: Duration = Duration::from_secs(10 * 86_400);

/// A log of a number of events.
#[derive(Debug)]
pub(crate) struct Generator {
    events: u64,
    begin: Timestamp,
    codecs: Codecs,
}

/// An event with its place in its stream.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) id: Uuid,
    pub(crate) stream: StreamId,
    pub(crate) version: u64,
    pub(crate) at: Timestamp,
    pub(crate) content: EncodedMessage,
    pub(crate) metadata: String,
}

impl Generator {
    pub(crate) fn new(events: u64, end: Timestamp) -> Self {
        Self { events, begin: end - SPAN, codecs: Codecs::default() }
    }

    /// Returns the events in the order of the log.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Row> {
        (0..self.events).map(|n| self.row(n))
    }

    /// Returns a workflow in the middle of the log, and the time of its first event.
    pub(crate) fn middle(&self) -> (u64, Timestamp) {
        let workflow = self.events / 2 / WORKFLOW + 1;
        (workflow, self.at(workflow * WORKFLOW))
    }

    fn at(&self, n: u64) -> Timestamp {
        let micros = u128::from(n) * SPAN.as_micros() / u128::from(self.events);
        self.begin + Duration::from_micros(u64::try_from(micros).unwrap())
    }

    fn row(&self, n: u64) -> Row {
        let (workflow, step) = (n / WORKFLOW, n % WORKFLOW);
        let every = (self.events / LONGEST).max(1);
        let (stream, version) = if workflow % every == 0 {
            (longest(), workflow / every * WORKFLOW + step + 1)
        } else if step < OF_ORDER {
            (order(workflow), step + 1)
        } else {
            (other(workflow), step - OF_ORDER + 1)
        };
        let content = match stream.category() {
            "order" => self.of_order(&stream, version),
            category => of_other(category, workflow, version),
        };
        let metadata = Metadata {
            correlation_id: correlation(workflow),
            causation_id: id(3, workflow),
            user: (workflow % 8 == 0).then(|| format!("user-{}", workflow % 1_000)),
            user_from: None,
            traceparent: None,
            return_addresses: Vec::new(),
            reply: None,
            follower: None,
        };
        let metadata = serde_json::to_string(&metadata).unwrap();
        Row { id: id(1, n), stream, version, at: self.at(n), content, metadata }
    }

    fn of_order(&self, stream: &StreamId, version: u64) -> EncodedMessage {
        let event = match version {
            1 => OrderEvent::Placed { note: format!("for customer {}", version % 5_000) },
            _ => OrderEvent::Reminded,
        };
        self.codecs.encode(stream, &event).unwrap()
    }
}

fn of_other(category: &str, workflow: u64, version: u64) -> EncodedMessage {
    let step = usize::try_from((workflow / TYPES + version) % 6).unwrap();
    let json = format!(r#"{{"order":"{}","cents":{}}}"#, order(workflow), workflow % 100_000);
    EncodedMessage {
        name: format!("{category}.{}", STEPS[step]).into(),
        version: 1,
        codec: "json".into(),
        bytes: json.into_bytes(),
    }
}

pub(crate) fn longest() -> StreamId {
    StreamId::new("order", "longest").unwrap()
}

pub(crate) fn order(workflow: u64) -> StreamId {
    StreamId::new("order", &format!("{workflow:09}")).unwrap()
}

fn other(workflow: u64) -> StreamId {
    let category = format!("type_{:02}", workflow % TYPES);
    StreamId::new(&category, &format!("{workflow:09}")).unwrap()
}

pub(crate) fn correlation(workflow: u64) -> CorrelationId {
    CorrelationId(id(2, workflow))
}

/// Returns an id that looks random.
fn id(kind: u64, n: u64) -> Uuid {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |n: u64| {
        let n = (n ^ n >> 31).wrapping_mul(ODD);
        (n ^ n >> 29).wrapping_mul(ODD)
    };
    let high = mix(n.wrapping_mul(4).wrapping_add(kind));
    let number = u128::from(high) << 64 | u128::from(mix(high));
    uuid::Builder::from_u128(number).with_version(uuid::Version::Random).into_uuid()
}
