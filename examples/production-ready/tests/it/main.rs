//! The services together and as processes, and the files of `deploy`.

mod alerts;
mod backup;
mod collector;
mod deploy;
mod drills;
mod fulfilment;
mod load;
mod lock;
mod server;
mod services;
mod support;
mod trace;
