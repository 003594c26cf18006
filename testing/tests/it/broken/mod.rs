//! The suite can fail: stores with one defect each, and the cases that find it.

mod defects;
mod finds;
mod queues;
mod store;
