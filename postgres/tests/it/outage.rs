//! Servers that do not respond.

use std::time::Duration;

use composable_rust_core::queue::{Inbox as _, Leases as _};
use composable_rust_core::store::{Append, EventStore as _, Fingerprint, Snapshot, StoreError};
use composable_rust_core::{Position, Version};
use composable_rust_postgres::{ConnectError, PostgresEventStore, PostgresEventStoreBuilder};
use futures_util::TryStreamExt as _;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{self, Instant, sleep, timeout};

use crate::database::Database;
use crate::fixtures::{append, commit, committed, event, exact, load, mark, stream};
use crate::work::round;

/// Ends all sessions of the database but this one.
const TERMINATE: &str = "select pg_terminate_backend(pid) from pg_stat_activity \
     where datname = current_database() and pid <> pg_backend_pid()";

#[tokio::test]
async fn a_statement_beyond_its_timeout_is_unavailable() {
    let database = Database::create().await;
    let store = database
        .builder()
        .partitions(1)
        .statement_timeout(Duration::from_millis(200))
        .connect()
        .await
        .unwrap();
    let mut foreign = database.connection().await;
    let mut holder = foreign.begin().await.unwrap();
    holder.execute("select from partitions for update").await.unwrap();
    let one: Append = append("a-1", exact(0), &[1]);
    let start = Instant::now();
    let error = store.append_events(0, std::slice::from_ref(&one)).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(20));
    holder.rollback().await.unwrap();
    assert_eq!(commit(&store, &one).await, committed(1, 0, 1));
}

#[tokio::test]
async fn a_lost_connection_is_unavailable_at_most_once() {
    let database = Database::create().await;
    let store = database.store(1).await;
    commit(&store, &append("a-1", exact(0), &[1])).await;
    let mut foreign = database.connection().await;
    foreign.execute(TERMINATE).await.unwrap();
    sleep(Duration::from_millis(200)).await;
    let one = append("a-1", exact(1), &[2]);
    // The listener may have found the connections dead already, and had them replaced.
    match store.append_events(0, std::slice::from_ref(&one)).await {
        Ok(outcomes) => assert_eq!(outcomes, [committed(2, 0, 2)]),
        Err(error) => {
            assert!(error.is_transient(), "{error:?}");
            assert_eq!(commit(&store, &one).await, committed(2, 0, 2));
        }
    }
    assert_eq!(load(&store, "a-1").await.last().unwrap().version, Version::new(2));
}

/// A server that accepts no connections: every call returns an error, and none loops.
#[tokio::test]
async fn all_calls_are_unavailable_while_the_server_is() {
    let database = Database::create().await;
    let store =
        database.builder().partitions(1).poll_interval(Duration::from_millis(20)).connect().await;
    let store = store.unwrap();
    commit(&store, &append("a-1", exact(0), &[1])).await;
    let mut server = PgConnection::connect(&std::env::var("DATABASE_URL").unwrap()).await.unwrap();
    for statement in [
        format!("alter database {} allow_connections false", database.name()),
        format!(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{}'",
            database.name()
        ),
    ] {
        server.execute(statement.as_str()).await.unwrap();
    }
    let two = append("a-1", exact(1), &[2]);
    let heads = [composable_rust_core::Position::new(0, 1)];
    for _ in 0..3 {
        let waited = timeout(Duration::from_secs(30), store.wait_for_events(&heads)).await.unwrap();
        assert!(waited.unwrap_err().is_transient());
        assert!(store.heads().await.unwrap_err().is_transient());
        let appended = store.append_events(0, std::slice::from_ref(&two)).await;
        assert!(appended.unwrap_err().is_transient());
    }
    let again = format!("alter database {} allow_connections true", database.name());
    server.execute(again.as_str()).await.unwrap();
    assert_eq!(commit(&store, &two).await, committed(2, 0, 2));
    timeout(Duration::from_secs(30), store.wait_for_events(&heads)).await.unwrap().unwrap();
}

/// A network between a store and its server. When it falls silent, it drops all connections without
/// notice; connections that are opened later work.
struct Network {
    url: String,
    silent: watch::Sender<bool>,
}

impl Network {
    async fn before(server: &str) -> Self {
        let options: PgConnectOptions = server.parse().unwrap();
        let (host, port) = (options.get_host().to_owned(), options.get_port());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().to_string();
        let url = server.replacen(&format!("{host}:{port}"), &own, 1);
        assert!(url.contains(&own), "{server} names no host and port");
        let (silent, silence) = watch::channel(false);
        tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut far = TcpStream::connect((host.as_str(), port)).await.unwrap();
                let mut silence = silence.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        biased;
                        () = fallen(&mut silence) => std::future::pending().await,
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                    }
                });
            }
        });
        Self { url, silent }
    }

    fn builder(&self) -> PostgresEventStoreBuilder {
        PostgresEventStore::builder(&self.url)
            .statement_timeout(Duration::from_millis(200))
            .poll_interval(Duration::from_millis(50))
    }

    /// Drops the open connections without notice.
    async fn forget(&self) {
        self.silent.send(true).unwrap();
        // All connections notice it before it is over.
        sleep(Duration::from_millis(200)).await;
        self.silent.send(false).unwrap();
    }
}

async fn fallen(silence: &mut watch::Receiver<bool>) {
    silence.wait_for(|silent| *silent).await.unwrap();
}

/// Calls a store whose server falls silent. The result must be `Unavailable`, within the time
/// limit; once the server responds again, so does the store, since it kept no connection.
async fn assert_unavailable<T: std::fmt::Debug>(
    what: &str,
    network: &Network,
    ask: impl AsyncFnOnce(&PostgresEventStore) -> Result<T, StoreError>,
) {
    let store = network.builder().connect().await.unwrap();
    // Opens a connection that reads.
    store.heads().await.unwrap();
    let mut silence = network.silent.subscribe();
    fallen(&mut silence).await;
    let answer = timeout(Duration::from_secs(15), ask(&store)).await;
    let answer = answer.unwrap_or_else(|_| panic!("{what} hangs"));
    let error = answer.expect_err(what);
    assert!(error.is_transient(), "{what}: {error:?}");
    assert!(!format!("{error:?}").contains("PoolTimedOut"), "{what} found no connection");
    silence.wait_for(|silent| !*silent).await.unwrap();
    store.heads().await.unwrap_or_else(|error| panic!("{what} left a dead connection: {error:?}"));
}

#[tokio::test]
async fn a_server_that_falls_silent_is_unavailable_to_readers() {
    let database = Database::create().await;
    let store = database.store(1).await;
    commit(&store, &append("a-1", exact(0), &[1, 2]).with_inbox(vec![mark(9, 0, 2)])).await;
    let network = Network::before(&database.url()).await;
    let one = stream("a-1");
    let print = Fingerprint(1);
    let saved = Snapshot {
        version: Version::new(2),
        fingerprint: print,
        codec: "raw".into(),
        bytes: vec![],
    };
    let falls_silent = async {
        sleep(Duration::from_secs(2)).await;
        network.silent.send(true).unwrap();
        sleep(Duration::from_secs(16)).await;
        network.silent.send(false).unwrap();
    };
    tokio::join!(
        falls_silent,
        assert_unavailable("a load", &network, async |store| {
            store.load_events(&one, Version::ZERO).try_collect::<Vec<_>>().await
        }),
        assert_unavailable("a load with a snapshot", &network, async |store| {
            store.load_with_snapshot(&one, print).try_collect::<Vec<_>>().await
        }),
        assert_unavailable("a page", &network, async |store| {
            store.read_log(&[Position::new(0, 0)], 10).await
        }),
        assert_unavailable("heads", &network, async |store| store.heads().await),
        assert_unavailable("a wait", &network, async |store| {
            store.wait_for_events(&[Position::new(0, 2)]).await
        }),
        assert_unavailable("a snapshot", &network, async |store| {
            store.load_snapshot(&one, print).await
        }),
        assert_unavailable("a save", &network, async |store| {
            store.save_snapshot(&one, &saved, event(2).id).await
        }),
        assert_unavailable("a mark", &network, async |store| {
            store.load_inbox_entry(&one, mark(9, 0, 2).message_id).await
        }),
        assert_unavailable("the time", &network, async |store| store.now().await),
    );
}

/// As the load balancers and address translators of clouds do.
#[tokio::test]
async fn a_connection_dropped_by_the_network_is_not_used() {
    let database = Database::create().await;
    let network = Network::before(&database.url()).await;
    let store = network.builder().partitions(1).connect().await.unwrap();
    let renewal = round(1, Duration::from_secs(60), Vec::new());
    let renew = || store.change_leases(&renewal);
    for n in 0..3_u64 {
        commit(&store, &append("a-1", exact(n), &[u128::from(n) + 1])).await;
        load(&store, "a-1").await;
        renew().await.unwrap();
        network.forget().await;
        // Beyond the interval at which connections are checked, then beyond the idle timeout.
        time::pause();
        time::advance(Duration::from_secs(if n == 0 { 11 } else { 31 })).await;
        time::resume();
    }
    commit(&store, &append("a-1", exact(3), &[9])).await;
    assert_eq!(load(&store, "a-1").await.len(), 4);
    renew().await.unwrap();
}

/// As an address that still points to the former primary after a failover.
#[tokio::test]
async fn a_store_recovers_when_its_server_accepts_writes_again() {
    let database = Database::create().await;
    let store = database.store(1).await;
    commit(&store, &append("a-1", exact(0), &[1])).await;
    let mut foreign = database.connection().await;
    let read_only =
        format!("alter database {} set default_transaction_read_only = on", database.name());
    for statement in [read_only.as_str(), TERMINATE] {
        foreign.execute(statement).await.unwrap();
    }
    let one = append("a-1", exact(1), &[2]);
    for _ in 0..3 {
        let refused = store.append_events(0, std::slice::from_ref(&one)).await.unwrap_err();
        assert!(refused.is_transient(), "{refused:?}");
        // Its data may be old.
        let refused = store.heads().await.unwrap_err();
        assert!(refused.is_transient(), "{refused:?}");
    }
    let refused = database.builder().connect().await.unwrap_err();
    assert!(matches!(refused, ConnectError::ReadOnly { .. }), "{refused:?}");
    foreign.execute("set default_transaction_read_only = off").await.unwrap();
    let again = format!("alter database {} reset default_transaction_read_only", database.name());
    foreign.execute(again.as_str()).await.unwrap();
    assert_eq!(commit(&store, &one).await, committed(2, 0, 2));
    assert_eq!(load(&store, "a-1").await.len(), 2);
}

/// The server becomes read-only during open sessions, which are closed.
#[tokio::test]
async fn read_only_sessions_are_replaced() {
    let database = Database::create().await;
    let store = database.store(1).await;
    commit(&store, &append("a-1", exact(0), &[1])).await;
    load(&store, "a-1").await;
    let mut foreign = database.connection().await;
    // A trigger stands for a server that has been demoted.
    foreign
        .execute(
            "create function demoted() returns trigger language plpgsql as $$ begin \
                 raise exception 'demoted' using errcode = '25006'; \
             end $$; \
             create trigger demoted before insert on events execute function demoted()",
        )
        .await
        .unwrap();
    let sessions = "select array_agg(pid order by pid) from pg_stat_activity \
                    where datname = current_database() and pid <> pg_backend_pid()";
    let before: Vec<i32> = sqlx::query_scalar(sessions).fetch_one(&mut foreign).await.unwrap();
    let one = append("a-1", exact(1), &[2]);
    let refused = store.append_events(0, std::slice::from_ref(&one)).await.unwrap_err();
    assert!(refused.is_transient(), "{refused:?}");
    foreign.execute("drop trigger demoted on events").await.unwrap();
    assert_eq!(commit(&store, &one).await, committed(2, 0, 2));
    load(&store, "a-1").await;
    let replaced = async {
        let mut after = before.clone();
        while after.iter().any(|pid| before.contains(pid)) {
            sleep(Duration::from_millis(20)).await;
            after = sqlx::query_scalar(sessions).fetch_one(&mut foreign).await.unwrap();
        }
    };
    timeout(Duration::from_secs(30), replaced).await.expect("old sessions are kept");
}

/// Two long statements: the response to one arrives, that to the other is lost.
#[tokio::test]
async fn a_lost_response_is_not_waited_for() {
    let database = Database::create().await;
    let network = Network::before(&database.url()).await;
    let far = PostgresEventStore::builder(&network.url).partitions(2).connect().await.unwrap();
    let near = database.store(2).await;
    let name = |partition| {
        let names = (0..).map(|n| format!("a-{n}"));
        names.into_iter().find(|name| near.log().partition_of(&stream(name)) == partition).unwrap()
    };
    let (lost, answered) = (append(&name(0), exact(0), &[1]), append(&name(1), exact(0), &[2]));
    let mut foreign = database.connection().await;
    let mut holder = foreign.begin().await.unwrap();
    holder.execute("select from partitions for update").await.unwrap();
    let (lost, answered) = tokio::join!(
        timeout(Duration::from_secs(50), far.append_events(0, std::slice::from_ref(&lost))),
        async {
            let commit = near.append_events(1, std::slice::from_ref(&answered));
            let release = async {
                sleep(Duration::from_millis(500)).await;
                network.forget().await;
                // Longer than both wait before they check.
                sleep(Duration::from_secs(8)).await;
                holder.rollback().await.unwrap();
            };
            let (outcomes, ()) = tokio::join!(commit, release);
            outcomes
        }
    );
    assert_eq!(answered.unwrap(), [committed(1, 1, 1)]);
    let error = lost.expect("it was not asked for").unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    // The server had committed it.
    assert_eq!(far.heads().await.unwrap()[0], Position::new(0, 1));
}
