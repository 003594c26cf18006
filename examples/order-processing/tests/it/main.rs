//! The order aggregate, its command line and HTTP API, and processes that are killed or compete.

mod aggregate;
mod cli;
mod http;
mod import;
mod kill;
mod minimal;
mod support;
mod two_processes;
