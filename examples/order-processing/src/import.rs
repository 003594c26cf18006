//! Importing a purchase file: each purchase is placed once.

use std::io::BufRead;

use anyhow::anyhow;
use composable_rust::{App, SendError};
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use crate::OrderRejection;
use crate::cdnow::{Purchase, Purchases};
use crate::progress::Progress;

/// The options of an import.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ImportOptions {
    /// `true` if invalid lines are reported and skipped instead of ending the import.
    pub(crate) skip_bad: bool,
    /// The maximum number of concurrent sends. With some hundreds, group commit fills its batches.
    pub(crate) in_flight: u16,
}

/// The result of an import.
#[derive(Debug, Default)]
pub(crate) struct ImportResult {
    /// The number of orders placed.
    pub(crate) placed: u64,
    /// The number of orders that existed already.
    pub(crate) existing: u64,
    /// The number of invalid lines that were skipped.
    pub(crate) skipped: u64,
    /// The place where the import stopped, if that is not the end of the file. Every line before it
    /// is placed.
    pub(crate) stopped: Option<Stopped>,
}

/// The place where an import stopped before the end of the file, and the reason.
#[derive(Debug)]
pub(crate) struct Stopped {
    /// The first line that is not placed.
    pub(crate) line: u64,
    /// The reason.
    pub(crate) reason: StopReason,
}

/// The reason why an import stopped before the end of the file.
#[derive(Debug)]
pub(crate) enum StopReason {
    /// The line is invalid.
    InvalidLine(String),
    /// The order was not recorded.
    SendFailed(anyhow::Error),
    /// A shutdown signal arrived.
    Interrupted,
}

impl ImportResult {
    /// Records that the import stops at `line`. Of several calls, the one with the first line
    /// counts.
    fn stop(&mut self, line: u64, reason: StopReason) {
        if self.stopped.as_ref().is_none_or(|stopped| line < stopped.line) {
            self.stopped = Some(Stopped { line, reason });
        }
    }

    /// Records an invalid line: skips it, or stops at it.
    fn invalid_line(&mut self, line: u64, error: String, skip: bool, progress: &Progress) {
        if skip {
            self.skipped += 1;
            progress.print_line(&format!("line {line} skipped: {error}"));
        } else {
            self.stop(line, StopReason::InvalidLine(error));
        }
    }
}

/// Places the purchases until the file ends, a line is invalid, or `interrupted` completes.
///
/// All sends that were started are completed. So when the function returns, the log has every valid
/// line before the one at which the import stopped.
pub(crate) async fn import(
    app: &App,
    mut purchases: Purchases<impl BufRead>,
    ImportOptions { skip_bad, in_flight }: ImportOptions,
    interrupted: impl Future<Output = ()>,
    progress: &mut Progress,
) -> ImportResult {
    let mut result = ImportResult::default();
    let mut interrupted = std::pin::pin!(interrupted);
    let mut sends = FuturesUnordered::new();
    let mut last_line = 0;
    loop {
        while result.stopped.is_none() && sends.len() < usize::from(in_flight) {
            match purchases.next() {
                None => break,
                Some((line, Ok(purchase))) => {
                    last_line = line;
                    sends.push(async move { (line, place(app, &purchase).await) });
                }
                Some((line, Err(error))) => {
                    let skip = skip_bad && error.can_be_skipped();
                    result.invalid_line(line, error.to_string(), skip, progress);
                }
            }
        }
        progress.set(purchases.bytes_read());
        tokio::select! {
            biased;
            () = &mut interrupted, if result.stopped.is_none() => {
                result.stop(last_line + 1, StopReason::Interrupted);
            }
            sent = sends.next() => match sent {
                None => return result,
                Some((_, Ok(true))) => result.placed += 1,
                Some((_, Ok(false))) => result.existing += 1,
                Some((line, Err(error))) => match error {
                    SendError::Rejected(OrderRejection::AlreadyPlaced) => {
                        let error = "the order exists with other details".to_owned();
                        result.invalid_line(line, error, skip_bad, progress);
                    }
                    error => result.stop(line, StopReason::SendFailed(anyhow!(error))),
                },
            },
        }
    }
}

/// Places one order. Returns `false` if it existed already.
async fn place(app: &App, purchase: &Purchase) -> Result<bool, SendError<OrderRejection>> {
    let order = app.handle(&purchase.order());
    let receipt = order.send(purchase.place()).await?;
    Ok(receipt.position.is_some())
}
