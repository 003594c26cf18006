//! Waiting for work.

use std::time::Duration;

use composable_rust_core::queue::Outbox as _;
use composable_rust_core::store::{Due, EventStore as _, ExpectedVersion};
use composable_rust_postgres::PostgresEventStore;
use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use crate::database::Database;
use crate::fixtures::{append, commit};
use crate::work::{arm, queued};

/// A store with a poll interval of ten minutes is notified of another store's work.
#[tokio::test]
async fn work_of_other_processes_ends_a_wait() {
    let database = Database::create().await;
    let writer = database.store(1).await;
    let worker =
        database.builder().poll_interval(Duration::from_secs(600)).connect().await.unwrap();
    let mut seen = listening(&worker, &writer).await;
    let mut timed = append("order-1", ExpectedVersion::Any, &[]);
    timed.timers = vec![arm(5, Due::After(Duration::ZERO))];
    for n in 0..10 {
        // Earlier notifications.
        while let Ok(more) = timeout(Duration::from_millis(50), worker.wait_for_work(seen)).await {
            seen = more.unwrap();
        }
        let wait = tokio::spawn({
            let worker = worker.clone();
            async move { worker.wait_for_work(seen).await }
        });
        if n % 2 == 0 {
            commit(&writer, &timed).await;
        } else {
            writer.enqueue(0, &[queued(1)], None).await.unwrap();
        }
        seen =
            timeout(Duration::from_secs(20), wait).await.expect("a lost wake-up").unwrap().unwrap();
    }
    // Events alone create no work.
    commit(&writer, &append("order-2", ExpectedVersion::Any, &[1])).await;
    let idle = timeout(Duration::from_millis(200), worker.wait_for_work(seen)).await;
    assert!(idle.is_err(), "nothing was queued, but the wait ended");
}

/// Work of this process is announced to others, and wakes this process once.
#[tokio::test]
async fn a_wait_for_work_ends_with_the_poll_interval() {
    let database = Database::create().await;
    let store =
        database.builder().poll_interval(Duration::from_millis(300)).connect().await.unwrap();
    // Where the listener starts, there may be work.
    let other = database.store(1).await;
    let mut seen = listening(&store, &other).await;
    sleep(Duration::from_secs(1)).await;
    seen = silent(&store, seen).await;
    for _ in 0..3 {
        store.enqueue(0, &[queued(1)], None).await.unwrap();
        let now = store.wait_for_work(seen).await.unwrap();
        assert_ne!(now, seen);
        seen = now;
        let start = Instant::now();
        assert_eq!(store.wait_for_work(seen).await.unwrap(), seen);
        assert!(start.elapsed() >= Duration::from_millis(290));
    }
}

/// Ends the sessions that listen.
const STOP_LISTENING: &str = "select pg_terminate_backend(pid) from pg_stat_activity \
     where datname = current_database() and pid <> pg_backend_pid() \
     and (query like 'LISTEN%' or query like 'select coalesce(current%from partitions p%')";

/// Waits until a store receives notifications: another store's work ends its wait. Returns the
/// number of its last wait.
async fn listening(worker: &PostgresEventStore, writer: &PostgresEventStore) -> u64 {
    let mut seen = worker.wait_for_work(0).await.unwrap();
    let warm_up = async {
        loop {
            writer.enqueue(0, &[queued(1)], None).await.unwrap();
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = warm_up => unreachable!("it never ends"),
        heard = timeout(Duration::from_secs(20), worker.wait_for_work(seen)) => {
            seen = heard.expect("no notification in 20 s").unwrap();
        }
    }
    silent(worker, seen).await
}

/// Waits until no notification has come for a while.
async fn silent(worker: &PostgresEventStore, mut seen: u64) -> u64 {
    while let Ok(more) = timeout(Duration::from_millis(300), worker.wait_for_work(seen)).await {
        let more = more.unwrap();
        if more == seen {
            break;
        }
        seen = more;
    }
    seen
}

/// Appends an event as a process does that dies before it notifies others.
async fn append_silently(database: &Database) {
    let call =
        "select append_event(0::smallint, 'a-1', -1, gen_random_uuid(), 'x', 1, 'c', '', null)";
    sqlx::query(call).execute(&database.pool()).await.unwrap();
}

/// Waits for news of work; other ends of the wait are not news.
async fn news(worker: &PostgresEventStore, seen: u64) {
    let waiting = async { while worker.wait_for_work(seen).await.unwrap() == seen {} };
    timeout(Duration::from_secs(20), waiting).await.expect("no news in 20 s");
}

/// A commit while the listener's connection was lost is found when it is replaced. No
/// poll finds it: the poll interval is ten minutes.
#[tokio::test]
async fn news_of_the_time_without_a_listener_are_found() {
    let database = Database::create().await;
    let writer = database.store(1).await;
    let worker =
        database.builder().poll_interval(Duration::from_secs(600)).connect().await.unwrap();
    for _ in 0..3 {
        let seen = listening(&worker, &writer).await;
        let heads = worker.heads().await.unwrap();
        let ended = sqlx::query(STOP_LISTENING).fetch_all(&database.pool()).await.unwrap();
        assert!(!ended.is_empty(), "no session listens");
        append_silently(&database).await;
        let waited = timeout(Duration::from_secs(20), worker.wait_for_events(&heads)).await;
        waited.expect("no events in 20 s").unwrap();
        news(&worker, seen).await;
    }
}

/// A commit whose notification is lost is found by the listener's poll, with the work that it may
/// have created.
#[tokio::test]
async fn commits_without_a_notification_are_found_while_listening() {
    let database = Database::create().await;
    let writer = database.store(1).await;
    let worker =
        database.builder().poll_interval(Duration::from_millis(50)).connect().await.unwrap();
    let seen = listening(&worker, &writer).await;
    sleep(Duration::from_millis(1_500)).await;
    let heads = worker.heads().await.unwrap();
    append_silently(&database).await;
    let (waited, ()) = tokio::join!(
        timeout(Duration::from_secs(20), worker.wait_for_events(&heads)),
        news(&worker, seen)
    );
    waited.expect("no events in 20 s").unwrap();
}

/// A server, or a pooler, that ends each session that listens: the waiting tasks poll.
#[tokio::test]
async fn news_are_found_where_nothing_can_listen() {
    let database = Database::create().await;
    let writer = database.store(1).await;
    let url = without_listen(&database.url()).await;
    let interval = Duration::from_millis(50);
    let worker = PostgresEventStore::builder(&url).poll_interval(interval).connect().await.unwrap();
    for _ in 0..3 {
        let seen = worker.wait_for_work(0).await.unwrap();
        writer.enqueue(0, &[queued(1)], None).await.unwrap();
        news(&worker, seen).await;
        let heads = worker.heads().await.unwrap();
        append_silently(&database).await;
        let waited = timeout(Duration::from_secs(20), worker.wait_for_events(&heads)).await;
        waited.expect("no events in 20 s").unwrap();
    }
    let channel = "select count(*) from pg_stat_activity where query like 'LISTEN%' \
         and datname = current_database() and pid <> pg_backend_pid()";
    let listeners: i64 = sqlx::query_scalar(channel).fetch_one(&database.pool()).await.unwrap();
    assert_eq!(listeners, 0);
}

/// A proxy that closes each connection on which a client listens.
async fn without_listen(server: &str) -> String {
    let options: PgConnectOptions = server.parse().unwrap();
    let (host, port) = (options.get_host().to_owned(), options.get_port());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let far = TcpStream::connect((host.as_str(), port)).await.unwrap();
            tokio::spawn(async move {
                let ((mut from, mut back), (mut answers, mut to)) =
                    (near.into_split(), far.into_split());
                let asks = async {
                    let mut buffer = vec![0; 1 << 16];
                    loop {
                        let read = from.read(&mut buffer).await.unwrap_or(0);
                        let text = &buffer[..read];
                        if read == 0 || text.windows(6).any(|word| word == b"LISTEN") {
                            return;
                        }
                        if to.write_all(text).await.is_err() {
                            return;
                        }
                    }
                };
                tokio::select! {
                    () = asks => {}
                    _ = copy(&mut answers, &mut back) => {}
                }
            });
        }
    });
    let proxied = server.replacen(&format!("{}:{port}", options.get_host()), &own, 1);
    assert!(proxied.contains(&own), "{server} names no host and port");
    proxied
}

/// A process that commits and ends at once has told the others.
#[tokio::test]
async fn a_store_that_is_dropped_has_told_of_its_last_commit() {
    let database = Database::create().await;
    let writer = database.store(1).await;
    let worker =
        database.builder().poll_interval(Duration::from_secs(600)).connect().await.unwrap();
    let mut seen = listening(&worker, &writer).await;
    for _ in 0..5 {
        let short = database.store(1).await;
        short.enqueue(0, &[queued(1)], None).await.unwrap();
        drop(short);
        news(&worker, seen).await;
        seen = silent(&worker, seen).await;
    }
}

/// An operator's process that ends at once has told the others: its tokio runtime is dropped.
#[tokio::test]
async fn a_process_of_an_operator_tells_others_before_it_ends() {
    let database = Database::create().await;
    let writer = database.store(1).await;
    let worker =
        database.builder().poll_interval(Duration::from_secs(600)).connect().await.unwrap();
    let mut seen = listening(&worker, &writer).await;
    for _ in 0..5 {
        let builder = database.builder();
        let process = move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                builder.connect().await.unwrap().wake_workers().await.unwrap();
            });
        };
        tokio::task::spawn_blocking(process).await.unwrap();
        news(&worker, seen).await;
        seen = silent(&worker, seen).await;
    }
}
