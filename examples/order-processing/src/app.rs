//! Opening the app.

use std::time::Duration;

use anyhow::Context as _;
use composable_rust::{App, AppBuilder, SqlReadModel, StoreUrl};

use crate::Order;
use crate::customer_orders::{CustomerOrders, create_table};

/// The deadline of a command: long enough for a restart of the database.
const DEADLINE: Duration = Duration::from_secs(60);

/// Opens the app on the store at `url`.
///
/// # Errors
///
/// When the store cannot be opened, with the reason.
pub async fn open(url: &StoreUrl) -> anyhow::Result<App> {
    builder(url).await?.build().context("cannot build the app")
}

/// Opens the app with its read model, which is in the database of the store; without a read model
/// if the store is in memory.
///
/// # Errors
///
/// When the store or the read model cannot be opened, with the reason.
pub(crate) async fn open_with_read_model(
    url: &StoreUrl,
) -> anyhow::Result<(App, Option<SqlReadModel>)> {
    let builder = builder(url).await?;
    if *url == StoreUrl::Memory {
        return Ok((builder.build().context("cannot build the app")?, None));
    }
    let model = url.connect_read_model().await?;
    create_table(&model).await.context("cannot create the table of the read model")?;
    let builder = builder.projection(CustomerOrders, model.clone());
    Ok((builder.build().context("cannot build the app")?, Some(model)))
}

async fn builder(url: &StoreUrl) -> anyhow::Result<AppBuilder> {
    let builder = App::builder(url.connect().await?).aggregate::<Order>(());
    Ok(builder.settings(|settings| settings.default_deadline = DEADLINE))
}
