//! The shop of a test, and running checkouts in it.

use std::time::Duration;

use checkout_workflow::{
    Apps, Audit, Books, Ledger, PaymentProvider, Plan, Rates, Service, Shop, play,
};
use futures_util::TryStreamExt as _;

/// How many checkouts are under way at a time.
const IN_FLIGHT: usize = 256;
/// How long a test waits for its checkouts.
const MOST: Duration = Duration::from_secs(300);

/// A shop whose provider declines, hangs and fails, with a ledger in memory.
pub(crate) fn shop() -> Shop {
    let rates = Rates { declines: 10, hangs: 5, failures: 5, refund_refusals: 0 };
    // Longer than a step takes beside everything else that is tested.
    let patience = Duration::from_secs(90);
    Shop { patience, ..Shop::new(provider(rates)) }
}

pub(crate) fn provider(rates: Rates) -> PaymentProvider {
    PaymentProvider { ledger: Ledger::in_memory(), rates, seed: 1 }
}

/// Runs `count` checkouts in a shop to their ends, and audits.
pub(crate) async fn all_adds_up(shop: &Shop, apps: &Apps, count: u32) {
    show_logs();
    let plan = Plan { name: "test".to_owned(), checkouts: count };
    let began = std::time::Instant::now();
    apps.start();
    play::restock(apps.of(Service::Warehouse), &plan).await.unwrap();
    let mut seen = (0, 0);
    let progress = |started, finished| seen = (started, finished);
    let played = play::play(apps.of(Service::Checkout), &plan, IN_FLIGHT, true, progress);
    let played = tokio::time::timeout(MOST, played).await;
    played.unwrap_or_else(|_| panic!("started and finished in time: {seen:?}")).unwrap();
    println!("{count} checkouts in {:?}", began.elapsed());
    let audit = audit(apps, &shop.provider.ledger).await;
    assert_eq!(audit.completed + audit.compensated, u64::from(count), "{audit}");
    assert!(audit.completed > u64::from(count / 2) && audit.compensated > 0, "{audit}");
    assert!(apps.shutdown(Duration::from_secs(20)).await, "everything finishes");
}

/// The audit, which balances; and nothing is parked.
pub(crate) async fn audit(apps: &Apps, ledger: &Ledger) -> Audit {
    for app in apps.each() {
        let letters: Vec<_> = app.dead_letters().all().try_collect().await.unwrap();
        assert!(letters.is_empty(), "{letters:?}");
    }
    let audit = Audit::of(&Books::read(apps, ledger).await.unwrap());
    assert!(audit.balances(), "{audit}");
    audit
}

/// Shows what `RUST_LOG` asks for.
pub(crate) fn show_logs() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

/// The seed of a test that draws by chance: `CHECKOUT_TEST_SEED`, else a new one. It is printed,
/// which shows when the test fails.
pub(crate) fn seed() -> u64 {
    let chosen = std::env::var("CHECKOUT_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = chosen.unwrap_or_else(rand::random);
    println!("again with CHECKOUT_TEST_SEED={seed}");
    seed
}

/// A prefix of topics that nobody else has.
pub(crate) fn unique() -> String {
    format!("test-{:016x}.", rand::random::<u64>())
}
