//! A rolling deploy: old and new code on one store, under load. The new code writes a new version of
//! an event, an event and a command that the old code does not know.
//!
//! `ROLLING_SECONDS` is for how long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use composable_rust::postgres::{PgConnection, PostgresEventStore, PostgresReadModel};
use composable_rust::prelude::*;
use composable_rust::{LoadError, Projection, ProjectionError, ProjectionState, Recorded};
use composable_rust_testing::TestDatabase;
use futures_util::TryStreamExt as _;

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

            /// Pays into an account and keeps what it has paid.
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

/// Counts what an account was paid, account by account.
struct Balances<E>(fn(&E) -> i64);

impl<E: Message> Projection for Balances<E> {
    const NAME: &'static str = "balances";
    const CATEGORIES: &'static [&'static str] = &["account"];
    type Event = E;
    type Connection = PgConnection;

    async fn project(
        &self,
        recorded: &Recorded<E>,
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

macro_rules! start {
    ($version:ident, $url:expr, $log:ident) => {{
        let store = PostgresEventStore::connect($url).await.unwrap();
        let model = PostgresReadModel::connect($url).await.unwrap();
        let app = App::builder(store)
            .aggregate::<$version::Account>(())
            .aggregate::<$version::Teller>(())
            .aggregate::<$log::Log>(())
            .on::<$version::Account, $log::Log, _>("log-what-was-paid", |recorded| {
                [($log::Log::id(recorded.stream.id()), $log::LogCommand::Note)]
            })
            .policy_from_start()
            .projection(Balances::<$version::AccountEvent>($version::cents), model)
            .settings(|settings| settings.lease = LEASE)
            .build()
            .unwrap();
        app.start();
        app
    }};
}

/// What the policy writes: the same in both.
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_and_new_code_work_together() {
    let seconds = std::env::var("ROLLING_SECONDS").ok().and_then(|text| text.parse().ok());
    let time = Duration::from_secs(seconds.unwrap_or(8));
    let database = TestDatabase::create().await;
    let pool = sqlx::PgPool::connect(&database.url()).await.unwrap();
    let table = "create table balances (account text primary key, cents bigint, events bigint)";
    sqlx::query(table).execute(&pool).await.unwrap();

    let old = start!(old, &database.url(), log);
    let new = start!(new, &database.url(), log);
    let (asked, sent_to_old, unavailable) =
        (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let began = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..8_u32 {
        let (old, new) = (old.clone(), new.clone());
        let (asked, sent, unavailable) =
            (Arc::clone(&asked), Arc::clone(&sent_to_old), Arc::clone(&unavailable));
        callers.spawn(async move {
            let mut n = caller;
            while began.elapsed() < time {
                n += 8;
                let (account, cents) = (n % ACCOUNTS, i64::from(n % 100 + 1));
                let teller = (n % TELLERS).to_string();
                if n % 2 == 0 {
                    let pay = old::TellerCommand::Pay { account, cents };
                    old.handle(&old::Teller::id(&*teller)).send(pay).await.unwrap();
                    sent.fetch_add(1, Ordering::Relaxed);
                } else {
                    let pay = new::TellerCommand::Pay { account, cents };
                    new.handle(&new::Teller::id(&*teller)).send(pay).await.unwrap();
                }
                asked.fetch_add(1, Ordering::Relaxed);
                // What only newer code can read, old code says it cannot: another process can.
                let id = old::Account::id(account.to_string());
                match old.handle(&id).state(|account| account.cents).await {
                    Ok(_) => {}
                    Err(LoadError::NewerSchema { .. }) => {
                        unavailable.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => panic!("{error}"),
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    // The old process goes; the new one finishes what there is.
    assert!(old.shutdown(Duration::from_secs(20)).await);
    drop(old);
    let asked = asked.load(Ordering::Relaxed);
    let answered = async || answered(&new).await;
    let patience = Instant::now();
    while answered().await < asked {
        assert!(patience.elapsed() < Duration::from_secs(120), "{} of {asked}", answered().await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(answered().await, asked, "each is answered once");

    // The policy's commands follow in their own time.
    let noted = async || noted(&new).await;
    while noted().await < asked {
        assert!(patience.elapsed() < Duration::from_secs(120), "{} of {asked}", noted().await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let balances = new.projection::<Balances<new::AccountEvent>>();
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
    let parked: Vec<_> = new.dead_letters().all().try_collect().await.unwrap();
    assert_eq!(parked, [], "nothing is parked");
    println!(
        "{asked} payments in {time:?}, {} asked of old code; it could not read an account {} times",
        sent_to_old.load(Ordering::Relaxed),
        unavailable.load(Ordering::Relaxed)
    );
    assert!(unavailable.load(Ordering::Relaxed) > 0, "the new code has written what is new");
    new.shutdown(Duration::from_secs(20)).await;
}

async fn caught_up(projection: &composable_rust::ProjectionHandle) {
    let began = Instant::now();
    loop {
        let status = projection.status().await.unwrap();
        if status.state == ProjectionState::Running && status.done == status.of {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(120), "{status:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// How many payments the tellers know to be made.
async fn answered(app: &App) -> u64 {
    let mut answered = 0;
    for teller in 0..TELLERS {
        let teller = app.handle(&new::Teller::id(teller.to_string()));
        answered += teller.state(|teller| teller.answered).await.unwrap();
    }
    answered
}

/// How many the policy has had noted.
async fn noted(app: &App) -> u64 {
    let mut notes = 0;
    for account in 0..ACCOUNTS {
        let log = app.handle(&log::Log::id(account.to_string()));
        notes += log.state(|log| log.notes).await.unwrap();
    }
    notes
}
