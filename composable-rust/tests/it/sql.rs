//! Read models that are opened by their URLs: values, rows and errors of both databases.

use std::error::Error;

use composable_rust::postgres::PostgresReadModel;
use composable_rust::projection::ReadModel as _;
use composable_rust::testing::TestDatabase;
use composable_rust::{ConnectError, SqlConnection, SqlReadModel, StoreUrl, connect_read_model};
use uuid::Uuid;

mod conformance {
    //! The conformance suite of read models, on each database by its URL.

    use composable_rust::projection::ReadModel;
    use composable_rust::testing::read_model_conformance::ReadModelBackend;
    use composable_rust::testing::{TestDatabase, read_model_conformance};
    use composable_rust::{SqlConnection, SqlReadModel, StoreUrl};

    /// A read model and what deletes it.
    struct Backend<T>(StoreUrl, #[allow(dead_code, reason = "deletes the database")] T);

    async fn backend<T>(url: StoreUrl, guard: T) -> Backend<T> {
        let model = url.connect_read_model().await.unwrap();
        let create = "create table number (n bigint); insert into number values (0)";
        model.execute_batch(create).await.unwrap();
        Backend(url, guard)
    }

    impl<T: Send + Sync + 'static> ReadModelBackend for Backend<T> {
        type Model = SqlReadModel;

        async fn open(&self) -> SqlReadModel {
            self.0.connect_read_model().await.unwrap()
        }

        async fn add(&self, connection: &mut SqlConnection, amount: i64) {
            let add = connection.query("update number set n = n + $1").bind(amount);
            assert_eq!(add.execute().await.unwrap(), 1);
        }

        async fn total(&self) -> i64 {
            let (n,) = self.open().await.query("select n from number").fetch_one().await.unwrap();
            n
        }
    }

    mod sqlite {
        use super::*;

        async fn file() -> impl ReadModelBackend<Model: ReadModel<Connection = SqlConnection>> {
            let folder = tempfile::tempdir().unwrap();
            backend(StoreUrl::Sqlite(folder.path().join("model.db")), folder).await
        }

        read_model_conformance!(file);
    }

    mod postgres {
        use super::*;

        async fn database() -> impl ReadModelBackend<Model: ReadModel<Connection = SqlConnection>> {
            let database = TestDatabase::create().await;
            backend(database.url().parse().unwrap(), database).await
        }

        read_model_conformance!(database);
    }
}

/// A row with every type that both databases take.
type Row = (i64, bool, i16, i32, f32, f64, String, Vec<u8>, Uuid, Option<i64>);

fn row() -> Row {
    let uuid = Uuid::from_u128(0x67e5_5044_10b1_426f_9247_bb68_0e5f_e0c8);
    (i64::MIN, true, -2, 3, 0.5, -0.25, "pencil's".to_owned(), vec![0, 255], uuid, None)
}

/// Writes a row in a transaction, reads it, and sees nothing of a transaction that was dropped.
async fn values_come_back(url: &StoreUrl) {
    let model = url.connect_read_model().await.unwrap();
    let (blob, float) = match &model {
        SqlReadModel::Postgres(_) => ("bytea", "real"),
        _ => ("blob", "real"),
    };
    let create = format!(
        "create table vals (a bigint, b boolean, c smallint, d integer, e {float}, \
         f double precision, g text, h {blob}, i {}, j bigint); \
         create table other (a bigint)",
        if blob == "bytea" { "uuid" } else { "blob" }
    );
    model.execute_batch(&create).await.unwrap();
    for committed in [true, false] {
        let mut transaction = model.begin().await.unwrap();
        insert(&mut transaction).await;
        assert_eq!(fetch(&mut transaction).await.last(), Some(&row()));
        if committed {
            model.commit(transaction).await.unwrap();
        }
    }
    assert_eq!(model.query("select * from vals").fetch_all::<Row>().await.unwrap(), vec![row()]);
    let none = model.query("select * from vals where a = $1").bind(1_i64);
    assert_eq!(none.fetch_optional::<Row>().await.unwrap(), None);
    let (sum,): (i64,) = model
        .query("select cast(sum(d) as bigint) from vals where d < $2 and d > $1")
        .bind(2)
        .bind(4)
        .fetch_one()
        .await
        .unwrap();
    assert_eq!(sum, 3);
    let named = Named { number: 3, g: "pencil's".to_owned() };
    assert_eq!(model.query("select g, d from vals").fetch_one::<Named>().await.unwrap(), named);
    let updated = model.query("update vals set j = $1").bind(Some(7_i64)).execute();
    assert_eq!(updated.await.unwrap(), 1);
    let wrong = model.query("select a from vals").fetch_all::<(String,)>().await;
    assert!(wrong.unwrap_err().to_string().contains("mismatched types"));
}

/// A row whose columns are read by their names.
#[derive(Debug, PartialEq, sqlx::FromRow)]
struct Named {
    #[sqlx(rename = "d")]
    number: i32,
    g: String,
}

async fn insert(connection: &mut SqlConnection) {
    let row = row();
    let inserted = connection
        .query("insert into vals values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)")
        .bind(row.0)
        .bind(row.1)
        .bind(row.2)
        .bind(row.3)
        .bind(row.4)
        .bind(row.5)
        .bind(&row.6)
        .bind(row.7.as_slice())
        .bind(row.8)
        .bind(row.9)
        .execute();
    assert_eq!(inserted.await.unwrap(), 1);
    connection.execute_batch("delete from other; insert into other values (1)").await.unwrap();
}

async fn fetch(connection: &mut SqlConnection) -> Vec<Row> {
    connection.query("select * from vals").fetch_all().await.unwrap()
}

#[tokio::test]
async fn values_come_back_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    values_come_back(&StoreUrl::Sqlite(folder.path().join("model.db"))).await;
}

#[tokio::test]
async fn values_come_back_from_postgres() {
    let database = TestDatabase::create().await;
    values_come_back(&database.url().parse().unwrap()).await;
}

#[tokio::test]
async fn a_transaction_of_another_database_is_refused() {
    let (database, folder) = (TestDatabase::create().await, tempfile::tempdir().unwrap());
    let postgres =
        SqlReadModel::Postgres(PostgresReadModel::connect(&database.url()).await.unwrap());
    let file = StoreUrl::Sqlite(folder.path().join("model.db")).connect_read_model().await.unwrap();
    let transaction = file.begin().await.unwrap();
    let refused = postgres.commit(transaction).await.unwrap_err();
    assert!(refused.to_string().contains("another database"), "{refused}");
}

/// The schema of the URL holds the tables of the projections.
#[tokio::test]
async fn the_schemas_of_a_database_hold_separate_read_models() {
    let database = TestDatabase::create().await;
    for schema in ["upstairs", "downstairs"] {
        let url = StoreUrl::Postgres { url: database.url(), schema: Some(schema.to_owned()) };
        let model = url.connect_read_model().await.unwrap();
        model.execute_batch("create table rooms (name text)").await.unwrap();
        let name: (String,) =
            model.query("select current_schema()::text").fetch_one().await.unwrap();
        assert_eq!(name.0, schema);
    }
}

#[tokio::test]
async fn memory_has_no_read_models() {
    let error = connect_read_model("memory:").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "`memory:` has no read models; write sqlite:PATH or postgres://USER@HOST/DATABASE"
    );
}

#[tokio::test]
async fn no_error_prints_a_password() {
    for url in [
        "mysql://app:secret@localhost/lamp",
        "postgres:app:secret@localhost/lamp",
        "postgres://app:secret@localhost:1/lamp",
        "postgres://app:secret@localhost:port/lamp",
        "postgres://app:secret@[::/lamp",
        "postgres://app:secret@localhost:1/lamp?sslmode=never",
        "postgres://app:se%FFcret@localhost:1/lamp",
    ] {
        let error = connect_read_model(url).await.unwrap_err();
        let mut next: Option<&dyn Error> = Some(&error);
        while let Some(error) = next {
            let text = format!("{error} {error:?}");
            assert!(!text.contains("secret"), "{text}");
            next = error.source();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let missing = format!("sqlite:{}/missing/model.db", folder.path().display());
    let error = connect_read_model(&missing).await.unwrap_err();
    assert!(matches!(error, ConnectError::ReadModel(_)), "{error:?}");
}

/// The errors of queries over HTTP.
#[tokio::test]
async fn the_error_of_a_query_is_a_problem_without_its_text() {
    use composable_rust::axum::Problem;

    let dir = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}", dir.path().join("model.db").display());
    let sqlite = connect_read_model(&file).await.unwrap();
    let database = TestDatabase::create().await;
    let postgres = connect_read_model(&database.url()).await.unwrap();
    let problem = async |model: &SqlReadModel, sql: &str| {
        let error = model.query(sql).fetch_all::<(i64,)>().await.unwrap_err();
        let problem = Problem::from(error);
        assert!(!problem.to_json().to_string().contains("secrets"));
        (problem.status().as_u16(), problem.code().to_owned())
    };
    for model in [&sqlite, &postgres] {
        let missing = problem(model, "select n from secrets").await;
        assert_eq!(missing, (500, "internal".to_owned()));
    }
    let unavailable = (503, "unavailable".to_owned());
    let cancelled = "select pg_cancel_backend(pg_backend_pid())::int::bigint";
    assert_eq!(problem(&postgres, cancelled).await, unavailable);
    let SqlReadModel::Sqlite(model) = &sqlite else { panic!("{sqlite:?}") };
    model.pool().close().await;
    assert_eq!(problem(&sqlite, "select 1").await, unavailable);
}
