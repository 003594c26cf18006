//! Every path of the saga and of the aggregates under it, the simulated provider, the audit; then the
//! shop at work: together and as services, killed and frozen.

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
