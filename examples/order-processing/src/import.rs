//! Placing every purchase of a file, each once.

use std::io::BufRead;

use anyhow::anyhow;
use composable_rust::{App, SendError};
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use crate::OrderRejection;
use crate::cdnow::{Purchase, Purchases};
use crate::progress::Progress;

/// How an import goes about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Habits {
    /// Bad lines are reported and skipped.
    pub(crate) skip_bad: bool,
    /// How many orders are on their way at a time: some hundreds let group commit fill its batches.
    pub(crate) in_flight: u16,
}

/// What an import did.
#[derive(Debug, Default)]
pub(crate) struct Imported {
    /// Orders that were not there before.
    pub(crate) placed: u64,
    /// Orders that were there.
    pub(crate) present: u64,
    /// Bad lines that were skipped.
    pub(crate) skipped: u64,
    /// Where and why it ended before the end of the file. Every line before that is placed.
    pub(crate) stopped: Option<Stop>,
}

/// Why an import ended before the end of the file.
#[derive(Debug)]
pub(crate) struct Stop {
    /// The first line that is not placed.
    pub(crate) line: u64,
    /// Why not.
    pub(crate) reason: Reason,
}

#[derive(Debug)]
pub(crate) enum Reason {
    /// The line is wrong.
    Bad(String),
    /// The order was not recorded.
    Failed(anyhow::Error),
    /// Somebody asked to stop.
    Interrupted,
}

impl Imported {
    /// Notes that it stops at `line`; the first such line counts.
    fn stop(&mut self, line: u64, reason: Reason) {
        if self.stopped.as_ref().is_none_or(|stop| line < stop.line) {
            self.stopped = Some(Stop { line, reason });
        }
    }

    fn wrong(&mut self, line: u64, problem: String, skip_bad: bool, progress: &Progress) {
        if skip_bad {
            self.skipped += 1;
            progress.line(&format!("line {line} skipped: {problem}"));
        } else {
            self.stop(line, Reason::Bad(problem));
        }
    }
}

/// Places every purchase until the file or `interrupted` ends it.
///
/// Everything that was begun is finished, so when it returns the log holds every good line before
/// the one at which it stopped.
pub(crate) async fn import(
    app: &App,
    mut purchases: Purchases<impl BufRead>,
    Habits { skip_bad, in_flight }: Habits,
    interrupted: impl Future<Output = ()>,
    progress: &mut Progress,
) -> Imported {
    let mut imported = Imported::default();
    let mut interrupted = std::pin::pin!(interrupted);
    let mut sends = FuturesUnordered::new();
    let mut last = 0;
    loop {
        while imported.stopped.is_none() && sends.len() < usize::from(in_flight) {
            match purchases.next() {
                None => break,
                Some((line, Ok(purchase))) => {
                    last = line;
                    sends.push(async move { (line, place(app, &purchase).await) });
                }
                Some((line, Err(problem))) => {
                    let skip = skip_bad && problem.can_be_skipped();
                    imported.wrong(line, problem.to_string(), skip, progress);
                }
            }
        }
        progress.at(purchases.bytes());
        tokio::select! {
            biased;
            () = &mut interrupted, if imported.stopped.is_none() => {
                imported.stop(last + 1, Reason::Interrupted);
            }
            sent = sends.next() => match sent {
                None => return imported,
                Some((_, Ok(true))) => imported.placed += 1,
                Some((_, Ok(false))) => imported.present += 1,
                Some((line, Err(error))) => match error {
                    SendError::Rejected(OrderRejection::AlreadyPlaced) => {
                        let problem = "its order is there with other content".to_owned();
                        imported.wrong(line, problem, skip_bad, progress);
                    }
                    error => imported.stop(line, Reason::Failed(anyhow!(error))),
                },
            },
        }
    }
}

/// Places one order; whether it was not there before.
async fn place(app: &App, purchase: &Purchase) -> Result<bool, SendError<OrderRejection>> {
    let order = app.handle(&purchase.order());
    let receipt = order.send(purchase.place()).await?;
    Ok(receipt.position.is_some())
}
