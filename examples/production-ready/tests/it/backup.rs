//! Backups that are made and restored while the shop is under load, with the commands of the book.
//!
//! Each drill ends with a verification and an audit: what the log went back over is reported, and
//! nothing is done twice that the provider of the payments has not recognised as a repetition.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use serde_json::Value;

use crate::server::{Programs, Server};
use crate::support::{ShopProcess, place_order, until};

const BOOK: &str = include_str!("../../../../docs/src/backup.md");
/// The number of clients that place orders, one after the other each.
const CLIENTS: usize = 4;
/// The orders before and after a backup.
const SOME: usize = 150;

/// Returns the shell commands in the book below a heading.
fn commands(heading: &str) -> Vec<&'static str> {
    let (_, section) = BOOK.split_once(&format!("\n## {heading}\n")).expect(heading);
    let section = section.split("\n## ").next().unwrap();
    let blocks = section.split("```sh\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap()).collect()
}

/// An order that was acknowledged.
struct Acknowledged {
    id: String,
    sent: Instant,
    answered: Instant,
}

/// Clients that place orders until they are stopped.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Acknowledged>>>,
    placed: Arc<AtomicUsize>,
}

impl Load {
    fn start(addr: SocketAddr) -> Self {
        let (stop, placed) = (Arc::new(AtomicBool::new(false)), Arc::<AtomicUsize>::default());
        let client = |client: usize| {
            let (stop, placed) = (Arc::clone(&stop), Arc::clone(&placed));
            thread::spawn(move || {
                let mut acknowledged = Vec::new();
                for n in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let (id, sent) = (format!("{client}-{n}"), Instant::now());
                    let answer = place_order(addr, &id).unwrap_or_default();
                    if answer.contains("\"version\":1") {
                        acknowledged.push(Acknowledged { id, sent, answered: Instant::now() });
                        placed.fetch_add(1, Ordering::SeqCst);
                    }
                }
                acknowledged
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { stop, clients, placed }
    }

    /// Waits until so many orders more are acknowledged.
    fn wait_for(&self, more: usize) {
        let before = self.placed.load(Ordering::SeqCst);
        until("orders are placed", || self.placed.load(Ordering::SeqCst) >= before + more);
    }

    fn stop(self) -> Vec<Acknowledged> {
        self.stop.store(true, Ordering::SeqCst);
        self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    }
}

/// The state of the orders that were acknowledged.
#[derive(Debug, Default)]
struct Audit {
    /// The ids of the orders that the log went back over.
    lost: BTreeSet<String>,
    /// The ids of those for which the provider has taken money.
    lost_and_charged: BTreeSet<String>,
    /// The number of orders that are fulfilled.
    fulfilled: usize,
    /// The number of charges that the provider was asked for again, and recognised by their keys.
    repeated: usize,
    /// The payments that were charged under several keys: the provider took the money twice.
    charged_twice: Vec<String>,
}

impl Audit {
    /// Compares what clients and the provider know with the log.
    fn of(shop: &ShopProcess, acknowledged: &[Acknowledged], ledger: &Path) -> Self {
        let mut audit = Self::default();
        let mut keys: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
        for line in std::fs::read_to_string(ledger).unwrap().lines() {
            let [request, key, payment] = *line.split(' ').collect::<Vec<_>>() else {
                panic!("{line}");
            };
            if request == "charge" {
                let of_payment = keys.entry(payment.to_owned()).or_default();
                *of_payment.entry(key.to_owned()).or_default() += 1;
            }
        }
        for Acknowledged { id, .. } in acknowledged {
            match shop.get(&format!("/orders/{id}"))["status"].as_str() {
                Some("fulfilled") => audit.fulfilled += 1,
                Some("new") | None => _ = audit.lost.insert(id.clone()),
                Some(other) => panic!("order {id} is {other}"),
            }
        }
        let charged = |id: &&String| keys.contains_key(*id);
        audit.lost_and_charged = audit.lost.iter().filter(charged).cloned().collect();
        audit.repeated = keys.values().flat_map(BTreeMap::values).map(|times| times - 1).sum();
        let twice = keys.iter().filter(|(_, keys)| keys.len() > 1);
        audit.charged_twice = twice.map(|(payment, _)| payment.clone()).collect();
        audit
    }

    fn print(&self, what: &str, acknowledged: usize) {
        println!(
            "audit after {what}: {acknowledged} orders were acknowledged; {} are fulfilled; the log \
             went back over {}, of which the provider has charged {}; {} charges were repeated \
             under their keys, {} under others",
            self.fulfilled,
            self.lost.len(),
            self.lost_and_charged.len(),
            self.repeated,
            self.charged_twice.len(),
        );
    }

    /// Checks that the log has all orders that were acknowledged before a moment, and none that was
    /// sent after another one.
    fn check(&self, acknowledged: &[Acknowledged], kept: Instant, lost: Instant) {
        for of in acknowledged {
            assert!(of.answered > kept || !self.lost.contains(&of.id), "{} is lost", of.id);
            assert!(of.sent < lost || self.lost.contains(&of.id), "{} is there", of.id);
        }
        assert!(!self.lost.is_empty(), "the log went back");
        assert_eq!(self.charged_twice, [""; 0], "nothing is repeated silently");
    }
}

/// Runs commands of the book, with these variables.
fn run(mut shell: Command, variables: &[(&str, &str)]) -> String {
    let output = shell.envs(variables.iter().copied()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    println!("{text}");
    assert!(output.status.success(), "{text}");
    text.into_owned()
}

/// Returns a script in which `composable` is the program of the shop.
fn script(commands: &str) -> String {
    let program = env!("CARGO_BIN_EXE_production-ready");
    format!("composable() {{ SHOP_STORE=\"$COMPOSABLE_STORE\" '{program}' \"$@\"; }}\n{commands}")
}

/// Verifies a restored log, has the shop finish all orders of it, and audits them.
fn finish(
    what: &str,
    store: &str,
    acknowledged: &[Acknowledged],
    ledger: &Path,
) -> (ShopProcess, Audit) {
    let mut shop = shop(store, ledger);
    let verified = shop.operate(&["verify"]);
    assert!(verified.contains("no problems"), "{verified}");
    shop.start(&[]);
    let are_over = |steps: &Value| steps["entries"].as_array().is_some_and(Vec::is_empty);
    until("all sagas end", || are_over(&shop.json(&["sagas", "fulfilment"])));
    let audit = Audit::of(&shop, acknowledged, ledger);
    audit.print(what, acknowledged.len());
    let projections = shop.json(&["projections", "list"]);
    assert_eq!(projections[0]["state"], "running", "{projections}");
    (shop, audit)
}

fn shop(store: &str, ledger: &Path) -> ShopProcess {
    ShopProcess::new(&[
        ("SHOP_STORE", store),
        ("SHOP_PROVIDER_LEDGER", &ledger.display().to_string()),
        // Some charges are under way at any time.
        ("SHOP_PROVIDER_MILLIS", "30"),
    ])
}

#[test]
fn a_dump_made_under_load_is_restored() {
    let Some(programs) = Programs::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    programs.create_folder(folder.path());
    let server = Server::create(&programs, &folder.path().join("data"), &[]);
    for database in ["shop", "shop_restored"] {
        server.query(&format!("create database {database}"), &programs).unwrap();
    }
    let (store, restored) = (server.url("shop"), server.url("shop_restored"));
    let ledger = folder.path().join("ledger");
    let mut shop = shop(&store, &ledger);
    shop.start(&[]);
    let load = Load::start(shop.addr);
    load.wait_for(SOME);
    let file = folder.path().join("shop.dump").display().to_string();
    let variables =
        [("COMPOSABLE_STORE", &*store), ("RESTORED_STORE", &restored), ("BACKUP", &file)];
    let [dump, restore] = *commands("Dumps of PostgreSQL") else {
        panic!("two blocks of commands")
    };
    let began = Instant::now();
    run(programs.shell(&script(dump)), &variables);
    let ended = Instant::now();
    load.wait_for(SOME);
    shop.kill();
    let acknowledged = load.stop();

    // No process works on the copy by mistake.
    run(programs.shell(&script(restore)), &variables);
    let (_shop, audit) = finish("a dump", &restored, &acknowledged, &ledger);
    audit.check(&acknowledged, began, ended);
}

#[test]
fn a_server_is_restored_to_a_moment_under_load() {
    let Some(programs) = Programs::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for created in [folder.path(), &path("backup"), &path("backup/wal")] {
        programs.create_folder(created);
    }
    let backup = path("backup").display().to_string();
    let archiving = commands("Physical backups with point-in-time recovery");
    let [base, restore, verify] = *archiving else { panic!("three blocks of commands") };
    let settings = [
        "archive_mode=on".to_owned(),
        format!("archive_command=test ! -f {backup}/wal/%f && cp %p {backup}/wal/%f"),
    ];
    let server = Server::create(&programs, &path("data"), &settings);
    server.query("create database shop", &programs).unwrap();
    let (store, ledger) = (server.url("shop"), path("ledger"));
    let mut shop = shop(&store, &ledger);
    shop.start(&[]);
    let load = Load::start(shop.addr);
    load.wait_for(SOME);
    run(programs.shell(&script(base)), &[("COMPOSABLE_STORE", &store), ("BACKUP", &backup)]);
    load.wait_for(SOME);
    let before = Instant::now();
    let moment = server.query("select now()", &programs).unwrap();
    let after = Instant::now();
    load.wait_for(SOME);
    let segment = server.query("select pg_walfile_name(pg_switch_wal())", &programs).unwrap();
    let archived = path("backup/wal").join(segment);
    until("the log is archived", || archived.is_file());
    shop.kill();
    let acknowledged = load.stop();
    drop(server);

    let data = path("restored").display().to_string();
    let variables = [("BACKUP", &*backup), ("PGDATA", &data), ("MOMENT", &moment)];
    run(programs.shell(&script(restore)), &variables);
    let server = Server::start(&programs, &path("restored"), &[]);
    until("the recovery ends", || {
        server.query("select pg_is_in_recovery()", &programs).as_deref() == Some("f")
    });
    let store = server.url("shop");
    run(programs.shell(&script(verify)), &[("COMPOSABLE_STORE", &store)]);
    let (_shop, audit) = finish("a recovery to a moment", &store, &acknowledged, &ledger);
    audit.check(&acknowledged, before, after);
}

#[test]
fn a_file_copied_under_load_is_restored() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (original, restored) = (path("shop.db"), path("restored.db"));
    let url = |path: &Path| format!("sqlite:{}", path.display());
    let ledger = path("ledger");
    let mut shop = shop(&url(&original), &ledger);
    shop.start(&[]);
    let load = Load::start(shop.addr);
    load.wait_for(SOME);
    let [back_up, restore] = *commands("SQLite") else { panic!("two blocks of commands") };
    let file = path("backup.db").display().to_string();
    let (store, restored_store) = (url(&original), url(&restored));
    let variables = [
        ("COMPOSABLE_STORE", &*store),
        ("RESTORED_STORE", &*restored_store),
        ("BACKUP", &*file),
        ("RESTORED", restored.to_str().unwrap()),
    ];
    let shell = |commands: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-euc", &script(commands)]);
        shell
    };
    let began = Instant::now();
    run(shell(back_up), &variables);
    let ended = Instant::now();
    load.wait_for(SOME);
    shop.kill();
    let acknowledged = load.stop();

    run(shell(restore), &variables);
    let (_shop, audit) = finish("a copied file", &restored_store, &acknowledged, &ledger);
    audit.check(&acknowledged, began, ended);
}
