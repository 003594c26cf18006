//! A gateway whose answers a test scripts.

mod answer;
mod end;
mod gateway;
mod script;

pub use answer::FakeAnswer;
pub use gateway::FakeGateway;
pub use script::FakeCall;
