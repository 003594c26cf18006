//! Checking the configuration of an app: all problems are reported at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use composable_rust_core::bus::EventBus as _;
use composable_rust_core::message::ReplySource;
use composable_rust_core::store::MAX_PAYLOAD_BYTES;

use crate::app::builder::{AppBuilder, Registration};
use crate::worker::policy::registered::PolicySource;

/// The shortest lease: a shorter one would be renewed without pause.
const MIN_LEASE_TTL: Duration = Duration::from_millis(100);

/// The shortest inbox retention: a retry of an append with an unknown outcome must be recognised.
const MIN_INBOX_RETENTION: Duration = Duration::from_secs(3_600);

/// The longest lease: a longer one would block the work of a crashed process for too long.
const MAX_LEASE_TTL: Duration = Duration::from_secs(3_600);

/// The names of the framework's own queues, leases and consumer groups.
const RESERVED_NAMES: [&str; 3] = ["commands", "relay", "send"];
/// The prefixes of the framework's own queues, leases and consumer groups.
const RESERVED_PREFIXES: [&str; 3] = ["bus/", "project/", "relay/"];

/// The category of the streams in which operations on the store are recorded.
pub const OPERATORS: &str = "operators";

/// The prefix of the names of senders in other services.
const BUS_PREFIX: &str = "bus_";

/// The type names of the registered aggregates, by the aggregates' names.
type Names = BTreeMap<&'static str, &'static str>;

impl AppBuilder {
    /// Returns all problems of the configuration.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut names = Names::new();
        for Registration { name, type_name, partial, .. } in &self.aggregates {
            for messages in partial {
                problems.push(format!(
                    "the {messages} of `{name}` have a variant `#[message(other)]`: an aggregate \
                     knows all of its messages; remove the variant"
                ));
            }
            if let Some(other) = names.insert(*name, *type_name) {
                problems.push(if other == *type_name {
                    format!("`{name}` is registered twice")
                } else {
                    format!("`{other}` and `{type_name}` are both called `{name}`")
                });
            }
        }
        for name in names.keys().filter(|name| name.starts_with(BUS_PREFIX)) {
            problems.push(format!(
                "`{name}` begins with `{BUS_PREFIX}`, as do the names of senders in other services"
            ));
        }
        if let Some(type_name) = names.get(OPERATORS) {
            problems.push(format!(
                "`{type_name}` is called `{OPERATORS}`, as are the streams that record what \
                 operators change"
            ));
        }
        self.check_names(&mut problems);
        self.check_replies(&names, &mut problems);
        self.check_locations(&names, &mut problems);
        self.check_published(&names, &mut problems);
        self.check_policies(&names, &mut problems);
        self.check_bus(&mut problems);
        self.check_settings(&mut problems);
        problems
    }

    fn check_settings(&self, problems: &mut Vec<String>) {
        let settings = &self.settings;
        let limits = [
            ("mailbox_capacity", settings.mailbox_capacity),
            ("max_commands_per_append", settings.max_commands_per_append),
            ("max_live_instances", settings.max_live_instances),
            ("max_concurrent_loads", settings.max_concurrent_loads),
            ("writer_queue_capacity", settings.writer_queue_capacity),
            ("max_appends_per_batch", settings.max_appends_per_batch),
            ("max_bytes_per_batch", settings.max_bytes_per_batch),
            ("max_payload_bytes", settings.max_payload_bytes),
            ("max_concurrent_dispatches", settings.max_concurrent_dispatches),
            ("max_waiting_rows_per_queue", settings.max_waiting_rows_per_queue),
        ];
        for (name, limit) in limits {
            if limit == 0 {
                problems.push(format!("the setting `{name}` must be at least 1"));
            }
        }
        if !(MIN_LEASE_TTL..=MAX_LEASE_TTL).contains(&settings.lease_ttl) {
            problems.push(format!(
                "the setting `lease_ttl` must be between {MIN_LEASE_TTL:?} and {MAX_LEASE_TTL:?}"
            ));
        }
        if settings.default_deadline.is_zero() {
            problems.push("the setting `default_deadline` must be longer than zero".to_owned());
        }
        if settings.inbox_retention < MIN_INBOX_RETENTION {
            problems.push(format!(
                "the setting `inbox_retention` must be at least {MIN_INBOX_RETENTION:?}"
            ));
        }
    }

    fn check_names(&self, problems: &mut Vec<String>) {
        let mut seen = BTreeSet::new();
        for (name, gateway) in &self.gateways {
            if !seen.insert(*name) {
                problems.push(format!("the gateway `{name}` is registered twice"));
            }
            problems.extend(gateway.problems.iter().cloned());
            let (limit, lease) = (gateway.timeout, self.settings.lease_ttl);
            if limit * 3 >= lease * 2 {
                problems.push(format!(
                    "the timeout of the gateway `{name}`, {limit:?}, must be shorter than two \
                     thirds of the lease of {lease:?}"
                ));
            }
        }
        let mut seen = BTreeSet::new();
        for projection in &self.projections {
            if !seen.insert(projection.name()) {
                problems.push(format!("two projections are called `{}`", projection.name()));
            }
        }
        let mut seen = BTreeSet::new();
        for policy in &self.policies {
            if !seen.insert(policy.name.as_str()) {
                problems.push(format!("two policies are called `{}`", policy.name));
            }
            let name = policy.name.as_str();
            let begins = RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
            if begins || RESERVED_NAMES.contains(&name) || name.is_empty() {
                problems.push(format!(
                    "a policy cannot be called `{name}`: the framework uses the name for a queue, a \
                     lease or a consumer group of its own"
                ));
            }
        }
    }

    /// Checks that every aggregate's expected replies have a sender.
    fn check_replies(&self, names: &Names, problems: &mut Vec<String>) {
        for aggregate in &self.aggregates {
            for source in aggregate.replies {
                if let Some(problem) = self.missing_sender(names, source) {
                    let name = aggregate.name;
                    problems.push(format!("`{name}` expects replies {problem}"));
                }
            }
        }
    }

    /// Returns the problem of replies whose sender is not known.
    fn missing_sender(&self, names: &Names, source: &ReplySource) -> Option<String> {
        if self.elsewhere.contains(source) {
            return None;
        }
        match source {
            ReplySource::Target(name) => {
                let is_known = names.contains_key(name) || self.remote.contains(name);
                (!is_known).then(|| {
                    format!(
                        "of `{name}`: register it with `.aggregate`, or say where it lives with \
                         `.remote` (another service) or `.elsewhere` (another process)"
                    )
                })
            }
            ReplySource::Gateway(name) => {
                let is_known = self.gateways.iter().any(|(own, _)| own == name);
                (!is_known).then(|| {
                    format!(
                        "of the gateway `{name}`: register it with `.gateway`, or say \
                         `.gateway_elsewhere` (another process)"
                    )
                })
            }
        }
    }

    fn is_elsewhere(&self, name: &'static str) -> bool {
        self.elsewhere.contains(&ReplySource::Target(name))
    }

    /// Checks that every aggregate lives in one place.
    fn check_locations(&self, names: &Names, problems: &mut Vec<String>) {
        for name in self.remote.iter().filter(|name| names.contains_key(*name)) {
            problems.push(format!("`{name}` is registered here and said to be remote"));
        }
        for name in self.remote.iter().filter(|name| self.is_elsewhere(name)) {
            problems.push(format!("`{name}` is said to be remote and to be elsewhere: choose one"));
        }
        for name in names.keys().filter(|name| self.is_elsewhere(name)) {
            problems.push(format!("`{name}` is registered here and said to be elsewhere"));
        }
        for name in self.served.iter().filter(|name| !names.contains_key(*name)) {
            problems.push(format!("`{name}` is served but not registered"));
        }
    }

    fn check_published(&self, names: &Names, problems: &mut Vec<String>) {
        let published: BTreeSet<_> = self.published.iter().map(|topic| topic.category).collect();
        let unknown = |name: &&'static str| !names.contains_key(name) && !self.is_elsewhere(name);
        for name in published.into_iter().filter(unknown) {
            problems.push(format!(
                "events of `{name}` are published: register it with `.aggregate`, or say \
                 `.elsewhere` (another process)"
            ));
        }
        let mut relayed = BTreeSet::new();
        for published in &self.published {
            let (name, topic) = (published.category, &published.topic);
            if !relayed.insert((name, topic)) {
                problems.push(format!("events of `{name}` are published to `{topic}` twice"));
            }
        }
    }

    /// Checks that the sources and targets of all policies are known.
    fn check_policies(&self, names: &Names, problems: &mut Vec<String>) {
        for policy in &self.policies {
            if let PolicySource::Events(sources) = &policy.source {
                self.check_sources(names, &policy.name, sources, problems);
            }
            let target = policy.target;
            if policy.is_follower && self.remote.contains(target) {
                let follower = &policy.name;
                problems.push(format!(
                    "the follower `{follower}` hands events to `{target}`, which is remote: no \
                     service takes a `Heard` of another one; register the follower in the service \
                     of `{target}`, with the source as `.remote`"
                ));
            }
            let is_known = names.contains_key(target) || self.remote.contains(target);
            if !is_known && !self.is_elsewhere(target) {
                let policy = &policy.name;
                problems.push(format!(
                    "the policy `{policy}` sends commands to `{target}`: register it with \
                     `.aggregate`, or say where it lives with `.remote` (another service) or \
                     `.elsewhere` (another process)"
                ));
            }
        }
    }

    /// Checks that the sources of a policy are known, and are in one place.
    fn check_sources(
        &self,
        names: &Names,
        policy: &str,
        sources: &[&'static str],
        problems: &mut Vec<String>,
    ) {
        for name in sources {
            let is_remote = self.remote.contains(name);
            if is_remote && sources.len() > 1 {
                problems.push(format!(
                    "the policy `{policy}` reads events of several types, of which `{name}` is \
                     remote: register a policy for `{name}` alone"
                ));
            } else if !names.contains_key(name) && sources.len() > 1 {
                problems.push(format!(
                    "the policy `{policy}` reads events of several types, of which `{name}` is \
                     not registered: register it with `.aggregate`; or, if it lives in another \
                     service, say `.remote` and register a policy for `{name}` alone"
                ));
            } else if !is_remote && !names.contains_key(name) {
                problems.push(format!(
                    "the policy `{policy}` reads events of `{name}`: register it with \
                     `.aggregate`, or say `.remote`"
                ));
            }
        }
    }

    /// Checks that there is a bus if one is used, and that it takes the largest payload.
    fn check_bus(&self, problems: &mut Vec<String>) {
        let Some(bus) = &self.bus else {
            let topics = self.policies.iter().any(|p| matches!(p.source, PolicySource::Topic(_)));
            let wanted = [
                (!self.remote.is_empty(), "remote targets"),
                (!self.published.is_empty(), "published events"),
                (!self.served.is_empty(), "served aggregates"),
                (topics, "policies over topics"),
            ];
            for (_, what) in wanted.iter().filter(|(wanted, _)| *wanted) {
                problems.push(format!("there are {what} but no bus: add `.event_bus`"));
            }
            return;
        };
        if let Some(max) = bus.max_payload_bytes() {
            let largest = self.settings.max_payload_bytes;
            let sends = !self.published.is_empty() || !self.remote.is_empty();
            if sends && largest > max && largest != MAX_PAYLOAD_BYTES {
                problems.push(format!(
                    "payloads may have {largest} bytes, but the bus takes only {max}: lower the \
                     setting `max_payload_bytes`, or raise the limit of the bus and its broker"
                ));
            }
        }
    }
}
