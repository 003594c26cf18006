//! The operations of a store, with or without an app.

use std::fmt;
use std::time::Duration;

use composable_rust_core::store::{EventStore, LogInfo, SharedEventStore};
use composable_rust_runtime::App;

use crate::{AdminError, Interrupt};

/// The operations on an event store. Cheap to clone.
#[derive(Clone)]
pub struct Admin {
    pub(crate) app: App,
    pub(crate) operator: Operator,
    pub(crate) interrupt: Interrupt,
    /// The number of dead letters that a list or the groups examine.
    pub(crate) examined: usize,
    /// The time after which searches end.
    pub(crate) patience: Option<Duration>,
}

/// The number of dead letters that a list or the groups examine by default.
const EXAMINED: usize = 100_000;

/// The person or program on whose behalf an operation is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// The name, as the entries of the audit show it.
    pub name: String,
    /// The reason, such as a ticket; empty if none is given.
    pub reason: String,
}

impl Operator {
    /// Creates an operator who gives no reason.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), reason: String::new() }
    }

    /// Sets the reason.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = reason.into();
        self
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("app", &self.app)
            .field("operator", &self.operator)
            .finish_non_exhaustive()
    }
}

impl Admin {
    /// Creates the operations of an app's store. What the app registers is decoded. The app need
    /// not be started.
    pub fn new(app: &App, operator: Operator) -> Self {
        let interrupt = Interrupt::default();
        Self { app: app.clone(), operator, interrupt, examined: EXAMINED, patience: None }
    }

    /// Creates the operations of a store without an app: contents are shown as they are stored.
    ///
    /// # Errors
    ///
    /// [`AdminError::Build`]: an app without registrations cannot be built on the store.
    pub fn of_store(store: impl EventStore, operator: Operator) -> Result<Self, AdminError> {
        Ok(Self::new(&App::builder(store).build()?, operator))
    }

    /// Returns the same operations on behalf of another operator.
    #[must_use]
    pub fn on_behalf_of(&self, operator: Operator) -> Self {
        Self { operator, ..self.clone() }
    }

    /// Returns the same operations, of which lists and groups of dead letters examine up to
    /// `limit` of them. Default: 100,000.
    #[must_use]
    pub fn examining(&self, limit: usize) -> Self {
        Self { examined: limit, ..self.clone() }
    }

    /// Returns the operator.
    pub fn operator(&self) -> &Operator {
        &self.operator
    }

    /// Returns the app.
    pub fn app(&self) -> &App {
        &self.app
    }

    pub(crate) fn store(&self) -> &SharedEventStore {
        self.app.store()
    }

    pub(crate) fn log(&self) -> LogInfo {
        self.app.log()
    }

    /// Returns `true` if the app registers the aggregate type.
    pub(crate) fn is_registered(&self, category: &str) -> bool {
        self.app.registry().names().any(|name| name == category)
    }
}
