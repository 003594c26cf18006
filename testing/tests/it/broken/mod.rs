//! Broken stores, each with one defect, and the cases that find it.

mod defects;
mod finds;
mod store;
