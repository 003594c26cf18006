//! What the subcommands do.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Write as _, stdout};
use std::path::Path;

use anyhow::{Context as _, bail};
use composable_rust::prelude::*;
use composable_rust::{Recorded, Version};
use futures_util::TryStreamExt as _;

use crate::cdnow::Purchases;
use crate::cli::Asking;
use crate::import::{self, Habits, Imported, Reason, Stop};
use crate::progress::Progress;
use crate::{Details, Order, OrderCommand, OrderEvent, OrderRejection, Report};
use composable_rust::shutdown_signal;

/// Sends a command and prints where it was recorded.
pub(crate) async fn send(
    app: &App,
    id: &Id<Order>,
    command: OrderCommand,
    asking: Asking,
) -> anyhow::Result<()> {
    let order = app.handle(id);
    let mut send = order.send(command);
    if let Some(key) = asking.key {
        send = send.key(key);
    }
    if let Some(user) = asking.by {
        send = send.by(user);
    }
    let receipt = send.await.map_err(|error| refused(id, error))?;
    match receipt.position {
        Some(position) => say(&format!("order {id}: event {} at {position}", receipt.version)),
        None => say(&format!("order {id}: nothing to do, it is there already")),
    }
}

/// What the error means to whoever typed the command.
fn refused(id: &Id<Order>, error: SendError<OrderRejection>) -> anyhow::Error {
    match &error {
        SendError::Rejected(rejection) => {
            anyhow::anyhow!("order {id} refused: {rejection} ({})", error.code())
        }
        _ => anyhow::Error::new(error).context(format!("order {id}")),
    }
}

/// Prints the state, as it was after event `at` if that is given.
pub(crate) async fn show(app: &App, id: &Id<Order>, at: Option<Version>) -> anyhow::Result<()> {
    let order = app.handle(id);
    let (state, version) = match at {
        Some(at) => order.state_at(at).await?,
        None => order.state_with_version(|state, version| (state.clone(), version)).await?,
    };
    if let Some(at) = at.filter(|at| *at > version && version > Version::ZERO) {
        bail!("order {id} is at version {version}, not at {at}; leave out --at for its state now");
    }
    let Some(text) = described(&state) else {
        bail!("there is no order {id}; place it first");
    };
    say(&format!("order      {id}\nversion    {version}\n{text}"))
}

/// The state in words; `None` before the order is placed.
fn described(order: &Order) -> Option<String> {
    let (details, status) = match order {
        Order::New => return None,
        Order::Placed { details, shipped: 0 } => (details, "placed".to_owned()),
        Order::Placed { details, shipped } if *shipped == details.units => {
            (details, "shipped".to_owned())
        }
        Order::Placed { details, shipped } => (details, format!("partly shipped: {shipped}")),
        Order::Cancelled { details, reason } => (details, format!("cancelled: {reason}")),
    };
    let Details { customer, placed_on, units, amount } = details;
    Some(format!(
        "status     {status}\ncustomer   {customer}\nplaced on  {placed_on}\nunits      {units}\namount     {amount}"
    ))
}

/// Prints the events.
pub(crate) async fn history(app: &App, id: &Id<Order>) -> anyhow::Result<()> {
    let events: Vec<_> = app.handle(id).history().try_collect().await?;
    if events.is_empty() {
        bail!("there is no order {id}; place it first");
    }
    let lines: Vec<_> = events.iter().map(line).collect();
    say(&lines.join("\n"))
}

/// One event on a line: version, position, time, user, content.
fn line(recorded: &Recorded<Option<OrderEvent>>) -> String {
    let content = match &recorded.event {
        Some(OrderEvent::Placed(Details { customer, placed_on, units, amount })) => {
            format!("placed: {units} for {amount}, customer {customer}, on {placed_on}")
        }
        Some(OrderEvent::Shipped { tracking, units }) => {
            format!("shipped: {units} as parcel {tracking}")
        }
        Some(OrderEvent::Cancelled { reason }) => format!("cancelled: {reason}"),
        None => "erased".to_owned(),
    };
    let user = recorded.metadata.as_ref().and_then(|metadata| metadata.user.as_deref());
    let (position, at) = (recorded.position.to_string(), recorded.recorded_at.to_string());
    let (version, user) = (recorded.version.get(), user.unwrap_or("-"));
    format!("{version:>3}  {position:>8}  {at:<27}  {user:<10}  {content}")
}

/// Imports a file and prints how many orders were placed.
pub(crate) async fn import(app: &App, path: &Path, habits: Habits) -> anyhow::Result<()> {
    let opened = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(opened)?;
    let bytes = file.metadata().with_context(opened)?.len();
    let mut progress = Progress::new("importing", bytes);
    let purchases = Purchases::new(BufReader::new(file));
    let imported = import::import(app, purchases, habits, shutdown_signal(), &mut progress).await;
    let Imported { placed, present, skipped, stopped } = imported;
    progress.end(placed + present, "orders");
    match skipped {
        0 => say(&format!("placed {placed}, {present} were there"))?,
        _ => say(&format!("placed {placed}, {present} were there, {skipped} skipped"))?,
    }
    let again = "run the same import again to go on";
    match stopped {
        None => Ok(()),
        Some(Stop { line, reason: Reason::Bad(problem) }) => {
            bail!("stopped at line {line}: {problem}; correct it or pass --skip-bad, and {again}")
        }
        Some(Stop { line, reason: Reason::Interrupted }) => {
            bail!("interrupted before line {line}; {again}")
        }
        Some(Stop { line, reason: Reason::Failed(error) }) => {
            Err(error.context(format!("stopped at line {line}; {again}")))
        }
    }
}

/// Prints what all orders come to.
pub(crate) async fn report(app: &App, json: bool) -> anyhow::Result<()> {
    let report = Report::of(app).await?;
    if json { say(&serde_json::to_string(&report)?) } else { say(report.to_string().trim_end()) }
}

/// Prints to stdout. That nobody reads it any more, as behind `| head`, is no failure.
pub(crate) fn say(text: &str) -> anyhow::Result<()> {
    match writeln!(stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to stdout")
        }
        _ => Ok(()),
    }
}
