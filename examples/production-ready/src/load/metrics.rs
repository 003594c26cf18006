//! The commands that the services handle, from their metrics.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::client::http;

/// The time limit of a look.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The counter of commands by aggregate, command and outcome.
const COMMANDS: &str = "composable_rust_command_duration_seconds_count{";

/// The counters of several processes, which begin again at 0 when a process is restarted.
#[derive(Debug)]
pub(super) struct Scraper {
    http: reqwest::Client,
    urls: Vec<String>,
    /// The last value of each series, by server.
    last: HashMap<(usize, String), u64>,
    handled: BTreeMap<String, u64>,
    committed: BTreeMap<String, u64>,
}

impl Scraper {
    /// # Errors
    ///
    /// The HTTP client cannot be set up.
    pub(super) fn new(urls: Vec<String>) -> anyhow::Result<Self> {
        let (handled, committed) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { http: http(TIMEOUT)?, urls, last: HashMap::new(), handled, committed })
    }

    /// Reads the metrics of all servers, from which the numbers count.
    pub(super) async fn start(&mut self) {
        self.scrape().await;
        self.handled.clear();
        self.committed.clear();
    }

    /// Reads the metrics of all servers. One that does not answer keeps its last values.
    pub(super) async fn scrape(&mut self) {
        for server in 0..self.urls.len() {
            let request = self.http.get(format!("{}/metrics", self.urls[server]));
            let Ok(response) = request.send().await else { continue };
            let Ok(text) = response.text().await else { continue };
            self.read(server, &text);
        }
    }

    fn read(&mut self, server: usize, text: &str) {
        for line in text.lines().filter(|line| line.starts_with(COMMANDS)) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let (Some(command), Ok(value)) = (label(series, "command"), value.parse::<u64>())
            else {
                continue;
            };
            let last = self.last.insert((server, series.to_owned()), value).unwrap_or(0);
            let new = if value >= last { value - last } else { value };
            *self.handled.entry(command.to_owned()).or_default() += new;
            if label(series, "outcome") == Some("committed") {
                *self.committed.entry(command.to_owned()).or_default() += new;
            }
        }
    }

    /// Returns the numbers of commands that were handled, by name. Those that a killed process
    /// handled after its metrics were last read are missing.
    pub(super) fn handled(&self) -> &BTreeMap<String, u64> {
        &self.handled
    }

    pub(super) fn total(&self) -> u64 {
        self.handled.values().sum()
    }

    /// Returns the number of orders that were placed and have not ended.
    pub(super) fn unfinished(&self) -> u64 {
        let of = |name| self.committed.get(name).copied().unwrap_or(0);
        of("order.place").saturating_sub(of("order.fulfil") + of("order.cancel"))
    }
}

/// Returns the value of a label of a series, such as `name{command="order.place"}`.
fn label<'a>(series: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = series.split_once(&format!("{name}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_continue_over_a_restart() {
        let mut scraper = Scraper::new(vec!["http://127.0.0.1:1".to_owned()]).unwrap();
        let text = |place: u32, fulfil: u32| {
            format!(
                "# a comment\n\
                 composable_rust_command_duration_seconds_count{{aggregate=\"order\",\
                 command=\"order.place\",outcome=\"committed\"}} {place}\n\
                 composable_rust_command_duration_seconds_count{{aggregate=\"order\",\
                 command=\"order.fulfil\",outcome=\"committed\"}} {fulfil}\n\
                 composable_rust_command_duration_seconds_count{{aggregate=\"order\",\
                 command=\"order.place\",outcome=\"duplicate\"}} 1\n\
                 composable_rust_leases_held 4\n"
            )
        };
        scraper.read(0, &text(10, 4));
        scraper.read(0, &text(12, 4));
        assert_eq!((scraper.total(), scraper.unfinished()), (17, 8));
        scraper.read(0, &text(5, 0));
        assert_eq!((scraper.total(), scraper.unfinished()), (22, 13));
    }
}
