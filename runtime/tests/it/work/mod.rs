//! What follows from commits, on the real runtime: on virtual time unless a test says otherwise.

mod actor;
mod node;
mod replies;
mod world;
