//! Tests of everything together, on a real PostgreSQL server.

mod rolling;
