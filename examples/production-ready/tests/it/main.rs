//! The services together, and the files of `deploy`.

mod alerts;
mod deploy;
mod fulfilment;
mod load;
mod lock;
