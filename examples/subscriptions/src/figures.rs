//! The read model over three aggregates: revenue by plan, open invoices, renewals in trouble.

use composable_rust::prelude::*;
use composable_rust::{Projection, ProjectionError, Recorded, StreamId};
use composable_rust::{SqlConnection, SqlReadModel, connect_read_model};
use serde::Serialize;

use crate::{Invoice, InvoiceEvent, Renewal, RenewalEvent, Subscription, SubscriptionEvent};

/// The tables, on PostgreSQL and SQLite. The second has the streams that wait for money.
const TABLES: &str = "
    create table if not exists paying (stream text primary key, plan text, cents bigint);
    create table if not exists waiting (stream text primary key, what text, since text)";

/// The events that the read model shows.
#[derive(Debug, Clone, PartialEq, EventSet)]
pub(crate) enum Billing {
    Subscription(SubscriptionEvent),
    Invoice(InvoiceEvent),
    Renewal(RenewalEvent),
}

type Projected = Result<(), ProjectionError>;

/// The projection.
pub(crate) struct Figures;

impl Projection for Figures {
    const NAME: &'static str = "figures";
    type Events = Billing;
    type Connection = SqlConnection;

    async fn project(&self, recorded: &Recorded<Billing>, sql: &mut SqlConnection) -> Projected {
        use {InvoiceEvent as Inv, RenewalEvent as Ren, SubscriptionEvent as Sub};
        let (stream, since) = (recorded.stream.as_str(), recorded.recorded_at.to_string());
        let plan = "insert into paying values ($1, $2, $3)";
        let what = "insert into waiting values ($1, $2, $3)
            on conflict (stream) do update set what = excluded.what, since = excluded.since";
        let query = match &recorded.event {
            Billing::Subscription(Sub::Activated(terms)) => {
                sql.query(plan).bind(stream).bind(terms.plan.name()).bind(terms.price.0)
            }
            Billing::Subscription(Sub::PlanChanged(terms)) => {
                let change = "update paying set plan = $2, cents = $3 where stream = $1";
                sql.query(change).bind(stream).bind(terms.plan.name()).bind(terms.price.0)
            }
            Billing::Invoice(Inv::Issued { subscription, amount }) => {
                sql.query(what).bind(stream).bind(format!("{amount} of {subscription}")).bind(since)
            }
            Billing::Renewal(
                trouble @ (Ren::Declined { .. } | Ren::Unanswered | Ren::RefundRequested),
            ) => sql.query(what).bind(stream).bind(trouble.kind().name).bind(since),
            Billing::Subscription(Sub::Cancelled { .. } | Sub::Lapsed)
            | Billing::Invoice(Inv::Paid | Inv::Voided)
            | Billing::Renewal(Ren::Paid | Ren::Refunded | Ren::GaveUp | Ren::Stopped) => {
                return self.erase(&recorded.stream, sql).await;
            }
            _ => return Ok(()),
        };
        Ok(query.execute().await.map(drop)?)
    }

    async fn clear(&self, sql: &mut SqlConnection) -> Projected {
        Ok(sql.execute_batch("delete from paying; delete from waiting").await?)
    }

    async fn erase(&self, of: &StreamId, sql: &mut SqlConnection) -> Projected {
        sql.query("delete from paying where stream = $1").bind(of.as_str()).execute().await?;
        sql.query("delete from waiting where stream = $1").bind(of.as_str()).execute().await?;
        Ok(())
    }
}

/// The content of the read model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Report {
    pub(crate) plans: Vec<PlanRow>,
    pub(crate) open_invoices: Vec<WaitingRow>,
    /// The renewals that are declined, unanswered or being refunded.
    pub(crate) stuck_renewals: Vec<WaitingRow>,
}

/// A plan with its paying subscriptions and their monthly recurring revenue.
#[derive(Debug, Clone, PartialEq, Serialize, sqlx::FromRow)]
pub(crate) struct PlanRow {
    pub(crate) plan: String,
    pub(crate) subscriptions: i64,
    pub(crate) mrr_cents: i64,
}

/// A stream that waits for money.
#[derive(Debug, Clone, PartialEq, Serialize, sqlx::FromRow)]
pub(crate) struct WaitingRow {
    pub(crate) stream: String,
    pub(crate) what: String,
    pub(crate) since: String,
}

impl Report {
    pub(crate) async fn open(url: &str) -> anyhow::Result<SqlReadModel> {
        let model = connect_read_model(url).await?;
        model.execute_batch(TABLES).await?;
        Ok(model)
    }

    pub(crate) async fn read(model: &SqlReadModel) -> Result<Self, sqlx::Error> {
        let plans = "select plan, count(*) as subscriptions,
            cast(sum(cents) as bigint) as mrr_cents from paying group by plan order by plan";
        let waiting = "select * from waiting where stream like $1 order by since, stream";
        Ok(Self {
            plans: model.query(plans).fetch_all().await?,
            open_invoices: model.query(waiting).bind("invoice-%").fetch_all().await?,
            stuck_renewals: model.query(waiting).bind("renewal-%").fetch_all().await?,
        })
    }
}
