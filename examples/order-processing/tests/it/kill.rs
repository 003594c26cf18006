//! Killing the importing process.

use std::time::Duration;

use composable_rust::testing::TestDatabase;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;

use crate::support::{Program, PurchaseFile, assert_no_gaps, events, heads, seed};

/// How often the process is killed.
const KILLS: u32 = 20;

/// Kills an import with SIGKILL at random moments and starts it again each time; nothing is lost,
/// nothing is there twice.
async fn import_survives_kills(program: &Program) {
    let mut rng = StdRng::seed_from_u64(seed());
    let file = PurchaseFile::generated(rng.random(), 6_000);
    let totals = file.totals();
    program.file("cdnow.txt", file.text());
    let app = program.app().await;
    let mut moments = Vec::new();
    while moments.len() < KILLS as usize {
        // Few at a time, so that there are many commits to be killed in.
        let in_flight = format!("--in-flight={}", rng.random_range(4..64));
        let mut import = program.start(&["import", "cdnow.txt", &in_flight]);
        let before = heads(&app).await;
        let wanted = before + rng.random_range(0..120);
        while heads(&app).await < wanted {
            let ended = import.try_wait().unwrap();
            assert_eq!(ended, None, "it ended before it was killed {KILLS} times: {moments:?}");
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        tokio::time::sleep(Duration::from_micros(rng.random_range(0..3_000))).await;
        import.kill().unwrap();
        let status = import.wait().unwrap();
        assert!(status.code().is_none(), "it was not killed but ended: {status}");
        moments.push(heads(&app).await);
    }
    println!("killed when so many orders were placed: {moments:?}");
    let printed = program.run(&["import", "cdnow.txt"]).ok();
    let (placed, there) = placed_and_there(&printed);
    assert_eq!(placed + there, totals.orders as u64, "{printed}");
    assert!(placed > 0, "the last import had nothing to do");
    // More may be there than were counted: what a server was doing for a client that is killed, it
    // does to the end.
    assert!(there >= moments[moments.len() - 1], "orders are lost: {printed}");
    let report: Value = serde_json::from_str(&program.run(&["report", "--json"]).ok()).unwrap();
    assert_eq!(report, totals.json);
    let events = events(program.store()).await;
    assert_no_gaps(&events);
    // One event an order: every stream ends at version 1.
    assert_eq!(events.len(), totals.orders);
    assert!(events.iter().all(|event| event.version.get() == 1));
}

/// The two numbers of `placed 4458, 1544 were there`.
fn placed_and_there(printed: &str) -> (u64, u64) {
    let numbers: Vec<u64> =
        printed.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect();
    let [placed, there] = numbers[..] else { panic!("not what an import prints: {printed}") };
    (placed, there)
}

#[tokio::test]
async fn on_sqlite() {
    import_survives_kills(&Program::on_sqlite()).await;
}

#[tokio::test]
async fn on_postgres() {
    let database = TestDatabase::create().await;
    import_survives_kills(&Program::on(&database.url())).await;
}
