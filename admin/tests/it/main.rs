//! Operations against stores.

mod audit;
mod events;
mod shop;
mod trace;
mod verify;
