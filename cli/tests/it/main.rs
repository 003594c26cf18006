//! The commands on stores.

mod commands;
mod drill;
mod guards;
mod output;
mod postgres;
mod program;
mod repairs;
mod shop;
mod support;
#[cfg(unix)]
mod web_console;
