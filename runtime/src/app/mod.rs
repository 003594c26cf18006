//! An app: its configuration, its registry, and what operators ask of it.

#[expect(clippy::module_inception, reason = "the file has the name of its type, as all do")]
pub(crate) mod app;
pub(crate) mod builder;
pub(crate) mod consumers;
pub(crate) mod context;
pub(crate) mod dead_letters;
pub(crate) mod gateway_handle;
pub(crate) mod log_start;
pub(crate) mod program;
pub(crate) mod queues;
pub(crate) mod registry;
pub(crate) mod rehearsal;
pub(crate) mod republish;
pub(crate) mod reset_policy;
pub(crate) mod settings;
pub(crate) mod settled;
pub(crate) mod shutdown_signal;
pub(crate) mod stuck_instances;
pub(crate) mod system;
pub(crate) mod unknown_messages;
pub(crate) mod validate;
