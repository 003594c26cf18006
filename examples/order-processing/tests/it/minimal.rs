//! The smallest durable aggregate: types, behaviour, wiring and a test, with a count of their
//! lines.

// Types.
use composable_rust::prelude::*;
use composable_rust::sqlite::SqliteEventStore;
use composable_rust::testing::given;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Stock {
    left: u32,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum StockCommand {
    Receive { units: u32 },
    Take { units: u32 },
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum StockEvent {
    Received { units: u32 },
    Taken { units: u32 },
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum StockError {
    OnlyLeft { units: u32 },
}

// Behaviour.
use {StockCommand::*, StockError::*, StockEvent::*};

impl Aggregate for Stock {
    const NAME: &'static str = "stock";
    type Command = StockCommand;
    type Event = StockEvent;
    type Rejection = StockError;
    type Environment = ();

    fn decide(&self, command: StockCommand, _: &Context<Self>) -> Decision<Self> {
        match command {
            Receive { units } => record(Received { units }),
            Take { units } if units > self.left => reject(OnlyLeft { units: self.left }),
            Take { units } => record(Taken { units }),
        }
    }

    fn apply(&mut self, event: StockEvent) {
        match event {
            Received { units } => self.left += units,
            Taken { units } => self.left -= units,
        }
    }
}

// Wiring.
async fn take_two(path: &std::path::Path) -> Result<u32, Box<dyn std::error::Error>> {
    let store = SqliteEventStore::open(path).await?;
    let app = App::builder(store).aggregate::<Stock>(()).build()?;
    let pencils = app.handle(&Stock::id("pencils"));
    pencils.send(Receive { units: 5 }).await?;
    pencils.send(Take { units: 2 }).await?;
    Ok(pencils.state(|stock| stock.left).await?)
}

// Test.
#[test]
fn no_more_is_taken_than_is_left() {
    let given = given::<Stock>([Received { units: 1 }]);
    given.when(Take { units: 2 }).then_rejected(OnlyLeft { units: 1 });
}

// End.

#[tokio::test]
async fn the_aggregate_is_durable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stock.db");
    assert_eq!(take_two(&path).await.unwrap(), 3);
    assert_eq!(take_two(&path).await.unwrap(), 6);
}

#[test]
fn the_aggregate_takes_few_lines() {
    let lines: Vec<_> = include_str!("minimal.rs").lines().collect();
    let at = |marker: &str| lines.iter().position(|line| *line == marker).unwrap();
    let count = |from: &str, to: &str| {
        lines[at(from) + 1..at(to)].iter().filter(|line| !line.is_empty()).count()
    };
    let types = count("// Types.", "// Behaviour.");
    let behaviour = count("// Behaviour.", "// Wiring.");
    let wiring = count("// Wiring.", "// Test.");
    let test = count("// Test.", "// End.");
    println!("types {types}, behaviour {behaviour}, wiring {wiring}, test {test}");
    assert!(types + behaviour <= 50 && behaviour <= 25 && wiring <= 8 && test <= 6);
}
