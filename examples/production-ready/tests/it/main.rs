//! The services together, and the files of `deploy`.

mod deploy;
mod fulfilment;
mod lock;
