//! Operations against stores.

mod audit;
mod busy_log;
mod clocks;
mod events;
mod letters;
mod orders;
mod patience;
mod paused;
mod rearmed;
mod shop;
mod subjects;
mod trace;
mod trail;
mod verify;
