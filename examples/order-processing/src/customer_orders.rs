//! The read model: the orders of each customer.

use composable_rust::{
    Projection, ProjectionError, Recorded, SqlConnection, SqlReadModel, StreamId,
};
use serde::Serialize;

use crate::{Details, Order, OrderEvent};

/// The table, on PostgreSQL and SQLite.
const TABLE: &str = "
    create table if not exists customer_orders (stream text primary key, customer text not null,
        id text not null, placed_on text not null, units bigint not null,
        amount_cents bigint not null, shipped bigint not null, is_cancelled bigint not null);
    create index if not exists customer_orders_by_customer
        on customer_orders (customer, placed_on, stream)";

/// The maximum number of orders in a response.
const LIMIT: i64 = 100;

type Projected = Result<(), ProjectionError>;

/// The projection.
pub(crate) struct CustomerOrders;

impl Projection for CustomerOrders {
    const NAME: &'static str = "customer-orders";
    type Events = Order;
    type Connection = SqlConnection;

    async fn project(&self, recorded: &Recorded<OrderEvent>, sql: &mut SqlConnection) -> Projected {
        let stream = recorded.stream.as_str();
        let query = match &recorded.event {
            OrderEvent::Placed(Details { customer, placed_on, units, amount }) => {
                let place = "insert into customer_orders values ($1, $2, $3, $4, $5, $6, 0, 0)";
                let query = sql.query(place).bind(stream).bind(customer).bind(recorded.stream.id());
                let query = query.bind(placed_on.to_string()).bind(i64::from(*units));
                query.bind(i64::try_from(amount.0)?)
            }
            OrderEvent::Shipped { units, .. } => {
                let ship = "update customer_orders set shipped = shipped + $2 where stream = $1";
                sql.query(ship).bind(stream).bind(i64::from(*units))
            }
            OrderEvent::Cancelled { .. } => sql
                .query("update customer_orders set is_cancelled = 1 where stream = $1")
                .bind(stream),
        };
        Ok(query.execute().await.map(drop)?)
    }

    async fn clear(&self, sql: &mut SqlConnection) -> Projected {
        Ok(sql.execute_batch("delete from customer_orders").await?)
    }

    async fn erase(&self, stream: &StreamId, sql: &mut SqlConnection) -> Projected {
        let erase = sql.query("delete from customer_orders where stream = $1");
        Ok(erase.bind(stream.as_str()).execute().await.map(drop)?)
    }
}

/// An order in the list of a customer.
#[derive(Debug, Clone, PartialEq, Serialize, sqlx::FromRow)]
pub(crate) struct CustomerOrder {
    #[serde(rename = "order")]
    id: String,
    placed_on: String,
    units: i64,
    amount_cents: i64,
    status: String,
}

/// Creates the table if it does not exist.
pub(crate) async fn create_table(model: &SqlReadModel) -> Result<(), sqlx::Error> {
    model.execute_batch(TABLE).await
}

/// Returns the orders of a customer, the latest first.
pub(crate) async fn orders_of(
    model: &SqlReadModel,
    customer: &str,
) -> Result<Vec<CustomerOrder>, sqlx::Error> {
    let select =
        "select id, placed_on, units, amount_cents, case when is_cancelled = 1 then 'cancelled'
        when shipped = units then 'shipped' else 'placed' end as status from customer_orders
        where customer = $1 order by placed_on desc, stream desc limit $2";
    model.query(select).bind(customer).bind(LIMIT).fetch_all().await
}
