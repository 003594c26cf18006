//! Telemetry of whole apps.

mod collector;
mod log_lines;
mod recording;
mod shop;
mod trace_tree;
