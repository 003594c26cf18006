//! The order aggregate, its command line, its HTTP API, and what happens when processes die or
//! compete.

mod aggregate;
mod cli;
mod http;
mod import;
mod kill;
mod minimal;
mod support;
mod two_processes;
