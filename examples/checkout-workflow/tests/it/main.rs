//! Every path of the saga and of the aggregates under it, the simulated provider, and the audit.

mod audit;
mod inventory;
mod kill;
mod ledger;
mod order;
mod payment;
mod program;
mod provider;
mod running;
mod saga;
mod services;
mod shipping;
mod shop;
mod size;
mod stored;
mod support;
mod virtual_time;
mod world;
