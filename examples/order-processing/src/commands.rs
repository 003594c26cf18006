//! The subcommands.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context as _, bail};
use composable_rust::prelude::*;
use composable_rust::{Recorded, Version};
use futures_util::TryStreamExt as _;

use crate::args::SendArgs;
use crate::cdnow::Purchases;
use crate::import::{self, ImportOptions, ImportResult, StopReason, Stopped};
use crate::output::print_line;
use crate::progress::Progress;
use crate::{Details, Order, OrderCommand, OrderEvent, OrderRejection, Report};
use composable_rust::shutdown_signal;

/// Sends a command and prints the version and position of its event.
pub(crate) async fn send(
    app: &App,
    id: &Id<Order>,
    command: OrderCommand,
    args: SendArgs,
) -> anyhow::Result<()> {
    let order = app.handle(id);
    let mut send = order.send(command);
    if let Some(key) = args.key {
        send = send.key(key);
    }
    if let Some(user) = args.by {
        send = send.by(user);
    }
    let receipt = send.await.map_err(|error| send_error(id, error))?;
    match receipt.position {
        Some(position) => {
            print_line(&format!("order {id}: event {} at {position}", receipt.version))
        }
        None => print_line(&format!("order {id}: already placed, nothing changed")),
    }
}

/// Returns the error to print for a command.
fn send_error(id: &Id<Order>, error: SendError<OrderRejection>) -> anyhow::Error {
    match &error {
        SendError::Rejected(rejection) => {
            anyhow::anyhow!("order {id} rejected: {rejection} ({})", error.code())
        }
        _ => anyhow::Error::new(error).context(format!("order {id}")),
    }
}

/// Prints the state at version `at`; by default, the current state.
pub(crate) async fn show(app: &App, id: &Id<Order>, at: Option<Version>) -> anyhow::Result<()> {
    let order = app.handle(id);
    let (state, version) = match at {
        Some(at) => order.state_at(at).await?,
        None => order.state_with_version(|state, version| (state.clone(), version)).await?,
    };
    if let Some(at) = at.filter(|at| *at > version && version > Version::ZERO) {
        bail!(
            "order {id} is at version {version}, not at {at}; leave out --at to print the current state"
        );
    }
    let Some(text) = description(&state) else {
        bail!("there is no order {id}; place it first");
    };
    print_line(&format!("order      {id}\nversion    {version}\n{text}"))
}

/// Describes the state; `None` before the order is placed.
fn description(order: &Order) -> Option<String> {
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

/// Prints the events of an order.
pub(crate) async fn history(app: &App, id: &Id<Order>) -> anyhow::Result<()> {
    let events: Vec<_> = app.handle(id).history().try_collect().await?;
    if events.is_empty() {
        bail!("there is no order {id}; place it first");
    }
    let lines: Vec<_> = events.iter().map(event_line).collect();
    print_line(&lines.join("\n"))
}

/// Formats an event as a line: version, position, time, user, content.
fn event_line(recorded: &Recorded<Option<OrderEvent>>) -> String {
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
pub(crate) async fn import(app: &App, path: &Path, options: ImportOptions) -> anyhow::Result<()> {
    let cannot_read = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(cannot_read)?;
    let bytes = file.metadata().with_context(cannot_read)?.len();
    let mut progress = Progress::new("importing", bytes);
    let purchases = Purchases::new(BufReader::new(file));
    let result = import::import(app, purchases, options, shutdown_signal(), &mut progress).await;
    let ImportResult { placed, existing, skipped, stopped } = result;
    progress.finish(placed + existing, "orders");
    let skipped = if skipped == 0 { String::new() } else { format!(", {skipped} skipped") };
    print_line(&format!("placed {placed} orders, {existing} existed{skipped}"))?;
    let again = "run the same import again to continue";
    match stopped {
        None => Ok(()),
        Some(Stopped { line, reason: StopReason::InvalidLine(error) }) => {
            bail!("stopped at line {line}: {error}; correct it or pass --skip-bad, and {again}")
        }
        Some(Stopped { line, reason: StopReason::Interrupted }) => {
            bail!("interrupted before line {line}; {again}")
        }
        Some(Stopped { line, reason: StopReason::SendFailed(error) }) => {
            Err(error.context(format!("stopped at line {line}; {again}")))
        }
    }
}

/// Prints the totals of all orders.
pub(crate) async fn report(app: &App, json: bool) -> anyhow::Result<()> {
    let report = Report::of(app).await?;
    if json {
        print_line(&serde_json::to_string(&report)?)
    } else {
        print_line(report.to_string().trim_end())
    }
}
