//! The client: one command, sent until it is acknowledged or fails.

use std::time::Duration;

use anyhow::Context as _;
use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::generator::Load;
use super::plan::{cart, order_id};

/// The time limit of one attempt, above the deadline that the server gives a command.
const ATTEMPT: Duration = Duration::from_secs(20);
/// The wait before the next attempt, doubled up to [`MAX_BACKOFF`].
const BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// Returns an HTTP client that ignores the environment's proxies.
pub(super) fn http(timeout: Duration) -> anyhow::Result<reqwest::Client> {
    let client = reqwest::Client::builder().timeout(timeout).no_proxy();
    client.build().context("cannot set up the HTTP client")
}

/// A client of the servers of a load.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    load: Load,
    connections: Semaphore,
}

/// The outcome of an attempt.
#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    Acknowledged,
    /// The documentation of the API says that the command is to be sent again.
    Retry {
        reason: String,
        after: Option<Duration>,
    },
    Failed(String),
}

impl Client {
    pub(super) fn new(load: &Load) -> anyhow::Result<Self> {
        anyhow::ensure!(!load.urls.is_empty(), "a load needs a server");
        let connections = Semaphore::new(load.connections);
        Ok(Self { http: http(ATTEMPT)?, load: load.clone(), connections })
    }

    /// Places the `n`th order. Each attempt has the same idempotency key.
    ///
    /// Returns the reasons of the repetitions, and the failure if there is one.
    pub(super) async fn place(&self, n: u64, due: Instant) -> (Vec<String>, Result<(), String>) {
        let mut retries = Vec::new();
        let mut backoff = BACKOFF;
        let first = usize::try_from(n % self.load.urls.len() as u64).unwrap_or_default();
        loop {
            let url = &self.load.urls[(first + retries.len()) % self.load.urls.len()];
            match self.attempt(n, url).await {
                Attempt::Acknowledged => return (retries, Ok(())),
                Attempt::Failed(reason) => return (retries, Err(reason)),
                Attempt::Retry { reason, .. } if due.elapsed() > self.load.patience => {
                    return (retries, Err(format!("given up: {reason}")));
                }
                Attempt::Retry { reason, after } => {
                    retries.push(reason);
                    // Another server may be able to answer at once.
                    let has_asked_all = retries.len() % self.load.urls.len() == 0;
                    if has_asked_all {
                        sleep(after.unwrap_or(backoff)).await;
                        backoff = MAX_BACKOFF.min(backoff * 2);
                    }
                }
            }
        }
    }

    async fn attempt(&self, n: u64, url: &str) -> Attempt {
        let id = order_id(&self.load.name, n);
        let request = self.http.post(format!("{url}/orders/{id}/place"));
        let request = request.header("Idempotency-Key", format!("\"{id}\""));
        let body = serde_json::to_vec(&cart(n)).unwrap_or_default();
        let request = request.header("Content-Type", "application/json").body(body);
        let Ok(_permit) = self.connections.acquire().await else {
            return Attempt::Failed("the load has ended".to_owned());
        };
        match request.send().await {
            Ok(response) => answer(&id, response).await,
            Err(error) => lost(&error),
        }
    }
}

/// The receipt of an order.
#[derive(Deserialize)]
struct Receipt {
    id: String,
    version: u64,
}

/// The part of a problem on which programs branch.
#[derive(Default, Deserialize)]
struct Problem {
    #[serde(default)]
    code: String,
}

async fn answer(id: &str, response: Response) -> Attempt {
    let status = response.status();
    let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let after = after.and_then(|text| text.parse().ok()).map(Duration::from_secs);
    let body = match response.bytes().await {
        Ok(body) => body,
        Err(error) => return lost(&error),
    };
    if status.is_success() {
        return match serde_json::from_slice::<Receipt>(&body) {
            Ok(receipt) if receipt.id == id && receipt.version == 1 => Attempt::Acknowledged,
            _ => Attempt::Failed("a receipt of another command".to_owned()),
        };
    }
    let problem = serde_json::from_slice::<Problem>(&body).unwrap_or_default();
    judge(status, &problem.code, after)
}

/// Decides by the table of the book's chapter on HTTP.
fn judge(status: StatusCode, code: &str, after: Option<Duration>) -> Attempt {
    let reason = format!("{} {code}", status.as_u16());
    match (status, code) {
        (StatusCode::CONFLICT, "in_progress")
        | (
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT,
            _,
        ) => Attempt::Retry { reason: reason.trim_end().to_owned(), after },
        _ => Attempt::Failed(reason.trim_end().to_owned()),
    }
}

/// Returns the outcome of an attempt without an answer: the command may have been recorded.
fn lost(error: &reqwest::Error) -> Attempt {
    let reason = if error.is_connect() {
        "no connection"
    } else if error.is_timeout() {
        "no answer in time"
    } else {
        "connection lost"
    };
    Attempt::Retry { reason: reason.to_owned(), after: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_book_calls_retriable_is_sent_again() {
        let is_retry = |status: u16, code| {
            matches!(
                judge(StatusCode::from_u16(status).unwrap(), code, None),
                Attempt::Retry { .. }
            )
        };
        for (status, code) in [
            (409, "in_progress"),
            (429, ""),
            (503, "unavailable"),
            (503, "shutting_down"),
            (504, "outcome_unknown"),
        ] {
            assert!(is_retry(status, code), "{status} {code}");
        }
        for (status, code) in [
            (400, "invalid_json"),
            (409, "order.other_cart"),
            (409, "unexpected_version"),
            (422, "key_reused"),
            (500, "internal"),
            (502, ""),
        ] {
            assert!(!is_retry(status, code), "{status} {code}");
        }
    }
}
