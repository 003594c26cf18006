//! The SQLite store: the conformance suite, and behaviour of files.

mod backup;
mod conformance;
mod copies;
mod crash;
mod files;
mod make;
mod pruning;
mod read_model;
mod sharing;
mod wal;
