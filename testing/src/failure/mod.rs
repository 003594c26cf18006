//! The texts of test failures.

mod code;
mod diff;
mod message;

pub(crate) use code::{
    code, duration_code, effects_block, effects_code, same, same_effects, type_code,
};
pub(crate) use message::{Failure, list, pretty};
