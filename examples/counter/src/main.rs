//! Counts with a reducer, then with an aggregate.

use composable_rust::prelude::*;
use composable_rust::testing::InMemoryEventStore;
use composable_rust::{Store, Version};
use counter::{Counter, CounterCommand, Tally, TallyAction};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Store::new(Tally, 0, ());
    for action in [TallyAction::Increment, TallyAction::Increment, TallyAction::Decrement] {
        store.send(action).await?;
    }
    println!("The tally is {}.", store.state(|count| *count));

    let app = App::builder(InMemoryEventStore::new()).aggregate::<Counter>(()).build()?;
    let counter = app.handle(&Counter::id("visitors"));
    counter.send(CounterCommand::Increment).await?;
    let receipt = counter.send(CounterCommand::Increment).await?;
    println!("The counter is {}.", counter.state(|counter| counter.count).await?);
    println!("Its stream has {} events.", receipt.version);
    let (earlier, _) = counter.state_at(Version::new(1)).await?;
    println!("After the first event it was {}.", earlier.count);
    Ok(())
}
