//! The saga, the other aggregates, the simulated provider and the audit; then the whole shop: in
//! one process and as services, with processes killed and frozen.

mod audit;
mod chaos;
mod cli;
mod freezer;
mod frozen;
mod inventory;
mod kill;
mod ledger;
mod order;
mod payment;
mod plain_consumer;
mod postgres;
mod program;
mod provider;
mod running;
mod saga;
mod services;
mod shipping;
mod shop;
mod stored;
mod support;
mod topics;
mod virtual_time;
mod world;
