//! Three services over a broker and PostgreSQL, with two processes each, while everything fails.
//!
//! Every few seconds a process is killed or restarted, and one is frozen for longer than its lease.
//! PostgreSQL crashes once and is read-only once. The broker is down twice, once for longer than
//! its sessions. All the same, the audit balances and the topics are complete.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use checkout_workflow::{Ledger, Service, Stores, simulation::CheckoutTracker};
use composable_rust::StoreUrl;
use composable_rust::bus::SharedEventBus;
use composable_rust::redpanda::RedpandaEventBus;
use composable_rust_testing::TestBroker;
use futures_util::FutureExt as _;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::postgres::Postgres;
use crate::program::{Process, Program};
use crate::shop::{self, seed, unique_prefix};
use crate::topics;

/// The number of checkouts if `CHAOS_CHECKOUTS` is not set.
const CHECKOUTS: usize = 400;
/// The time limit of the checkouts.
const TIME_LIMIT: Duration = Duration::from_secs(600);
/// The minimum session timeout that a broker allows for a group.
const LEASE: Duration = Duration::from_secs(6);
/// The maximum number of messages of a topic partition in memory: so few that partitions are paused
/// when they are reassigned.
const MAX_OUTSTANDING: &str = "10";

/// The six processes of the services.
struct Processes<'a> {
    program: &'a Program,
    list: Vec<Process>,
    kills: usize,
    restarts: usize,
    /// The number of processes that ended because PostgreSQL or the broker was down at their start.
    failed_starts: usize,
}

const NAMES: [&str; 6] =
    ["checkout-1", "payments-1", "warehouse-1", "checkout-2", "payments-2", "warehouse-2"];

impl<'a> Processes<'a> {
    fn start(program: &'a Program) -> Self {
        let list = (0..6).map(|n| Self::process(program, n)).collect();
        Self { program, list, kills: 0, restarts: 0, failed_starts: 0 }
    }

    fn process(program: &Program, n: usize) -> Process {
        let service = Service::ALL[n % 3].name();
        let lease = LEASE.as_millis().to_string();
        let serve =
            ["serve", service, "--check-states", "--lease-ttl", &lease, "--step-timeout", "60000"];
        program.start(NAMES[n], &[&serve[..], &["--max-outstanding", MAX_OUTSTANDING]].concat())
    }

    /// Kills a random process, or in 3 of 10 cases restarts it.
    fn kill_or_restart(&mut self, rng: &mut StdRng) {
        let n = rng.random_range(0..6);
        if rng.random_bool(0.3) {
            self.restart(n);
        } else {
            self.kill(n);
        }
    }

    fn kill(&mut self, n: usize) {
        self.list[n].kill();
        self.kills += 1;
        self.list[n] = Self::process(self.program, n);
    }

    /// Stops a process as a rolling deployment does, and starts it again. Asserts that its states
    /// match the log. It may end with an error, if it is still starting or the database is down.
    fn restart(&mut self, n: usize) {
        let log = self.list[n].terminate();
        assert!(!log.contains("the log says"), "{log}");
        self.restarts += 1;
        self.list[n] = Self::process(self.program, n);
    }

    /// Returns the last log lines of each process.
    fn log_tails(&self) -> String {
        let tail =
            |(name, process): (&&str, &Process)| format!("{name}:\n{}\n", process.log_tail());
        NAMES.iter().zip(&self.list).map(tail).collect()
    }

    /// Restarts the processes that have ended.
    fn supervise(&mut self) {
        for (n, process) in self.list.iter_mut().enumerate() {
            if process.exit_status().is_some() {
                self.failed_starts += 1;
                *process = Self::process(self.program, n);
            }
        }
    }
}

/// A failure of a part.
enum Outage {
    BrokerIsKilled,
    PostgresCrashes,
    /// The broker is stopped for longer than the sessions of its consumers.
    BrokerStops,
    ProcessFreezes,
    /// As during a failover: new connections stay read-only.
    PostgresReadsOnly,
}

/// The failures, each with the percentage of finished checkouts at which it starts.
const OUTAGES: [(usize, Outage); 5] = [
    (8, Outage::BrokerIsKilled),
    (18, Outage::PostgresCrashes),
    (28, Outage::BrokerStops),
    (38, Outage::ProcessFreezes),
    (45, Outage::PostgresReadsOnly),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_balances_after_every_failure() {
    shop::show_logs();
    let mut rng = StdRng::seed_from_u64(seed());
    let count = std::env::var("CHAOS_CHECKOUTS").ok().and_then(|count| count.parse().ok());
    let count: usize = count.unwrap_or(CHECKOUTS);
    let (mut broker, mut postgres) = (TestBroker::start().await, Postgres::start().await);
    let prefix = unique_prefix();
    let mut connection = vec!["--brokers".to_owned(), broker.brokers()];
    connection.extend(["--topic-prefix".to_owned(), prefix.clone()]);
    let mut urls = Vec::new();
    for service in Service::ALL {
        let url = postgres.create(service.name()).await;
        connection.extend(["--store".to_owned(), format!("{service}={url}")]);
        urls.push((service, url.parse::<StoreUrl>().unwrap()));
    }
    let program = Program::new(connection);
    let stores = Stores::PerService(urls.into_iter().collect());
    let shop = shop::shop();
    let apps = shop.open_for_reading(&stores).await.unwrap();
    let checkouts = apps.app(Service::Checkout);

    let mut processes = Processes::start(&program);
    // Many checkouts in progress, so that each failure affects some of them.
    let args = ["start", "-n", &count.to_string(), "--in-flight", "400", "--wait"];
    let mut starting = program.start("start", &args);
    let (began, mut tracker) = (Instant::now(), CheckoutTracker::new(checkouts));
    let mut outages = OUTAGES.into_iter().peekable();
    let mut next_kill = Instant::now() + Duration::from_secs(5);
    while starting.is_running() {
        assert!(
            began.elapsed() < TIME_LIMIT,
            "{} finished, {}",
            tracker.finished(),
            starting.log_tail()
        );
        tokio::time::sleep(Duration::from_millis(250)).await;
        processes.supervise();
        if Instant::now() > next_kill {
            processes.kill_or_restart(&mut rng);
            next_kill = Instant::now() + Duration::from_millis(rng.random_range(4_000..8_000));
        }
        // The database may be down.
        let _ = tracker.catch_up(checkouts).await;
        let finished = tracker.finished() * 100 / count;
        if let Some((_, outage)) = outages.next_if(|(share, _)| finished >= *share) {
            println!("{:?}: {finished} % finished", began.elapsed());
            let mut downtime = Duration::from_millis(rng.random_range(1_000..4_000));
            let n = rng.random_range(0..6);
            match outage {
                Outage::BrokerIsKilled => broker.kill().await,
                Outage::BrokerStops => {
                    broker.stop().await;
                    downtime += LEASE * 3 / 2;
                }
                Outage::PostgresCrashes => postgres.crash(),
                Outage::PostgresReadsOnly => {
                    postgres.read_only(true).await;
                    tokio::time::sleep(downtime).await;
                    postgres.read_only(false).await;
                    continue;
                }
                Outage::ProcessFreezes => {
                    processes.list[n].signal("-STOP");
                    tokio::time::sleep(LEASE * 3 / 2).await;
                    processes.list[n].signal("-CONT");
                    continue;
                }
            }
            // A process that starts during the outage ends, and is restarted.
            processes.kill(n);
            tokio::time::sleep(downtime).await;
            match outage {
                Outage::PostgresCrashes => postgres.restart().await,
                _ => broker.start_again().await,
            }
        }
    }
    let Processes { kills, restarts, failed_starts, .. } = &processes;
    println!(
        "{count} checkouts in {:?}; {kills} kills, {restarts} restarts, {failed_starts} failed \
         starts",
        began.elapsed()
    );
    assert!(outages.next().is_none(), "the checkouts finished before all failures");

    let audit = shop::audit(&apps, &Ledger::open(program.ledger()).unwrap()).await;
    assert_eq!(audit.completed + audit.compensated, count as u64, "{audit}");
    println!("{audit}");
    let brokers = broker.brokers();
    let reading = topics::assert_everything_is_read(&brokers, &prefix, &apps);
    let reading = AssertUnwindSafe(reading).catch_unwind().await;
    let read = reading.unwrap_or_else(|_| panic!("{}", processes.log_tails()));
    println!("{read} partitions of the command topics are read to the end");
    let bus = RedpandaEventBus::builder(&broker.brokers()).topic_prefix(&prefix).connect().await;
    let bus = SharedEventBus::new(bus.unwrap());
    let repeated = topics::assert_complete(&bus, topics::last_versions(&apps).await).await;
    let (messages, duplicates) = topics::duplicates(&bus).await;
    println!(
        "on the topics: every event, with {repeated} duplicates; {messages} commands and replies, with \
         {duplicates} duplicates that the inbox ignored"
    );
    processes.list.iter_mut().for_each(Process::stop);
}
