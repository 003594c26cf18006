//! One aggregate instance, from a command to its commit.

pub(crate) mod cache;
pub(crate) mod catch_up;
pub(crate) mod completion;
pub(crate) mod decide;
pub(crate) mod decide_context;
pub(crate) mod effects;
pub(crate) mod encode;
pub(crate) mod group_commit;
pub(crate) mod handle;
pub(crate) mod in_progress;
pub(crate) mod inbox;
pub(crate) mod load;
pub(crate) mod mailbox;
pub(crate) mod measure;
pub(crate) mod message;
pub(crate) mod process;
pub(crate) mod receive;
pub(crate) mod runtime;
pub(crate) mod send;
pub(crate) mod snapshots;
pub(crate) mod submit;
