//! The settings of a gateway.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::Gateway;

use crate::worker::outbox::call_limits::CallLimitSettings;
use crate::worker::outbox::circuit_breaker::CircuitBreakerSettings;
use crate::worker::outbox::rate_limit::RateLimit;
use crate::worker::retry::RetryPolicy;

/// A function from a request to a key.
pub(crate) type KeyOf<G> = Arc<dyn Fn(&<G as Gateway>::Request) -> String + Send + Sync>;

/// Settings of one gateway. Change them with
/// [`AppBuilder::gateway_with`](crate::AppBuilder::gateway_with).
///
/// Limits by key use keys that the program derives from each request, such as the merchant. The
/// function must be pure and fast; if it panics, the key is `?`. The first 256 bytes of a key
/// count. Logs and [`GatewayStatus`](crate::operations::GatewayStatus) show the keys of circuit
/// breakers; metrics do not.
///
/// # Example: limits by merchant
///
/// ```
/// use composable_rust_core::Gateway;
/// use composable_rust_runtime::settings::GatewaySettings;
///
/// trait OfMerchant {
///     fn merchant(&self) -> u64;
/// }
///
/// fn by_merchant<Bank: Gateway<Request: OfMerchant>>(bank: &mut GatewaySettings<Bank>) {
///     bank.breaker_by(|request| request.merchant());
///     bank.concurrency_by(|request| request.merchant(), 4);
///     bank.rate_limit(100, 20);
///     bank.rate_limit_by(|request| request.merchant(), 0.5, 1);
/// }
/// ```
#[non_exhaustive]
pub struct GatewaySettings<G: Gateway> {
    /// Timeout of one attempt. A call that exceeds it may have happened, and counts as an attempt.
    /// It must be shorter than two thirds of [`lease_ttl`](crate::settings::Settings::lease_ttl).
    /// Default: 5 seconds.
    pub timeout: Duration,
    /// The retries of a call. After the last attempt the call is answered `Exhausted`.
    /// Default: [`RetryPolicy::default`].
    pub retry: RetryPolicy,
    /// The gateway's circuit breaker. Default: [`CircuitBreakerSettings::default`].
    pub circuit_breaker: CircuitBreakerSettings,
    /// Maximum concurrent calls in one process. Default: 64.
    pub max_concurrent_calls: usize,
    /// Maximum keys of each kind that a process keeps in memory. The least recently used key
    /// without a call in progress is forgotten, of circuits if possible a closed one: its circuit
    /// closes, and it may have another burst. Default: 10,000.
    pub max_keys: usize,
    pub(crate) breaker_key: Option<KeyOf<G>>,
    pub(crate) rate: Option<RateLimit>,
    pub(crate) rate_by_key: Option<(KeyOf<G>, RateLimit)>,
    pub(crate) concurrency_by_key: Option<(KeyOf<G>, usize)>,
}

impl<G: Gateway> GatewaySettings<G> {
    /// Gives each key a circuit breaker of its own, in the place of the gateway's: calls of one key
    /// that fail do not stop the others.
    pub fn breaker_by<K: fmt::Display>(
        &mut self,
        key: impl Fn(&G::Request) -> K + Send + Sync + 'static,
    ) {
        self.breaker_key = Some(key_of::<G, K>(key));
    }

    /// Limits the rate of all calls, attempts included: `per_second` on average, and at most
    /// `burst` at once after a pause.
    ///
    /// The limit holds for all processes together. Each has the share of the rate and of the burst
    /// that it has of the gateway's log partitions, of which each belongs to one process; a share
    /// of the burst is at least one call. A process that starts, or takes over partitions, begins
    /// without a burst. Calls that wait spend no attempts.
    pub fn rate_limit(&mut self, per_second: impl Into<f64>, burst: u32) {
        self.rate = Some(RateLimit { per_second: per_second.into(), burst });
    }

    /// Limits the rate of the calls of each key, as [`rate_limit`](Self::rate_limit) does for all
    /// calls.
    ///
    /// An instance belongs to one partition. If all calls of a key come from one instance, they
    /// have the share of its process only: `per_second` is reached by keys whose calls come from
    /// many instances, or in a service of one process.
    pub fn rate_limit_by<K: fmt::Display>(
        &mut self,
        key: impl Fn(&G::Request) -> K + Send + Sync + 'static,
        per_second: impl Into<f64>,
        burst: u32,
    ) {
        let limit = RateLimit { per_second: per_second.into(), burst };
        self.rate_by_key = Some((key_of::<G, K>(key), limit));
    }

    /// Limits the concurrent calls of each key in one process, besides
    /// [`max_concurrent_calls`](Self::max_concurrent_calls).
    pub fn concurrency_by<K: fmt::Display>(
        &mut self,
        key: impl Fn(&G::Request) -> K + Send + Sync + 'static,
        max: usize,
    ) {
        self.concurrency_by_key = Some((key_of::<G, K>(key), max));
    }

    /// Returns the problems of the settings.
    pub(crate) fn problems(&self) -> Vec<String> {
        let rate_by_key = self.rate_by_key.as_ref().map(|(_, limit)| limit);
        let max_by_key = self.concurrency_by_key.as_ref().map(|(_, max)| *max);
        let is_valid = |rate: Option<&RateLimit>| rate.is_none_or(RateLimit::is_valid);
        let needs = "of the gateway `NAME` needs a rate above 0 and a burst of at least 1";
        let checks = [
            (
                self.max_concurrent_calls > 0,
                "`max_concurrent_calls` of the gateway `NAME` must be at least 1",
            ),
            (self.max_keys > 0, "`max_keys` of the gateway `NAME` must be at least 1"),
            (max_by_key != Some(0), "`concurrency_by` of the gateway `NAME` must admit at least 1"),
            (is_valid(self.rate.as_ref()), &*format!("`rate_limit` {needs}")),
            (is_valid(rate_by_key), &*format!("`rate_limit_by` {needs}")),
        ];
        let broken = checks.iter().filter(|(is_met, _)| !is_met);
        broken.map(|(_, problem)| problem.replace("NAME", G::NAME)).collect()
    }

    pub(crate) fn limits(&self) -> CallLimitSettings {
        CallLimitSettings {
            breaker: self.circuit_breaker,
            has_breaker_by_key: self.breaker_key.is_some(),
            rate: self.rate,
            rate_by_key: self.rate_by_key.as_ref().map(|(_, limit)| *limit),
            concurrency_by_key: self.concurrency_by_key.as_ref().map(|(_, max)| *max),
            max_keys: self.max_keys,
        }
    }
}

fn key_of<G: Gateway, K: fmt::Display>(
    key: impl Fn(&G::Request) -> K + Send + Sync + 'static,
) -> KeyOf<G> {
    Arc::new(move |request| key(request).to_string())
}

impl<G: Gateway> Default for GatewaySettings<G> {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            retry: RetryPolicy::default(),
            circuit_breaker: CircuitBreakerSettings::default(),
            max_concurrent_calls: 64,
            max_keys: 10_000,
            breaker_key: None,
            rate: None,
            rate_by_key: None,
            concurrency_by_key: None,
        }
    }
}

impl<G: Gateway> fmt::Debug for GatewaySettings<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewaySettings")
            .field("timeout", &self.timeout)
            .field("retry", &self.retry)
            .field("max_concurrent_calls", &self.max_concurrent_calls)
            .field("max_keys", &self.max_keys)
            .field("limits", &self.limits())
            .finish_non_exhaustive()
    }
}
