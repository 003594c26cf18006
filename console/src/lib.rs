//! A web console for operators: an axum router over [`Admin`](composable_rust_admin::Admin).
//!
//! - It shows streams, instances, sagas, workflows, queues, dead letters, timers, projections, the
//!   bus, gateways and processes, and repairs them if it is allowed to: [`Console::allow_changes`].
//! - It refuses to be built without [authentication](Console::token) unless it answers this machine
//!   only: [`Console::loopback_only`].
//! - It masks the contents of messages and states unless told otherwise: [`Payloads`].
//! - Each page is read by index or examines a bounded part of the store.
//!
//! # Example: a console at `/console`
//!
//! ```
//! use axum::Router;
//! use composable_rust_admin::{Admin, Operator};
//! use composable_rust_console::Console;
//! # use composable_rust_testing::InMemoryEventStore;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! # let store = InMemoryEventStore::new();
//! let admin = Admin::of_store(store, Operator::named("console"))?;
//! let console = Console::new(admin)
//!     .token("ann", "a secret of at least 16 bytes")
//!     .allow_changes()
//!     .router()?;
//! let service: Router = Router::new().nest("/console", console);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod access;
mod action;
mod assets;
mod background;
mod console;
mod context;
mod failure;
mod form;
mod layout;
mod live;
mod notice;
mod page;
mod pages;
mod parts;
mod url;

pub use console::{Console, ConsoleError, Payloads};
