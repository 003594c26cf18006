//! Gateways: what waits for them, and their pauses.

use std::collections::BTreeMap;

use composable_rust_core::Timestamp;
use composable_rust_core::queue::{OutboxKind, Pause};
use composable_rust_runtime::operations::{Circuit, CircuitState};
use serde::Serialize;

use crate::{Admin, AdminError, PauseView};

/// A gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GatewayView {
    /// The name.
    pub name: String,
    /// `true` if this program registers the gateway.
    pub is_registered: bool,
    /// The pause, if it is paused.
    pub pause: Option<PauseView>,
    /// The number of calls that wait. Counting ends at 10,000 for each log partition.
    pub waiting: u64,
    /// The age of the oldest call in seconds.
    pub oldest_seconds: u64,
    /// The last error of the first call that has one.
    pub last_error: Option<String>,
    /// The number of dead letters. Counting ends at 10,000 for each log partition.
    pub dead_letters: u64,
    /// The circuits of this process that are not closed, in order of keys.
    pub open_circuits: Vec<CircuitView>,
}

/// A circuit that is not closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CircuitView {
    /// The key; `None` for the circuit of all calls of the gateway.
    pub key: Option<String>,
    /// The time from which on single calls probe the gateway; `None` if they do.
    pub until: Option<Timestamp>,
}

impl CircuitView {
    fn of(circuit: Circuit) -> Option<Self> {
        match circuit.state {
            CircuitState::Open { until } => Some(Self { key: circuit.key, until: Some(until) }),
            CircuitState::HalfOpen => Some(Self { key: circuit.key, until: None }),
            _ => None,
        }
    }
}

impl GatewayView {
    fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            is_registered: false,
            pause: None,
            waiting: 0,
            oldest_seconds: 0,
            last_error: None,
            dead_letters: 0,
            open_circuits: Vec::new(),
        }
    }
}

impl Admin {
    /// Returns the gateways that the app registers, that are paused, or that calls wait for, in
    /// order of names.
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: the store cannot be read. Retry.
    pub async fn gateways(&self) -> Result<Vec<GatewayView>, AdminError> {
        let mut gateways = BTreeMap::new();
        for handle in self.app.gateways() {
            let of = gateway(&mut gateways, handle.name());
            of.is_registered = true;
            of.open_circuits = handle.circuits().into_iter().filter_map(CircuitView::of).collect();
        }
        for pause in self.pauses().await? {
            if let Some(name) = pause.name.strip_prefix(&*Pause::of_gateway("")) {
                let name = name.to_owned();
                gateway(&mut gateways, &name).pause = Some(pause);
            }
        }
        for queue in self.queues().await? {
            if queue.kind != OutboxKind::Call.as_str() {
                continue;
            }
            let of = gateway(&mut gateways, &queue.target);
            of.waiting += queue.depth;
            of.oldest_seconds = of.oldest_seconds.max(queue.oldest_seconds);
            of.dead_letters += queue.dead_letters;
            of.last_error = of.last_error.take().or(queue.last_error);
        }
        Ok(gateways.into_values().collect())
    }

    /// Returns a gateway by its name.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotFound`]: the app does not register it, and nothing waits for it.
    pub async fn gateway(&self, name: &str) -> Result<GatewayView, AdminError> {
        let all = self.gateways().await?;
        let known: Vec<_> = all.iter().map(|of| of.name.clone()).collect();
        let found = all.into_iter().find(|of| of.name == name);
        found.ok_or_else(|| AdminError::NotFound {
            what: "gateway",
            name: name.to_owned(),
            hint: if known.is_empty() {
                "; run the operation in a program that registers it".to_owned()
            } else {
                format!("; known are: {}", known.join(", "))
            },
        })
    }
}

fn gateway<'a>(of: &'a mut BTreeMap<String, GatewayView>, name: &str) -> &'a mut GatewayView {
    of.entry(name.to_owned()).or_insert_with(|| GatewayView::named(name))
}
