//! Running checkouts in a shop.

use std::time::Duration;

use checkout_workflow::{
    Apps, Audit, AuditInput, Ledger, PaymentProvider, Plan, Rates, Service, Shop, simulation,
};
use futures_util::TryStreamExt as _;

/// The maximum number of checkouts in progress.
const IN_FLIGHT: usize = 256;
/// The time limit of the checkouts of a test.
const TIME_LIMIT: Duration = Duration::from_secs(300);

/// A shop whose provider declines, hangs and fails, with a ledger in memory.
pub(crate) fn shop() -> Shop {
    let rates = Rates { declines: 10, hangs: 5, failures: 5, refund_refusals: 0 };
    // Longer than a step takes while other tests run.
    let step_timeout = Duration::from_secs(90);
    Shop { step_timeout, ..Shop::new(provider(rates)) }
}

pub(crate) fn provider(rates: Rates) -> PaymentProvider {
    PaymentProvider { ledger: Ledger::in_memory(), rates, seed: 1 }
}

/// Runs `count` checkouts until they are finished, and asserts that the audit balances.
pub(crate) async fn run_and_audit(shop: &Shop, apps: &Apps, count: u32) {
    show_logs();
    let plan = Plan { name: "test".to_owned(), checkouts: count };
    let began = std::time::Instant::now();
    apps.start();
    simulation::restock(apps.app(Service::Warehouse), &plan).await.unwrap();
    let mut last_progress = (0, 0);
    let progress = |started, finished| last_progress = (started, finished);
    let run = simulation::run(apps.app(Service::Checkout), &plan, IN_FLIGHT, true, progress);
    let run = tokio::time::timeout(TIME_LIMIT, run).await;
    run.unwrap_or_else(|_| panic!("timed out with (started, finished) = {last_progress:?}"))
        .unwrap();
    println!("{count} checkouts in {:?}", began.elapsed());
    let audit = audit(apps, &shop.provider.ledger).await;
    assert_eq!(audit.completed + audit.compensated, u64::from(count), "{audit}");
    assert!(audit.completed > u64::from(count / 2) && audit.compensated > 0, "{audit}");
    assert!(apps.shutdown(Duration::from_secs(20)).await, "the shutdown completes in time");
}

/// Audits, and asserts that the audit balances and that there are no dead letters.
pub(crate) async fn audit(apps: &Apps, ledger: &Ledger) -> Audit {
    for app in apps.iter() {
        let letters: Vec<_> = app.dead_letters().all().try_collect().await.unwrap();
        assert!(letters.is_empty(), "{letters:?}");
    }
    let audit = Audit::of(&AuditInput::read(apps, ledger).await.unwrap());
    assert!(audit.balances(), "{audit}");
    audit
}

/// Prints the logs that `RUST_LOG` selects.
pub(crate) fn show_logs() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

/// Returns the seed of a randomised test: `CHECKOUT_TEST_SEED`, or a random one. Prints it, so that
/// the output of a failed test has it.
pub(crate) fn seed() -> u64 {
    let chosen = std::env::var("CHECKOUT_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = chosen.unwrap_or_else(rand::random);
    println!("repeat with CHECKOUT_TEST_SEED={seed}");
    seed
}

/// Returns a unique prefix for topics.
pub(crate) fn unique_prefix() -> String {
    format!("test-{:016x}.", rand::random::<u64>())
}
