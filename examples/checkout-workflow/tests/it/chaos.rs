//! Three services over a broker on PostgreSQL, two processes of each, with room for few messages. One
//! of the six is killed or restarted every few seconds, one is frozen for longer than its lease,
//! PostgreSQL crashes once and is read-only for a while, and the broker goes twice, once for longer
//! than its sessions; everything adds up all the same.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use checkout_workflow::{Ledger, Service, Stores, play::Watch};
use composable_rust::SharedEventBus;
use composable_rust::StoreUrl;
use composable_rust_redpanda::RedpandaEventBus;
use composable_rust_testing::TestBroker;
use futures_util::FutureExt as _;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::postgres::Postgres;
use crate::program::{Process, Program};
use crate::shop::{self, seed, unique};
use crate::topics;

/// How many checkouts there are unless `CHAOS_CHECKOUTS` says otherwise.
const CHECKOUTS: usize = 400;
const MOST: Duration = Duration::from_secs(600);
/// The shortest that a broker allows for a group's sessions.
const LEASE: Duration = Duration::from_secs(6);
/// Messages of a topic partition in memory: so few that partitions are paused when they change
/// hands.
const MAX_OUTSTANDING: &str = "10";

/// The six processes.
struct Six<'a> {
    program: &'a Program,
    processes: Vec<Process>,
    kills: usize,
    restarts: usize,
    /// They end by themselves when they are started while PostgreSQL or the broker is away.
    failed_starts: usize,
}

const NAMES: [&str; 6] =
    ["checkout-1", "payments-1", "warehouse-1", "checkout-2", "payments-2", "warehouse-2"];

impl<'a> Six<'a> {
    fn start(program: &'a Program) -> Self {
        let processes = (0..6).map(|n| Self::process(program, n)).collect();
        Self { program, processes, kills: 0, restarts: 0, failed_starts: 0 }
    }

    fn process(program: &Program, n: usize) -> Process {
        let service = Service::ALL[n % 3].name();
        let lease = LEASE.as_millis().to_string();
        let serve = ["serve", service, "--check-states", "--lease", &lease, "--patience", "60000"];
        program.start(NAMES[n], &[&serve[..], &["--max-outstanding", MAX_OUTSTANDING]].concat())
    }

    fn kill(&mut self, n: usize) {
        self.processes[n].kill();
        self.kills += 1;
        self.processes[n] = Self::process(self.program, n);
    }

    /// Stops one as a rolling deploy does: its states are what the log says. It may end otherwise than
    /// well, when it has only just begun or the database is away.
    fn restart(&mut self, n: usize) {
        let said = self.processes[n].terminate();
        assert!(!said.contains("the log says"), "{said}");
        self.restarts += 1;
        self.processes[n] = Self::process(self.program, n);
    }

    /// The ends of what they said.
    fn said(&self) -> String {
        let said = |(name, process): (&&str, &Process)| format!("{name}:\n{}\n", process.said());
        NAMES.iter().zip(&self.processes).map(said).collect()
    }

    /// Starts those again that have ended.
    fn supervise(&mut self) {
        for (n, process) in self.processes.iter_mut().enumerate() {
            if process.ended().is_some() {
                self.failed_starts += 1;
                *process = Self::process(self.program, n);
            }
        }
    }
}

/// What goes away, and from which share of finished checkouts on, in percent.
enum Outage {
    BrokerIsKilled,
    PostgresCrashes,
    /// For longer than the sessions of its consumers.
    BrokerStops,
    ProcessFreezes,
    /// As after a failover: who connects now stays with a server that only reads.
    PostgresReadsOnly,
}

const OUTAGES: [(usize, Outage); 5] = [
    (8, Outage::BrokerIsKilled),
    (18, Outage::PostgresCrashes),
    (28, Outage::BrokerStops),
    (38, Outage::ProcessFreezes),
    (45, Outage::PostgresReadsOnly),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_adds_up_whatever_dies() {
    shop::show_logs();
    let mut rng = StdRng::seed_from_u64(seed());
    let count = std::env::var("CHAOS_CHECKOUTS").ok().and_then(|count| count.parse().ok());
    let count: usize = count.unwrap_or(CHECKOUTS);
    let (mut broker, mut postgres) = (TestBroker::start().await, Postgres::start().await);
    let prefix = unique();
    let mut places = vec!["--brokers".to_owned(), broker.brokers()];
    places.extend(["--topic-prefix".to_owned(), prefix.clone()]);
    let mut urls = Vec::new();
    for service in Service::ALL {
        let url = postgres.create(service.name()).await;
        places.extend(["--store".to_owned(), format!("{service}={url}")]);
        urls.push((service, url.parse::<StoreUrl>().unwrap()));
    }
    let program = Program::new(places);
    let stores = Stores::PerService(urls.into_iter().collect());
    let shop = shop::shop();
    let apps = shop.look(&stores).await.unwrap();
    let checkouts = apps.of(Service::Checkout);

    let mut six = Six::start(&program);
    // Many at a time: each meets some of what dies, and waits.
    let args = ["start", "-n", &count.to_string(), "--in-flight", "400", "--wait"];
    let mut starting = program.start("start", &args);
    let (began, mut watch) = (Instant::now(), Watch::new(checkouts));
    let mut outages = OUTAGES.into_iter().peekable();
    let mut next_kill = Instant::now() + Duration::from_secs(5);
    while starting.runs() {
        assert!(began.elapsed() < MOST, "{} finished, {}", watch.finished(), starting.said());
        tokio::time::sleep(Duration::from_millis(250)).await;
        six.supervise();
        if Instant::now() > next_kill {
            let one = rng.random_range(0..6);
            if rng.random_bool(0.3) {
                six.restart(one);
            } else {
                six.kill(one);
            }
            next_kill = Instant::now() + Duration::from_millis(rng.random_range(4_000..8_000));
        }
        // It may be away.
        let _ = watch.catch_up(checkouts).await;
        let finished = watch.finished() * 100 / count;
        if let Some((_, outage)) = outages.next_if(|(share, _)| finished >= *share) {
            println!("{:?}: {finished} % finished", began.elapsed());
            let mut away = Duration::from_millis(rng.random_range(1_000..4_000));
            let one = rng.random_range(0..6);
            match outage {
                Outage::BrokerIsKilled => broker.kill().await,
                Outage::BrokerStops => {
                    broker.stop().await;
                    away += LEASE * 3 / 2;
                }
                Outage::PostgresCrashes => postgres.kill(),
                Outage::PostgresReadsOnly => {
                    postgres.read_only(true).await;
                    tokio::time::sleep(away).await;
                    postgres.read_only(false).await;
                    continue;
                }
                Outage::ProcessFreezes => {
                    six.processes[one].signal("-STOP");
                    tokio::time::sleep(LEASE * 3 / 2).await;
                    six.processes[one].signal("-CONT");
                    continue;
                }
            }
            // One that is started meanwhile fails to, and is started again.
            six.kill(one);
            tokio::time::sleep(away).await;
            match outage {
                Outage::PostgresCrashes => postgres.start_again().await,
                _ => broker.start_again().await,
            }
        }
    }
    let Six { kills, restarts, failed_starts, .. } = &six;
    println!(
        "{count} checkouts in {:?}; {kills} kills, {restarts} restarts, {failed_starts} failed \
         starts",
        began.elapsed()
    );
    assert!(outages.next().is_none(), "it ended before everything had been away");

    let audit = shop::audit(&apps, &Ledger::open(program.ledger()).unwrap()).await;
    assert_eq!(audit.completed + audit.compensated, count as u64, "{audit}");
    println!("{audit}");
    let brokers = broker.brokers();
    let reading = topics::assert_everything_is_read(&brokers, &prefix, &apps);
    let reading = AssertUnwindSafe(reading).catch_unwind().await;
    let read = reading.unwrap_or_else(|_| panic!("{}", six.said()));
    println!("{read} partitions of topics of commands are read to their ends");
    let bus = RedpandaEventBus::builder(&broker.brokers()).topic_prefix(&prefix).connect().await;
    let bus = SharedEventBus::new(bus.unwrap());
    let repeated = topics::assert_complete(&bus, topics::last_versions(&apps).await).await;
    let (messages, redelivered) = topics::redeliveries(&bus).await;
    println!(
        "on the topics: every event, {repeated} repeated; of {messages} commands and replies \
         {redelivered} came twice and were absorbed"
    );
    six.processes.iter_mut().for_each(Process::stop);
}
