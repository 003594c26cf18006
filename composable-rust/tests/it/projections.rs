//! Projections on real databases, shared with the event store, under crashes and poison events.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use composable_rust::postgres::PostgresEventStore;
use composable_rust::prelude::*;
use composable_rust::projection::{ProjectionState, ReadModel};
use composable_rust::settings::PoisonPolicy;
use composable_rust::sqlite::SqliteEventStore;
use composable_rust::store::EventStore;
use composable_rust::testing::TestDatabase;
use composable_rust::{
    Projection, ProjectionError, Recorded, SqlConnection, SqlReadModel, StoreUrl, StreamId,
};
use serde::{Deserialize, Serialize};

const ACCOUNTS: u64 = 6;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Account;

#[derive(Debug, Clone, PartialEq, Message)]
enum AccountCommand {
    Deposit { cents: i64 },
}

#[derive(Debug, Clone, PartialEq, Message)]
enum AccountEvent {
    Deposited { cents: i64 },
}

impl Aggregate for Account {
    const NAME: &'static str = "account";
    type Command = AccountCommand;
    type Event = AccountEvent;
    type Rejection = std::convert::Infallible;
    type Environment = ();

    fn decide(&self, command: AccountCommand, _: &Context<Self>) -> Decision<Self> {
        let AccountCommand::Deposit { cents } = command;
        record(AccountEvent::Deposited { cents })
    }

    fn apply(&mut self, _: AccountEvent) {}
}

/// A projection of a sum for each account, and of a sum over all accounts, which every event
/// updates.
struct Sums(&'static AtomicBool);

impl Projection for Sums {
    const NAME: &'static str = "sums";
    type Events = Account;
    type Connection = SqlConnection;

    async fn project(
        &self,
        recorded: &Recorded<AccountEvent>,
        connection: &mut SqlConnection,
    ) -> Result<(), ProjectionError> {
        let AccountEvent::Deposited { cents } = recorded.event;
        for key in [recorded.stream.as_str(), "all"] {
            let add = "insert into sums (key, cents) values ($1, $2) \
                       on conflict (key) do update set cents = sums.cents + excluded.cents";
            connection.query(add).bind(key).bind(cents).execute().await?;
        }
        if recorded.stream.id() == "0" && self.0.load(Ordering::SeqCst) {
            connection.query("insert into nowhere values (1)").execute().await?;
        }
        Ok(())
    }

    async fn clear(&self, connection: &mut SqlConnection) -> Result<(), ProjectionError> {
        Ok(connection.execute_batch("delete from sums where key = 'all'; delete from sums").await?)
    }

    async fn erase(
        &self,
        stream: &StreamId,
        connection: &mut SqlConnection,
    ) -> Result<(), ProjectionError> {
        let delete = "delete from sums where key = $1";
        connection.query(delete).bind(stream.as_str()).execute().await?;
        Ok(())
    }
}

fn app<P, M>(store: impl EventStore, projection: P, model: M) -> App
where
    P: Projection,
    M: ReadModel<Connection = P::Connection>,
{
    let app = App::builder(store)
        .aggregate::<Account>(())
        .settings(|settings| {
            settings.lease_ttl = Duration::from_millis(500);
            settings.retry.initial_backoff = Duration::from_millis(20);
            settings.retry.max_attempts = 1_000;
        })
        .projection_with(projection, model, |settings| settings.poison = PoisonPolicy::Park)
        .build()
        .unwrap();
    app.start();
    app
}

async fn deposit(app: &App, rounds: i64) {
    for n in 0..rounds {
        for id in 0..ACCOUNTS {
            let account = app.handle(&Account::id(id.to_string()));
            let deposit = account.send(AccountCommand::Deposit { cents: 1 + n });
            deposit.within(Duration::from_secs(60)).await.unwrap();
        }
    }
}

fn threads() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

async fn open(
    store: impl EventStore,
    url: &StoreUrl,
    poison: &'static AtomicBool,
) -> (App, SqlReadModel) {
    let model = url.connect_read_model().await.unwrap();
    let create = "create table if not exists sums (key text primary key, cents bigint)";
    model.execute_batch(create).await.unwrap();
    (app(store, Sums(poison), model.clone()), model)
}

async fn sums(model: &SqlReadModel) -> BTreeMap<String, i64> {
    model.query("select key, cents from sums").fetch_all().await.unwrap().into_iter().collect()
}

/// Abandons running apps at any moment, while the events of one account are poison at times. Then
/// checks that the sums are correct, also after a rebuild.
fn survives<S, Opening>(
    url: &StoreUrl,
    poison: &'static AtomicBool,
    open_store: impl Fn() -> Opening,
) where
    S: EventStore,
    Opening: Future<Output = S>,
{
    let rounds = 5;
    for crash in 0..8_u64 {
        let threads = threads();
        threads.block_on(async {
            poison.store(crash % 2 == 0, Ordering::SeqCst);
            let (app, _) = open(open_store().await, url, poison).await;
            deposit(&app, rounds).await;
            tokio::time::sleep(Duration::from_millis(crash * 83 % 700)).await;
            std::mem::forget(app);
        });
        threads.shutdown_background();
    }
    let threads = threads();
    threads.block_on(async {
        poison.store(false, Ordering::SeqCst);
        let (app, model) = open(open_store().await, url, poison).await;
        let each = 8 * (1..=rounds).sum::<i64>();
        let mut expected: BTreeMap<_, _> = (0..ACCOUNTS)
            .map(|id| (Account::id(id.to_string()).stream().to_string(), each))
            .collect();
        expected.insert("all".to_owned(), each * i64::try_from(ACCOUNTS).unwrap());
        for rebuilt in [false, true] {
            if rebuilt {
                app.projection::<Sums>().rebuild().await.unwrap();
            }
            let mut found = BTreeMap::new();
            for _ in 0..600 {
                let status = app.projection::<Sums>().status().await.unwrap();
                found = sums(&model).await;
                if status.state == ProjectionState::Running && found == expected {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            assert_eq!(found, expected, "rebuilt: {rebuilt}");
        }
        let erased = app.handle(&Account::id("1"));
        erased.erase().await.unwrap();
        for head in app.store().heads().await.unwrap().into_iter().filter(|head| head.offset > 0) {
            app.projection::<Sums>().wait_for(head, Duration::from_secs(30)).await.unwrap();
        }
        let left = sums(&model).await;
        assert!(!left.contains_key(erased.id().stream().as_str()), "{left:?}");
        assert!(app.shutdown(Duration::from_secs(10)).await);
    });
}

#[test]
fn everything_in_one_sqlite_file_adds_up() {
    static POISON: AtomicBool = AtomicBool::new(false);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bank.db");
    let open = async || SqliteEventStore::builder(&path).partitions(2).open().await.unwrap();
    survives(&StoreUrl::Sqlite(path.clone()), &POISON, open);
}

#[test]
fn everything_in_one_postgres_database_adds_up() {
    static POISON: AtomicBool = AtomicBool::new(false);
    let database = threads().block_on(TestDatabase::create());
    let url = database.url();
    let open = async || PostgresEventStore::builder(&url).partitions(2).connect().await.unwrap();
    survives(&url.parse().unwrap(), &POISON, open);
}

mod on_postgres {
    //! Statements and commits that PostgreSQL rejects, and a database that services share.

    use composable_rust::operations::ProjectionStatus;
    use composable_rust::postgres::{PgConnection, PostgresReadModel, sqlx};
    use composable_rust::testing::eventually;

    use super::*;

    /// A projection that runs a statement for each event, with the event's stream as `$1`.
    struct Runs {
        statement: &'static str,
        clear: &'static str,
        ignores_errors: bool,
    }

    impl Projection for Runs {
        const NAME: &'static str = "orders";
        type Events = Account;
        type Connection = PgConnection;

        async fn project(
            &self,
            recorded: &Recorded<AccountEvent>,
            connection: &mut PgConnection,
        ) -> Result<(), ProjectionError> {
            let query = sqlx::query(self.statement).bind(recorded.stream.as_str());
            match query.execute(connection).await {
                Err(error) if !self.ignores_errors => Err(error.into()),
                _ => Ok(()),
            }
        }

        async fn clear(&self, connection: &mut PgConnection) -> Result<(), ProjectionError> {
            match sqlx::query(self.clear).execute(connection).await {
                Err(error) if !self.ignores_errors => Err(error.into()),
                _ => Ok(()),
            }
        }
    }

    fn app(store: PostgresEventStore, projection: Runs, model: PostgresReadModel) -> App {
        let app = App::builder(store)
            .aggregate::<Account>(())
            .settings(|settings| {
                settings.retry.initial_backoff = Duration::from_millis(20);
                settings.retry.max_attempts = 3;
            })
            .projection(projection, model)
            .build()
            .unwrap();
        app.start();
        app
    }

    async fn one_deposit(app: &App, id: &str) -> composable_rust::Position {
        let account = app.handle(&Account::id(id));
        account.send(AccountCommand::Deposit { cents: 1 }).await.unwrap().position.unwrap()
    }

    /// Waits until the projection has failed or has caught up.
    async fn settled(app: &App) -> ProjectionStatus {
        eventually("a failure or the end of the log", Duration::from_secs(30), async || {
            let status = app.projection::<Runs>().status().await.unwrap();
            let failed = matches!(status.state, ProjectionState::Failed { .. });
            let caught_up = status.done == status.of && status.state == ProjectionState::Running;
            (failed || caught_up).then_some(status)
        })
        .await
    }

    async fn execute(model: &PostgresReadModel, sql: &str) {
        sqlx::raw_sql(sql).execute(model.pool()).await.unwrap();
    }

    async fn rows(model: &PostgresReadModel, table: &str) -> i64 {
        let count = format!("select count(*) from {table}");
        sqlx::query_scalar(&count).fetch_one(model.pool()).await.unwrap()
    }

    /// An error that the projection ignores aborts the transaction all the same, and a deferred
    /// error occurs at the commit: the runtime takes neither for a commit, and retries neither for
    /// ever.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_the_database_refuses_fails_the_projection() {
        let cases = [
            ("create table names (name text primary key)", true),
            ("create table names (name text primary key deferrable initially deferred)", false),
        ];
        for (create, ignores_errors) in cases {
            let database = TestDatabase::create().await;
            let store = PostgresEventStore::builder(&database.url()).partitions(1);
            let store = store.connect().await.unwrap();
            let model = PostgresReadModel::connect(&database.url()).await.unwrap();
            execute(&model, create).await;
            let runs = Runs {
                statement: "insert into names values ($1)",
                clear: "delete from nothing",
                ignores_errors,
            };
            let writer = App::builder(store.clone()).aggregate::<Account>(()).build().unwrap();
            for id in ["a", "b"] {
                one_deposit(&writer, id).await;
            }
            let twice = one_deposit(&writer, "a").await;
            for id in ["c", "d"] {
                one_deposit(&writer, id).await;
            }
            let app = app(store, runs, model.clone());
            let status = settled(&app).await;
            let ProjectionState::Failed { reason } = status.state else {
                panic!("{create}: {status:?}")
            };
            assert!(reason.contains(&twice.to_string()), "{create}: {reason}");
            assert_eq!((status.done, rows(&model, "names").await), (2, 2), "{create}");
            let rebuilt = app.projection::<Runs>().rebuild().await;
            assert!(rebuilt.is_err(), "{create}: `clear` has failed");
            execute(&model, "alter table names drop constraint names_pkey").await;
            app.projection::<Runs>().resume().await.unwrap();
            let status = settled(&app).await;
            assert_eq!((status.state, status.done), (ProjectionState::Running, 5), "{create}");
            assert_eq!(rows(&model, "names").await, 5, "{create}");
            assert!(app.shutdown(Duration::from_secs(10)).await);
        }
    }

    /// Two services with one read model, whose projections have the same name.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn two_logs_do_not_share_a_projection() {
        let database = TestDatabase::create().await;
        let store = async |schema| {
            let store = PostgresEventStore::builder(&database.url()).partitions(2).schema(schema);
            store.connect().await.unwrap()
        };
        let model = PostgresReadModel::connect(&database.url()).await.unwrap();
        execute(&model, "create table rows_a (name text)").await;
        execute(&model, "create table rows_b (name text)").await;
        let first = Runs {
            statement: "insert into rows_a values ($1)",
            clear: "delete from rows_a",
            ignores_errors: false,
        };
        let second = Runs {
            statement: "insert into rows_b values ($1)",
            clear: "delete from rows_b",
            ignores_errors: false,
        };
        let first = app(store("a").await, first, model.clone());
        for n in 0..20 {
            one_deposit(&first, &(n % 5).to_string()).await;
        }
        settled(&first).await;
        let second = app(store("b").await, second, model.clone());
        for n in 0..20 {
            one_deposit(&first, &(n % 5).to_string()).await;
            one_deposit(&second, &(n % 5).to_string()).await;
        }
        let status = settled(&second).await;
        let belongs = format!("belongs to the log {}", first.log().id);
        let failed = matches!(&status.state, ProjectionState::Failed { reason }
            if reason.contains(&belongs));
        assert!(failed, "{status:?}");
        let refused = second.projection::<Runs>().rebuild().await.unwrap_err().to_string();
        assert!(refused.contains(&belongs), "{refused}");
        let status = settled(&first).await;
        assert_eq!((status.state, status.done), (ProjectionState::Running, 40));
        assert_eq!((rows(&model, "rows_a").await, rows(&model, "rows_b").await), (40, 0));
    }
}
