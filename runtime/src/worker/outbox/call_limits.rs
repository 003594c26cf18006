//! The limits of a gateway's calls: its circuit breakers, rates and concurrent calls.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::worker::outbox::circuit_breaker::{
    CallPermit, CircuitBreaker, CircuitBreakerSettings, NotPermitted,
};
use crate::worker::outbox::execution::CallHealth;
use crate::worker::outbox::keyed::Keyed;
use crate::worker::outbox::rate_limit::{RateLimit, TokenBucket};

/// The interval at which calls with a key are considered again whose limit depends on other calls.
const RECHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The keys of a call by which it is limited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CallKeys {
    pub(crate) breaker: Option<String>,
    pub(crate) rate: Option<String>,
    pub(crate) concurrency: Option<String>,
}

/// A limit of the calls with one key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum KeyLimit {
    Breaker(String),
    Rate(String),
    Concurrency(String),
}

/// The reason for which no call of a gateway begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoCall {
    /// The gateway is paused.
    Paused,
    /// Until this monotonic time.
    Until(Duration),
    /// Until another call ends.
    UntilOneEnds,
}

impl From<NotPermitted> for NoCall {
    fn from(not: NotPermitted) -> Self {
        match not {
            NotPermitted::Until(until) => Self::Until(until),
            NotPermitted::Probing => Self::UntilOneEnds,
        }
    }
}

/// A change of a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CircuitChange {
    Opened,
    Closed,
}

/// The permit of a call under way.
#[derive(Debug)]
pub(crate) struct AdmittedCall {
    keys: CallKeys,
    /// The permit of the circuit breaker; `None` if the call's key is unknown.
    permit: Option<CallPermit>,
}

impl AdmittedCall {
    /// Returns the key of the call's circuit breaker.
    pub(crate) fn breaker_key(&self) -> Option<&str> {
        self.keys.breaker.as_deref()
    }

    /// Returns the limits by key whose state depends on the call.
    pub(crate) fn key_limits(&self) -> impl Iterator<Item = KeyLimit> {
        let CallKeys { breaker, concurrency, .. } = self.keys.clone();
        let breaker = breaker.map(KeyLimit::Breaker);
        breaker.into_iter().chain(concurrency.map(KeyLimit::Concurrency))
    }
}

/// The limits of a gateway, as they are configured.
#[derive(Debug, Clone)]
pub(crate) struct CallLimitSettings {
    pub(crate) breaker: CircuitBreakerSettings,
    /// `true` if each key has a circuit breaker.
    pub(crate) has_breaker_by_key: bool,
    pub(crate) rate: Option<RateLimit>,
    pub(crate) rate_by_key: Option<RateLimit>,
    pub(crate) concurrency_by_key: Option<usize>,
    /// Maximum keys in memory.
    pub(crate) max_keys: usize,
}

/// The limits of a gateway, and the calls under way.
#[derive(Debug)]
pub(crate) struct CallLimits {
    settings: CallLimitSettings,
    /// The circuit breaker of all calls, if the keys have none.
    breaker: CircuitBreaker,
    breakers: Keyed<CircuitBreaker>,
    rate: TokenBucket,
    rates: Keyed<TokenBucket>,
    /// The bucket of each key that was not used.
    unused_rate: TokenBucket,
    concurrency: BTreeMap<String, usize>,
    /// The share of the gateway's partitions that this process holds.
    share: f64,
    is_paused: bool,
    under_way: usize,
}

impl CallLimits {
    pub(crate) fn new(settings: CallLimitSettings) -> Self {
        let max = settings.max_keys;
        Self {
            breaker: CircuitBreaker::new(settings.breaker),
            settings,
            breakers: Keyed::new(max, |breaker| breaker.open_until().is_some()),
            rate: TokenBucket::empty(Duration::ZERO),
            rates: Keyed::new(max, |_| false),
            unused_rate: TokenBucket::empty(Duration::ZERO),
            concurrency: BTreeMap::new(),
            share: 0.0,
            is_paused: false,
            under_way: 0,
        }
    }

    /// Forgets the calls under way, after the dispatcher was restarted.
    pub(crate) fn restart(&mut self) {
        self.breaker.forget_probe();
        self.breakers.values_mut().for_each(CircuitBreaker::forget_probe);
        self.breakers.end_all();
        self.rates.end_all();
        self.concurrency.clear();
        self.under_way = 0;
    }

    /// Records whether the gateway is paused. Returns `true` if that changed.
    pub(crate) fn set_paused(&mut self, is_paused: bool) -> bool {
        std::mem::replace(&mut self.is_paused, is_paused) != is_paused
    }

    /// Sets the number of the gateway's partitions that this process holds. Until now it had the
    /// share of the earlier number.
    pub(crate) fn set_held(&mut self, held: usize, partitions: u16, now: Duration) {
        #[expect(clippy::cast_precision_loss, reason = "at most 65,535 partitions")]
        let share = held as f64 / f64::from(partitions.max(1));
        let before = std::mem::replace(&mut self.share, share);
        if before.to_bits() == share.to_bits() {
            return;
        }
        if let Some(limit) = &self.settings.rate {
            self.rate.fill(limit, before, now);
            self.rate.fill(limit, share, now);
        }
        if let Some(limit) = &self.settings.rate_by_key {
            for bucket in self.rates.values_mut().chain([&mut self.unused_rate]) {
                bucket.fill(limit, before, now);
                bucket.fill(limit, share, now);
            }
        }
    }

    /// Checks the limits of the whole gateway.
    pub(crate) fn check(&self, now: Duration) -> Result<(), NoCall> {
        if self.is_paused {
            return Err(NoCall::Paused);
        }
        if !self.settings.has_breaker_by_key {
            self.breaker.check(now)?;
        }
        if let Some(limit) = &self.settings.rate {
            let ready_at = self.rate.ready_at(1, limit, self.share, now);
            if ready_at > now {
                return Err(NoCall::Until(ready_at));
            }
        }
        Ok(())
    }

    /// Returns the limit that a call with these keys must wait for, and the time until which.
    fn check_keys(&self, keys: &CallKeys, now: Duration) -> Result<(), (KeyLimit, Duration)> {
        let limits = [
            keys.breaker.clone().map(KeyLimit::Breaker),
            keys.concurrency.clone().map(KeyLimit::Concurrency),
            keys.rate.clone().map(KeyLimit::Rate),
        ];
        for limit in limits.into_iter().flatten() {
            if self.openings(&limit, now) == 0 {
                let until = self.opens_at(&limit, now);
                return Err((limit, until));
            }
        }
        Ok(())
    }

    /// Returns the number of calls that a limit admits now.
    pub(crate) fn openings(&self, limit: &KeyLimit, now: Duration) -> usize {
        match limit {
            KeyLimit::Breaker(key) => self.breakers.get(key).map_or(usize::MAX, |breaker| {
                match (breaker.check(now), breaker.open_until()) {
                    (Ok(()), None) => usize::MAX,
                    (Ok(()), Some(_)) => 1,
                    (Err(_), _) => 0,
                }
            }),
            KeyLimit::Rate(key) => {
                let Some(limit) = &self.settings.rate_by_key else { return usize::MAX };
                self.rates.get(key).unwrap_or(&self.unused_rate).calls(limit, self.share, now)
            }
            KeyLimit::Concurrency(key) => {
                let max = self.settings.concurrency_by_key.unwrap_or(usize::MAX);
                max.saturating_sub(self.concurrency.get(key).copied().unwrap_or(0))
            }
        }
    }

    /// Returns the time at which a limit is to be considered again, after the calls that it admits
    /// now.
    pub(crate) fn opens_at(&self, limit: &KeyLimit, now: Duration) -> Duration {
        match limit {
            KeyLimit::Breaker(key) => match self.breakers.get(key).map(|of| of.check(now)) {
                Some(Err(NotPermitted::Until(until))) => until,
                _ => now + RECHECK_INTERVAL,
            },
            KeyLimit::Rate(key) => {
                let Some(limit) = &self.settings.rate_by_key else { return now };
                let bucket = self.rates.get(key).unwrap_or(&self.unused_rate);
                let calls = bucket.calls(limit, self.share, now);
                let next = u32::try_from(calls).unwrap_or(u32::MAX).saturating_add(1);
                let ready_at = bucket.ready_at(next, limit, self.share, now);
                ready_at.max(now + Duration::from_micros(1))
            }
            KeyLimit::Concurrency(_) => now + RECHECK_INTERVAL,
        }
    }

    /// Admits a call.
    ///
    /// # Errors
    ///
    /// Returns the limit that it must wait for, and the time until which; no limit if the whole
    /// gateway admits none.
    pub(crate) fn admit(
        &mut self,
        keys: CallKeys,
        now: Duration,
    ) -> Result<AdmittedCall, Option<(KeyLimit, Duration)>> {
        self.check(now).map_err(|_| None)?;
        self.check_keys(&keys, now).map_err(Some)?;
        let settings = &self.settings;
        let breaker = match &keys.breaker {
            Some(key) => Some(self.breakers.begin(key, || CircuitBreaker::new(settings.breaker))),
            None => Some(&mut self.breaker).filter(|_| !settings.has_breaker_by_key),
        };
        let permit = breaker.and_then(|breaker| breaker.admit(now).ok());
        if let Some(limit) = &settings.rate {
            self.rate.take(limit, self.share, now);
        }
        if let (Some(limit), Some(key)) = (&settings.rate_by_key, &keys.rate) {
            let unused = &self.unused_rate;
            self.rates.begin(key, || unused.clone()).take(limit, self.share, now);
        }
        if let Some(key) = &keys.concurrency {
            *self.concurrency.entry(key.clone()).or_default() += 1;
        }
        self.under_way += 1;
        Ok(AdmittedCall { keys, permit })
    }

    /// Records the end of a call. Returns the change of its circuit, if it opens or closes.
    pub(crate) fn end(
        &mut self,
        call: &AdmittedCall,
        health: CallHealth,
        now: Duration,
    ) -> Option<CircuitChange> {
        let AdmittedCall { keys, permit } = call;
        let was_called = health != CallHealth::NotCalled;
        self.under_way = self.under_way.saturating_sub(1);
        if let Some(limit) = self.settings.rate.as_ref().filter(|_| !was_called) {
            self.rate.give_back(limit, self.share, now);
        }
        let rate = keys.rate.as_ref().and_then(|key| self.rates.end(key));
        if let (Some(limit), Some(rate), false) = (&self.settings.rate_by_key, rate, was_called) {
            rate.give_back(limit, self.share, now);
        }
        if let Some(key) = &keys.concurrency {
            let count = self.concurrency.get_mut(key).map(|count| {
                *count = count.saturating_sub(1);
                *count
            });
            if count == Some(0) {
                self.concurrency.remove(key);
            }
        }
        let breaker = match &keys.breaker {
            Some(key) => self.breakers.end(key),
            None => Some(&mut self.breaker),
        };
        let (breaker, permit) = (breaker?, (*permit)?);
        let was_open = breaker.open_until().is_some();
        match health {
            CallHealth::NotCalled => breaker.withdraw(permit),
            CallHealth::Succeeded => breaker.record(permit, false, now),
            CallHealth::Failed => breaker.record(permit, true, now),
        }
        match (was_open, breaker.open_until().is_some()) {
            (false, true) => Some(CircuitChange::Opened),
            (true, false) => Some(CircuitChange::Closed),
            _ => None,
        }
    }

    /// Returns the number of calls under way.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way
    }

    /// Returns the number of circuits that are open or half open.
    pub(crate) fn open_circuits(&self) -> usize {
        let by_key = self.breakers.iter().map(|(_, breaker)| breaker);
        by_key.chain([&self.breaker]).filter(|of| of.open_until().is_some()).count()
    }

    /// Returns the circuit breakers in order of keys, that of the whole gateway without a key, and
    /// the monotonic times until which they are open; a time that has passed means that a call
    /// probes the gateway.
    pub(crate) fn circuits(&self) -> Vec<(Option<String>, Option<Duration>)> {
        if !self.settings.has_breaker_by_key {
            return vec![(None, self.breaker.open_until())];
        }
        let circuits = self.breakers.iter();
        circuits.map(|(key, breaker)| (Some(key.to_owned()), breaker.open_until())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits(change: impl FnOnce(&mut CallLimitSettings)) -> CallLimits {
        let breaker = CircuitBreakerSettings { window: 2, ..CircuitBreakerSettings::default() };
        let mut settings = CallLimitSettings {
            breaker,
            has_breaker_by_key: false,
            rate: None,
            rate_by_key: None,
            concurrency_by_key: None,
            max_keys: 3,
        };
        change(&mut settings);
        let mut limits = CallLimits::new(settings);
        limits.set_held(4, 4, Duration::ZERO);
        limits
    }

    fn by_breaker(key: &str) -> CallKeys {
        CallKeys { breaker: Some(key.to_owned()), ..CallKeys::default() }
    }

    fn call(limits: &mut CallLimits, keys: CallKeys, health: CallHealth, now: Duration) -> bool {
        let call = limits.admit(keys, now).unwrap();
        limits.end(&call, health, now) == Some(CircuitChange::Opened)
    }

    #[test]
    fn each_key_has_a_circuit_of_its_own() {
        let mut limits = limits(|settings| settings.has_breaker_by_key = true);
        assert!(!call(&mut limits, by_breaker("a"), CallHealth::Failed, SECOND));
        assert!(!call(&mut limits, by_breaker("b"), CallHealth::Succeeded, SECOND));
        assert!(call(&mut limits, by_breaker("a"), CallHealth::Failed, SECOND));
        let denied = limits.admit(by_breaker("a"), SECOND).unwrap_err();
        assert_eq!(denied, Some((KeyLimit::Breaker("a".to_owned()), 31 * SECOND)));
        assert_eq!(limits.openings(&KeyLimit::Breaker("a".to_owned()), SECOND), 0);
        assert!(!call(&mut limits, by_breaker("b"), CallHealth::Succeeded, SECOND));
        assert!(!call(&mut limits, CallKeys::default(), CallHealth::Failed, SECOND), "no key");
        assert_eq!(limits.openings(&KeyLimit::Breaker("a".to_owned()), 31 * SECOND), 1);
        let probe = limits.admit(by_breaker("a"), 31 * SECOND).unwrap();
        assert_eq!(limits.openings(&KeyLimit::Breaker("a".to_owned()), 31 * SECOND), 0);
        let closed = limits.end(&probe, CallHealth::Succeeded, 32 * SECOND);
        assert_eq!((closed, limits.open_circuits()), (Some(CircuitChange::Closed), 0));
        assert_eq!(limits.openings(&KeyLimit::Breaker("a".to_owned()), 32 * SECOND), usize::MAX);
        let keys = |limits: &CallLimits| limits.circuits().into_iter().map(|(key, _)| key);
        assert_eq!(keys(&limits).collect::<Option<Vec<_>>>().unwrap(), ["a", "b"]);
        for key in ["c", "d"] {
            call(&mut limits, by_breaker(key), CallHealth::Failed, 33 * SECOND);
        }
        assert_eq!(keys(&limits).count(), 3, "the number of keys is bounded");
    }

    #[test]
    fn keys_with_closed_circuits_are_evicted_first() {
        let mut limits = limits(|settings| settings.has_breaker_by_key = true);
        for _ in 0..2 {
            call(&mut limits, by_breaker("down"), CallHealth::Failed, SECOND);
        }
        for key in ["a", "b", "c", "d"] {
            call(&mut limits, by_breaker(key), CallHealth::Succeeded, 2 * SECOND);
        }
        let denied = limits.admit(by_breaker("down"), 3 * SECOND).unwrap_err();
        assert_eq!(denied, Some((KeyLimit::Breaker("down".to_owned()), 31 * SECOND)));
        assert_eq!((limits.circuits().len(), limits.open_circuits()), (3, 1));
    }

    #[test]
    fn concurrent_calls_are_counted_by_key() {
        let mut limits = limits(|settings| settings.concurrency_by_key = Some(2));
        let key = |key: &str| CallKeys { concurrency: Some(key.to_owned()), ..CallKeys::default() };
        let first = limits.admit(key("a"), SECOND).unwrap();
        limits.admit(key("a"), SECOND).unwrap();
        limits.admit(key("b"), SECOND).unwrap();
        let (limit, _) = limits.admit(key("a"), SECOND).unwrap_err().unwrap();
        assert_eq!(limit, KeyLimit::Concurrency("a".to_owned()));
        assert_eq!(limits.under_way(), 3);
        limits.end(&first, CallHealth::NotCalled, SECOND);
        assert_eq!(limits.openings(&limit, SECOND), 1);
        limits.restart();
        assert_eq!((limits.openings(&limit, SECOND), limits.under_way()), (2, 0));
    }

    #[test]
    fn rates_are_limited_in_all_and_by_key() {
        let rate = |per_second, burst| Some(RateLimit { per_second, burst });
        let mut limits = limits(|settings| {
            settings.rate = rate(3.0, 3);
            settings.rate_by_key = rate(1.0, 1);
        });
        let key = |key: &str| CallKeys { rate: Some(key.to_owned()), ..CallKeys::default() };
        assert_eq!(
            limits.check(Duration::ZERO),
            Err(NoCall::Until(Duration::from_micros(333_334)))
        );
        let now = 10 * SECOND;
        let first = limits.admit(key("a"), now).unwrap();
        let denied = limits.admit(key("a"), now).unwrap_err();
        assert_eq!(denied, Some((KeyLimit::Rate("a".to_owned()), 11 * SECOND)));
        limits.end(&first, CallHealth::NotCalled, now);
        limits.admit(key("a"), now).expect("the first call was not made");
        limits.admit(key("b"), now).unwrap();
        limits.admit(key("c"), now).unwrap();
        assert_eq!(limits.admit(key("d"), now).unwrap_err(), None, "the whole gateway admits none");
    }

    /// The share that a process had counts for the time for which it had it.
    #[test]
    fn a_process_that_loses_partitions_keeps_no_tokens_of_them() {
        let mut limits = limits(|settings| {
            settings.rate = Some(RateLimit { per_second: 100.0, burst: 100 });
        });
        limits.set_held(1, 4, 10 * SECOND);
        let mut calls = 0;
        while limits.admit(CallKeys::default(), 10 * SECOND).is_ok() {
            calls += 1;
        }
        assert_eq!(calls, 25);
        limits.set_held(4, 4, 11 * SECOND);
        while limits.admit(CallKeys::default(), 11 * SECOND).is_ok() {
            calls += 1;
        }
        assert_eq!(calls, 50, "25 in a second of a quarter");
    }

    #[test]
    fn a_paused_gateway_admits_no_call() {
        let mut limits = limits(|_| {});
        limits.set_paused(true);
        assert_eq!(limits.check(SECOND), Err(NoCall::Paused));
        assert_eq!(limits.admit(CallKeys::default(), SECOND).unwrap_err(), None);
        limits.set_paused(false);
        limits.admit(CallKeys::default(), SECOND).unwrap();
    }
}
