//! The read model: the orders of each customer.

use composable_rust::{Projection, ProjectionError, Recorded, StreamId};
use composable_rust::{SqlConnection, SqlReadModel, connect_read_model};
use serde::Serialize;

use crate::order::{Order, OrderEvent};

const TABLE: &str = "create table if not exists order_overview (
    id text primary key, customer text not null, cents bigint not null, status text not null);
    create index if not exists order_overview_customer on order_overview (customer, id)";

/// The projection of the orders.
#[derive(Debug, Clone, Copy)]
pub struct Overview;

/// An order of the read model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct OrderRow {
    /// The id.
    pub id: String,
    /// The customer.
    pub customer: String,
    /// The price, in cents.
    pub cents: i64,
    /// The status.
    pub status: String,
}

type Projected = Result<(), ProjectionError>;

impl Projection for Overview {
    const NAME: &'static str = "order_overview";
    type Events = Order;
    type Connection = SqlConnection;

    async fn project(&self, recorded: &Recorded<OrderEvent>, sql: &mut SqlConnection) -> Projected {
        let id = recorded.stream.id();
        let query = match &recorded.event {
            OrderEvent::Placed(cart) => {
                let insert = "insert into order_overview values ($1, $2, $3, 'placed')
                    on conflict (id) do nothing";
                let cents = i64::try_from(cart.cents)?;
                sql.query(insert).bind(id).bind(&*cart.customer).bind(cents)
            }
            OrderEvent::Fulfilled => {
                sql.query("update order_overview set status = 'fulfilled' where id = $1").bind(id)
            }
            OrderEvent::Cancelled => {
                sql.query("update order_overview set status = 'cancelled' where id = $1").bind(id)
            }
        };
        Ok(query.execute().await.map(drop)?)
    }

    async fn clear(&self, sql: &mut SqlConnection) -> Projected {
        Ok(sql.execute_batch("delete from order_overview").await?)
    }

    async fn erase(&self, of: &StreamId, sql: &mut SqlConnection) -> Projected {
        let delete = "delete from order_overview where id = $1";
        Ok(sql.query(delete).bind(of.id()).execute().await.map(drop)?)
    }
}

/// Opens the read model and creates its table.
///
/// # Errors
///
/// The database cannot be opened.
pub async fn open(url: &str) -> anyhow::Result<SqlReadModel> {
    let model = connect_read_model(url).await?;
    model.execute_batch(TABLE).await?;
    Ok(model)
}

/// Returns up to 100 orders of a customer, in order of ids.
///
/// # Errors
///
/// The database cannot be read.
pub async fn of_customer(
    model: &SqlReadModel,
    customer: &str,
) -> Result<Vec<OrderRow>, sqlx::Error> {
    let query = "select id, customer, cents, status from order_overview
        where customer = $1 order by id limit 100";
    model.query(query).bind(customer).fetch_all().await
}
