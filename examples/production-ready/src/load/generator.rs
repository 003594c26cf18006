//! The generator: it sends each command when it is due.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, sleep_until};

use super::client::Client;

/// A load of orders.
#[derive(Debug, Clone)]
pub struct Load {
    /// The name, with which the ids of its orders begin.
    pub name: String,
    /// The servers, such as `http://127.0.0.1:8080`. A command that one does not accept is sent to
    /// the next.
    pub urls: Vec<String>,
    /// The commands that are due each second.
    pub rate: u32,
    /// The number of commands; `None` for a load without an end.
    pub commands: Option<u64>,
    /// The maximum number of connections.
    pub connections: usize,
    /// The time after which a command is given up, with all its attempts.
    pub patience: Duration,
}

/// A command that was acknowledged or has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completed {
    /// The number of the order.
    pub n: u64,
    /// The time from the start of the load until the command was due.
    pub due: Duration,
    /// The time from then until its answer, with all its attempts.
    pub latency: Duration,
    /// The answers after which it was sent again.
    pub retries: Vec<String>,
    /// The failure, unless it was acknowledged.
    pub outcome: Result<(), String>,
}

/// Sends the commands of a load and returns those that are completed.
///
/// The loop is open: a command is sent when it is due, whether or not earlier ones were answered,
/// and its latency counts from then. So a server that stalls cannot hide that by slowing down the
/// load. A load ends early when the receiver is dropped.
///
/// # Errors
///
/// The HTTP client cannot be set up.
pub fn generate(load: &Load) -> anyhow::Result<UnboundedReceiver<Completed>> {
    let client = Arc::new(Client::new(load)?);
    let (rate, commands) = (load.rate, load.commands.unwrap_or(u64::MAX));
    // Bounded by the rate and the patience: each command that was sent is in it once.
    let (completed, receiver) = unbounded_channel();
    tokio::spawn(async move {
        let start = Instant::now();
        for n in 0..commands {
            let due = due(n, rate);
            sleep_until(start + due).await;
            if completed.is_closed() {
                break;
            }
            let (client, completed) = (Arc::clone(&client), completed.clone());
            tokio::spawn(async move {
                let (retries, outcome) = client.place(n, start + due).await;
                let latency = (start + due).elapsed();
                // The receiver is gone once the load is dropped.
                let _ = completed.send(Completed { n, due, latency, retries, outcome });
            });
        }
    });
    Ok(receiver)
}

/// Returns the time from the start of a load until its `n`th command is due.
fn due(n: u64, rate: u32) -> Duration {
    let rate = u64::from(rate.max(1));
    let nanos = n % rate * 1_000_000_000 / rate;
    Duration::from_secs(n / rate) + Duration::from_nanos(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_due_at_even_distances() {
        assert_eq!(due(0, 3), Duration::ZERO);
        assert_eq!(due(1, 3), Duration::from_nanos(333_333_333));
        assert_eq!(due(4, 3), Duration::from_nanos(1_333_333_333));
        assert_eq!(due(600_000, 1_000), Duration::from_secs(600));
    }
}
