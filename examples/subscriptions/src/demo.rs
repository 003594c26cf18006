//! Three months of virtual time.

use std::time::Instant;

use composable_rust::prelude::*;
use composable_rust::testing::World;
use futures_util::TryStreamExt as _;

use crate::{Cards, DAY, Plan, Report, Subscription, SubscriptionCommand, billing};

/// Runs the service on virtual time, and prints what happens to three customers.
pub(crate) async fn run() -> anyhow::Result<()> {
    let began = Instant::now();
    let file = std::env::temp_dir().join(format!("subscriptions-{}.db", std::process::id()));
    let model = Report::open(&format!("sqlite:{}", file.display())).await?;
    let figures = model.clone();
    let new_year = "2025-01-01T09:00:00Z".parse()?;
    let world = World::at(new_year, move |app| billing(app, Cards::default(), figures.clone()));
    let customer = |id: &str| world.app().handle(&Subscription::id(id));
    for (id, card) in [("ann", "visa"), ("bob", "declined-2"), ("eve", "declined-9")] {
        let (name, card, plan) = (id.to_owned(), card.to_owned(), Plan::Pro);
        customer(id).send(SubscriptionCommand::StartTrial { customer: name, plan, card }).await?;
    }
    for month in 1..=3 {
        world.pass(30 * DAY).await;
        println!("month {month}: {:?}", Report::read(&model).await?.plans);
    }
    println!("three months in {:?}", began.elapsed());
    for id in ["bob", "eve"] {
        let mut history = std::pin::pin!(customer(id).history());
        while let Some(recorded) = history.try_next().await? {
            println!("{id} {}  {:?}", recorded.recorded_at, recorded.event);
        }
    }
    Ok(std::fs::remove_file(file)?)
}
