//! A rolling deploy: processes of old and of new code on one store, under load. The new code writes
//! a new version of an event, and an event and a command that the old code does not know.
//!
//! `ROLLING_SECONDS` is the time for which old and new code run together. Default: 8 seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use composable_rust::postgres::{PgConnection, PostgresEventStore, PostgresReadModel};
use composable_rust::prelude::*;
use composable_rust::projection::ProjectionState;
use composable_rust::{LoadError, Projection, ProjectionError, Recorded, shutdown_signal};
use composable_rust_testing::{TestDatabase, eventually};
use futures_util::TryStreamExt as _;

use crate::process::{Process, parent_variable};

/// The code of both versions: accounts, tellers that pay into them, a policy and a projection.
macro_rules! version {
    (
        $module:ident, deposited($($field:ident: $ty:ty = $value:expr),*), $attributes:meta,
        events { $($event:tt)* } commands { $($command:tt)* }
        decide($account:ident, $given:ident) { $($decide:tt)* }
        apply($state:ident, $happened:ident) { $($apply:tt)* }
        cents($recorded:ident) { $($cents:tt)* }
        teller($ctx:ident) { $($teller:tt)* }
    ) => {
        pub(super) mod $module {
            use composable_rust::prelude::*;
            use serde::{Deserialize, Serialize};

            #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
            pub(crate) struct Account {
                pub(crate) cents: i64,
            }

            #[derive(Debug, Clone, PartialEq, Message)]
            pub(crate) enum AccountCommand {
                Deposit { cents: i64 },
                $($command)*
            }

            #[derive(Debug, Clone, PartialEq, Message)]
            pub(crate) enum AccountEvent {
                #[$attributes]
                Deposited { cents: i64 $(, $field: $ty)* },
                $($event)*
            }

            #[derive(Debug, Clone, PartialEq, Deserialize)]
            #[allow(dead_code, reason = "only the new code reads the old shape")]
            pub(crate) struct DepositedV1 {
                cents: i64,
            }

            impl From<DepositedV1> for AccountEvent {
                fn from(old: DepositedV1) -> Self {
                    Self::Deposited { cents: old.cents $(, $field: $value)* }
                }
            }

            impl Aggregate for Account {
                const NAME: &'static str = "account";
                type Command = AccountCommand;
                type Event = AccountEvent;
                type Rejection = std::convert::Infallible;
                type Environment = ();

                fn decide(&self, command: AccountCommand, _: &Context<Self>) -> Decision<Self> {
                    let $given = command;
                    let $account = self;
                    let _ = $account;
                    $($decide)*
                }

                fn apply(&mut self, event: AccountEvent) {
                    let $happened = event;
                    let $state = self;
                    $($apply)*
                }
            }

            pub(crate) fn cents($recorded: &AccountEvent) -> i64 {
                $($cents)*
            }

            /// A payer into accounts that counts its payments and their replies.
            #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
            pub(crate) struct Teller {
                pub(crate) asked: u64,
                pub(crate) answered: u64,
            }

            #[derive(Debug, Clone, PartialEq, Message)]
            pub(crate) enum TellerCommand {
                Pay { account: u32, cents: i64 },
                Paid(Reply<Account>),
            }

            #[derive(Debug, Clone, PartialEq, Message)]
            pub(crate) enum TellerEvent {
                Asked { account: u32, cents: i64 },
                Answered,
            }

            impl Aggregate for Teller {
                const NAME: &'static str = "teller";
                type Command = TellerCommand;
                type Event = TellerEvent;
                type Rejection = std::convert::Infallible;
                type Environment = ();

                fn decide(&self, command: TellerCommand, _: &Context<Self>) -> Decision<Self> {
                    match command {
                        TellerCommand::Pay { account, cents } => {
                            record(TellerEvent::Asked { account, cents })
                        }
                        TellerCommand::Paid(_) => record(TellerEvent::Answered),
                    }
                }

                fn apply(&mut self, event: TellerEvent) {
                    match event {
                        TellerEvent::Asked { .. } => self.asked += 1,
                        TellerEvent::Answered => self.answered += 1,
                    }
                }

                fn react(
                    &self,
                    event: &TellerEvent,
                    $ctx: &Context<Self>,
                ) -> Reactions<TellerCommand> {
                    let TellerEvent::Asked { account, cents } = event else { return effects![] };
                    let account = Account::id(account.to_string());
                    let cents = *cents;
                    let _ = $ctx;
                    let command = { $($teller)* };
                    effects![dispatch(&account, command(cents))]
                }
            }
        }
    };
}

version! {
    old, deposited(), message(version = 1),
    events {} commands {}
    decide(_account, command) {
        let AccountCommand::Deposit { cents } = command;
        record(AccountEvent::Deposited { cents })
    }
    apply(state, event) {
        let AccountEvent::Deposited { cents } = event;
        state.cents += cents;
    }
    cents(event) {
        let AccountEvent::Deposited { cents } = event;
        *cents
    }
    teller(_ctx) { |cents| AccountCommand::Deposit { cents } }
}

version! {
    new, deposited(note: String = "written before there were notes".to_owned()),
    message(version = 2, from(1 = DepositedV1)),
    events { Corrected { cents: i64 } } commands { Correct { cents: i64 } }
    decide(_account, command) {
        match command {
            AccountCommand::Deposit { cents } => {
                record(AccountEvent::Deposited { cents, note: "new".to_owned() })
            }
            AccountCommand::Correct { cents } => record(AccountEvent::Corrected { cents }),
        }
    }
    apply(state, event) {
        match event {
            AccountEvent::Deposited { cents, .. } | AccountEvent::Corrected { cents } => {
                state.cents += cents;
            }
        }
    }
    cents(event) {
        match event {
            AccountEvent::Deposited { cents, .. } | AccountEvent::Corrected { cents } => *cents,
        }
    }
    teller(_ctx) {
        |cents| match cents % 2 {
            0 => AccountCommand::Deposit { cents },
            _ => AccountCommand::Correct { cents },
        }
    }
}

/// A projection of the sum and the number of payments of each account.
struct Balances<A: Aggregate>(fn(&A::Event) -> i64);

impl<A: Aggregate> Projection for Balances<A> {
    const NAME: &'static str = "balances";
    type Events = A;
    type Connection = PgConnection;

    async fn project(
        &self,
        recorded: &Recorded<A::Event>,
        connection: &mut PgConnection,
    ) -> Result<(), ProjectionError> {
        sqlx::query(
            "insert into balances values ($1, $2, 1) on conflict (account) do update \
             set cents = balances.cents + excluded.cents, events = balances.events + 1",
        )
        .bind(recorded.stream.as_str())
        .bind((self.0)(&recorded.event))
        .execute(connection)
        .await?;
        Ok(())
    }

    async fn clear(&self, connection: &mut PgConnection) -> Result<(), ProjectionError> {
        sqlx::query("delete from balances").execute(connection).await?;
        Ok(())
    }
}

const ACCOUNTS: u32 = 20;
const TELLERS: u32 = 40;
const LEASE: Duration = Duration::from_secs(2);
/// The deadline of a send, and of a shutdown.
const DEADLINE: Duration = Duration::from_secs(60);

macro_rules! start {
    ($version:ident, $url:expr, $log:ident) => {{
        let store = PostgresEventStore::connect($url).await.unwrap();
        let model = PostgresReadModel::connect($url).await.unwrap();
        let app = App::builder(store)
            .aggregate::<$version::Account>(())
            .aggregate::<$version::Teller>(())
            .aggregate::<$log::Log>(())
            .on_with::<$version::Account, $log::Log, _>(
                "log-what-was-paid",
                |policy| policy.from_start = true,
                |recorded| [($log::Log::id(recorded.stream.id()), $log::LogCommand::Note)],
            )
            .projection(Balances::<$version::Account>($version::cents), model)
            .settings(|settings| {
                settings.lease_ttl = LEASE;
                settings.default_deadline = DEADLINE;
            })
            .build()
            .unwrap();
        app.start();
        app
    }};
}

/// The aggregate that the policy writes to: the same in both versions.
mod log {
    use composable_rust::prelude::*;
    use serde::{Deserialize, Serialize};

    #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
    pub(crate) struct Log {
        pub(crate) notes: u64,
    }

    #[derive(Debug, Clone, PartialEq, Message)]
    pub(crate) enum LogCommand {
        Note,
    }

    #[derive(Debug, Clone, PartialEq, Message)]
    pub(crate) enum LogEvent {
        Noted,
    }

    impl Aggregate for Log {
        const NAME: &'static str = "log";
        type Command = LogCommand;
        type Event = LogEvent;
        type Rejection = std::convert::Infallible;
        type Environment = ();

        fn decide(&self, _: LogCommand, _: &Context<Self>) -> Decision<Self> {
            record(LogEvent::Noted)
        }

        fn apply(&mut self, _: LogEvent) {
            self.notes += 1;
        }
    }
}

/// The environment variable of a process for its code, `old` or `new`.
const CODE: &str = "ROLLING_CODE";
/// The environment variable of a process for the URL of its store.
const STORE: &str = "ROLLING_STORE";

/// The number of concurrent callers in a process.
const CALLERS: u32 = 4;

/// Runs an app of one version under load until the process receives the shutdown signal. Prints the
/// number of payments sent, and the number of times an account could not be read.
macro_rules! work {
    ($version:ident, $url:expr) => {{
        let app = start!($version, $url, log);
        let over = Arc::new(AtomicBool::new(false));
        let mut callers = tokio::task::JoinSet::new();
        for caller in 0..CALLERS {
            let (app, over) = (app.clone(), Arc::clone(&over));
            callers.spawn(async move {
                let (mut n, mut asked, mut unreadable) = (caller, 0_u64, 0_u64);
                while !over.load(Ordering::Relaxed) {
                    n += CALLERS;
                    let (account, cents) = (n % ACCOUNTS, i64::from(n % 99 + 1));
                    let teller = $version::Teller::id((n % TELLERS).to_string());
                    let pay = $version::TellerCommand::Pay { account, cents };
                    app.handle(&teller).send(pay).await.unwrap();
                    asked += 1;
                    // Old code returns `NewerSchema` for an account that only newer code can read.
                    let id = $version::Account::id(account.to_string());
                    match app.handle(&id).state(|account| account.cents).await {
                        Ok(_) => {}
                        Err(LoadError::NewerSchema { .. }) => unreadable += 1,
                        Err(error) => panic!("{error}"),
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                (asked, unreadable)
            });
        }
        println!("{WORKING}");
        shutdown_signal().await;
        over.store(true, Ordering::Relaxed);
        let counts = callers.join_all().await;
        let asked: u64 = counts.iter().map(|(asked, _)| asked).sum();
        let unreadable: u64 = counts.iter().map(|(_, unreadable)| unreadable).sum();
        assert!(app.shutdown(DEADLINE).await);
        println!("{ASKED}{asked}");
        println!("{UNREADABLE}{unreadable}");
    }};
}

/// The line that a process prints once it works.
const WORKING: &str = "it works";
/// The start of the line with the number of payments that a process sent.
const ASKED: &str = "asked: ";
/// The start of the line with the number of times a process could not read an account.
const UNREADABLE: &str = "could not read: ";

/// A process of the deploy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "child process of the tests in rolling.rs"]
async fn one_process() {
    let [code, url] = [CODE, STORE].map(parent_variable);
    match &*code {
        "old" => work!(old, &url),
        "new" => work!(new, &url),
        _ => panic!("there is no {code} code"),
    }
}

/// The processes of a deploy on one store.
struct Deploy {
    url: String,
    asked: u64,
    asked_of_old: u64,
    unreadable: u64,
}

impl Deploy {
    async fn start(&self, code: &str) -> Process {
        let variables = [(CODE, code), (STORE, &*self.url)];
        let mut process = Process::start("rolling::one_process", &variables);
        process.says(WORKING).await;
        process
    }

    async fn stop(&mut self, code: &str, mut process: Process) {
        process.stop();
        let asked: u64 = process.says(ASKED).await.parse().unwrap();
        let unreadable: u64 = process.says(UNREADABLE).await.parse().unwrap();
        println!("{code} code was asked {asked} times and could not read {unreadable} times");
        assert!(asked > 0 && (code == "old" || unreadable == 0));
        self.asked += asked;
        self.asked_of_old += if code == "old" { asked } else { 0 };
        self.unreadable += unreadable;
    }

    /// Runs two old processes, then an old and a new process for `time`, then two new processes.
    /// The old process restarts in the middle of `time`.
    async fn roll(&mut self, time: Duration) {
        let (first, second) = (self.start("old").await, self.start("old").await);
        tokio::time::sleep(time / 4).await;
        let third = self.start("new").await;
        self.stop("old", first).await;
        tokio::time::sleep(time / 2).await;
        self.stop("old", second).await;
        let second = self.start("old").await;
        tokio::time::sleep(time / 2).await;
        let fourth = self.start("new").await;
        self.stop("old", second).await;
        tokio::time::sleep(time / 4).await;
        self.stop("new", third).await;
        self.stop("new", fourth).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_and_new_code_work_together() {
    let seconds = std::env::var("ROLLING_SECONDS").ok().and_then(|text| text.parse().ok());
    let time = Duration::from_secs(seconds.unwrap_or(8));
    let database = TestDatabase::create().await;
    let pool = sqlx::PgPool::connect(&database.url()).await.unwrap();
    let table = "create table balances (account text primary key, cents bigint, events bigint)";
    sqlx::query(table).execute(&pool).await.unwrap();

    let mut deploy = Deploy { url: database.url(), asked: 0, asked_of_old: 0, unreadable: 0 };
    deploy.roll(time).await;
    let Deploy { asked, asked_of_old, unreadable, .. } = deploy;

    // New code finishes the remaining work.
    let new = start!(new, &database.url(), log);
    assert_nothing_is_parked(&new).await;
    let answered = async || answered(&new).await;
    let all_answered = async || answered().await >= asked;
    eventually("all answers", Duration::from_secs(120), all_answered).await;
    assert_eq!(answered().await, asked, "each is answered once");

    // The policy's commands may arrive later.
    let noted = async || noted(&new).await;
    let all_noted = async || noted().await >= asked;
    eventually("all commands of the policy", Duration::from_secs(120), all_noted).await;

    let balances = new.projection::<Balances<new::Account>>();
    caught_up(&balances).await;
    let read = async || -> Vec<(String, i64, i64)> {
        let rows = sqlx::query_as("select account, cents, events from balances order by account");
        rows.fetch_all(&pool).await.unwrap()
    };
    let before = read().await;
    let mut events = 0;
    for (account, cents, count) in &before {
        let id = account.strip_prefix("account-").unwrap();
        let state = new.handle(&new::Account::id(id)).state(|account| account.cents).await.unwrap();
        assert_eq!(state, *cents, "{account}");
        events += count;
    }
    assert_eq!(u64::try_from(events).unwrap(), asked, "each payment is one event");
    assert_eq!(noted().await, asked, "and leads to one note");
    balances.rebuild().await.unwrap();
    caught_up(&balances).await;
    assert_eq!(read().await, before, "a rebuild gives the same");
    assert_nothing_is_parked(&new).await;
    let [first, second, corrections] = versions(&new).await;
    println!(
        "{asked} payments around {time:?}, {asked_of_old} asked of old code, which could not read an \
         account {unreadable} times; {first} events of the old version, {second} of the new one, \
         {corrections} by the new command"
    );
    assert!(first > 0 && second > 0 && corrections > 0 && unreadable > 0, "both were at work");
    new.shutdown(DEADLINE).await;
}

/// Counts the deposits of the old version, the deposits of the new version, and the corrections.
async fn versions(app: &App) -> [u64; 3] {
    let mut counts = [0; 3];
    let events = app.events::<new::Account>(app.log().start_positions());
    let events: Vec<_> = events.try_collect().await.unwrap();
    for recorded in events {
        counts[match recorded.event {
            new::AccountEvent::Deposited { note, .. } if note != "new" => 0,
            new::AccountEvent::Deposited { .. } => 1,
            new::AccountEvent::Corrected { .. } => 2,
        }] += 1;
    }
    counts
}

async fn assert_nothing_is_parked(app: &App) {
    let parked: Vec<_> = app.dead_letters().all().try_collect().await.unwrap();
    assert!(parked.is_empty(), "{} are parked, the first: {:?}", parked.len(), parked[0]);
}

async fn caught_up(projection: &composable_rust::operations::ProjectionHandle) {
    eventually("the end of the log in the projection", Duration::from_secs(120), async || {
        let status = projection.status().await.unwrap();
        status.state == ProjectionState::Running && status.done == status.of
    })
    .await;
}

/// Returns the number of payments that the tellers know to be made.
async fn answered(app: &App) -> u64 {
    let mut answered = 0;
    for teller in 0..TELLERS {
        let teller = app.handle(&new::Teller::id(teller.to_string()));
        answered += teller.state(|teller| teller.answered).await.unwrap();
    }
    answered
}

/// Returns the number of notes that the policy has caused.
async fn noted(app: &App) -> u64 {
    let mut notes = 0;
    for account in 0..ACCOUNTS {
        let log = app.handle(&log::Log::id(account.to_string()));
        notes += log.state(|log| log.notes).await.unwrap();
    }
    notes
}
