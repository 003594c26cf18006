//! The SQLite store: the suite that every store passes, and what only a file can get wrong.

mod conformance;
mod copies;
mod crash;
mod files;
mod make;
mod pruning;
mod read_model;
mod sharing;
mod wal;
