//! Two processes that share a store, one of which is killed every few seconds.

use std::time::{Duration, Instant};

use checkout_workflow::{Ledger, Stores};
use composable_rust::testing::TestDatabase;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::program::{Process, Program};
use crate::shop::{self, seed};

const CHECKOUTS: u32 = 1_000;
/// The time within which another checkout ends, on a slow machine too.
const STANDSTILL: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_survive_kills_of_one() {
    let mut rng = StdRng::seed_from_u64(seed());
    let database = TestDatabase::create().await;
    let program = Program::new(["--store".to_owned(), database.url()]);
    let serve =
        |name: &str| program.start(name, &["serve", "--check-states", "--lease-ttl", "3000"]);
    let mut servers = ["first", "second"].map(serve);
    let count = CHECKOUTS.to_string();
    let start = ["start", "-n", &count, "--in-flight", "256", "--wait"];
    let mut starting = program.start("start", &start);
    let (began, mut kills) = (Instant::now(), 0);
    let (mut progress, mut progressed) = (String::new(), Instant::now());
    while starting.is_running() {
        let log = starting.log_tail();
        let last = log.lines().last().unwrap_or_default();
        if progress != last {
            (progress, progressed) = (last.to_owned(), Instant::now());
        }
        assert!(progressed.elapsed() < STANDSTILL, "{log}");
        tokio::time::sleep(Duration::from_millis(rng.random_range(2_000..6_000))).await;
        let killed = rng.random_range(0..2);
        servers[killed].kill();
        kills += 1;
        servers[killed] = serve(["first", "second"][killed]);
    }
    println!("{CHECKOUTS} checkouts in {:?}, {kills} kills", began.elapsed());
    assert!(kills > 1);
    let stores = Stores::Shared(database.url().parse().unwrap());
    let shop = shop::shop();
    let apps = shop.open_for_reading(&stores).await.unwrap();
    let audit = shop::audit(&apps, &Ledger::open(program.ledger()).unwrap()).await;
    assert_eq!(audit.completed + audit.compensated, u64::from(CHECKOUTS), "{audit}");
    let printed = program.run(&["audit"]);
    assert!(printed.contains("The audit balances"), "{printed}");
    servers.iter_mut().for_each(Process::stop);
}
