//! Opening the app.

use std::time::Duration;

use anyhow::Context as _;
use composable_rust::{App, StoreUrl};

use crate::Order;

/// The deadline of a command: long enough for a restart of the database.
const DEADLINE: Duration = Duration::from_secs(60);

/// Opens the app on the store at `url`.
///
/// # Errors
///
/// When the store cannot be opened, with the reason.
pub async fn open(url: &StoreUrl) -> anyhow::Result<App> {
    App::builder(url.connect().await?)
        .aggregate::<Order>(())
        .settings(|settings| settings.default_deadline = DEADLINE)
        .build()
        .context("cannot build the app")
}
