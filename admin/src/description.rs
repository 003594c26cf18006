//! A description of the log and of what the app registers.

use composable_rust_core::message::MessageKind;
use composable_rust_core::store::EventStore as _;
use composable_rust_runtime::operations::ProjectionHandle;
use serde::Serialize;
use uuid::Uuid;

use crate::{Admin, AdminError};

/// The log, and what the app registers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Description {
    /// The id of the log.
    pub log: Uuid,
    /// The number of partitions.
    pub partitions: u16,
    /// The number of events.
    pub events: u64,
    /// The registered aggregates, in order of names.
    pub aggregates: Vec<AggregateView>,
    /// The names of the registered gateways.
    pub gateways: Vec<String>,
    /// The names of the registered projections.
    pub projections: Vec<String>,
}

/// A registered aggregate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AggregateView {
    /// The name, which is the category of its streams.
    pub name: String,
    /// The commands.
    pub commands: Vec<MessageKindView>,
    /// The events.
    pub events: Vec<MessageKindView>,
}

/// A command or event of an aggregate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MessageKindView {
    /// The stored name.
    pub name: String,
    /// The version of the content's shape.
    pub version: u16,
    /// `true` if only the runtime sends it.
    pub internal: bool,
}

impl From<&MessageKind> for MessageKindView {
    fn from(of: &MessageKind) -> Self {
        Self { name: of.name.to_owned(), version: of.version, internal: of.internal }
    }
}

impl Admin {
    /// Returns a description of the log and of what the app registers.
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: the store cannot be read. Retry.
    pub async fn describe(&self) -> Result<Description, AdminError> {
        let views = |kinds: &[MessageKind]| kinds.iter().map(MessageKindView::from).collect();
        let registry = self.app.registry();
        let mut aggregates = Vec::new();
        for name in registry.names() {
            aggregates.push(AggregateView {
                name: name.to_owned(),
                commands: views(registry.commands(name)?),
                events: views(registry.events(name)?),
            });
        }
        let projections = self.app.projections();
        let heads = self.store().heads().await?;
        Ok(Description {
            log: self.log().id,
            partitions: self.log().partitions,
            events: heads.iter().map(|head| head.offset).sum(),
            aggregates,
            gateways: self.app.gateways().iter().map(|of| of.name().to_owned()).collect(),
            projections: projections
                .iter()
                .map(ProjectionHandle::name)
                .map(str::to_owned)
                .collect(),
        })
    }
}
