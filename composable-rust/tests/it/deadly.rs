//! A message that kills the process that handles it: a supervisor restarts the process, the message
//! runs out of attempts, and the other messages are handled meanwhile.

use std::time::Duration;

use composable_rust::postgres::PostgresEventStore;
use composable_rust::prelude::*;
use composable_rust::queue::DeadLetter;
use composable_rust::settings::Settings;
use composable_rust::sqlite::SqliteEventStore;
use composable_rust::{CallError, CallOutcome, Gateway};
use composable_rust_testing::{TestDatabase, eventually};
use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};

use crate::process::{Process, parent_variable};

/// The number of jobs.
const JOBS: u32 = 150;
/// The job that kills the process.
const DEADLY: u32 = 40;
/// The supervisor's limit of starts.
const STARTS: usize = 10;
/// The number of other jobs that may be in flight at the last death.
const UNDER_WAY: usize = 16;
const PATIENCE: Duration = Duration::from_secs(60);

/// The way by which a job reaches the code that kills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Way {
    Command,
    Timer,
    Call,
    Policy,
}

/// The way in which that code kills the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Death {
    Abort,
    StackOverflow,
}

#[allow(unconditional_recursion, reason = "it is to overflow the stack")]
fn overflow(depth: u64) -> u64 {
    std::hint::black_box(overflow(std::hint::black_box(depth + 1))) + 1
}

fn work(of: Option<Death>) {
    match of {
        None => {}
        Some(Death::Abort) => std::process::abort(),
        Some(Death::StackOverflow) => {
            std::hint::black_box(overflow(0));
        }
    }
}

/// An aggregate that hands out all jobs with one message.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Foreman;

#[derive(Debug, Clone, PartialEq, Message)]
enum ForemanCommand {
    Begin { way: Way, death: Death },
}

#[derive(Debug, Clone, PartialEq, Message)]
enum ForemanEvent {
    Began { way: Way, death: Death },
}

impl Aggregate for Foreman {
    const NAME: &'static str = "foreman";
    type Command = ForemanCommand;
    type Event = ForemanEvent;
    type Rejection = std::convert::Infallible;
    type Environment = ();

    fn decide(&self, command: ForemanCommand, _: &Context<Self>) -> Decision<Self> {
        let ForemanCommand::Begin { way, death } = command;
        record(ForemanEvent::Began { way, death })
    }

    fn apply(&mut self, _: ForemanEvent) {}

    fn react(&self, event: &ForemanEvent, _: &Context<Self>) -> Reactions<ForemanCommand> {
        let ForemanEvent::Began { way, death } = *event;
        (0..JOBS).fold(effects![], |all, n| {
            let kills = (n == DEADLY).then_some(death);
            let command = match way {
                Way::Command => JobCommand::Work { kills },
                _ => JobCommand::Take { way, kills },
            };
            all.merge(effects![tell(&Job::id(n.to_string()), command)])
        })
    }
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Job {
    done: bool,
    given_up: bool,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum JobCommand {
    Take {
        way: Way,
        kills: Option<Death>,
    },
    Work {
        kills: Option<Death>,
    },
    #[message(internal)]
    Expire {
        kills: Option<Death>,
    },
    Called(CallOutcome<Tool>),
}

#[derive(Debug, Clone, PartialEq, Message)]
enum JobEvent {
    Taken { way: Way, kills: Option<Death> },
    Done,
    GivenUp,
}

impl Aggregate for Job {
    const NAME: &'static str = "job";
    type Command = JobCommand;
    type Event = JobEvent;
    type Rejection = std::convert::Infallible;
    type Environment = ();

    fn decide(&self, command: JobCommand, _: &Context<Self>) -> Decision<Self> {
        match command {
            JobCommand::Take { way, kills } => record(JobEvent::Taken { way, kills }),
            JobCommand::Work { kills } | JobCommand::Expire { kills } => {
                work(kills);
                record(JobEvent::Done)
            }
            JobCommand::Called(CallOutcome::Exhausted) => record(JobEvent::GivenUp),
            JobCommand::Called(_) => record(JobEvent::Done),
        }
    }

    fn apply(&mut self, event: JobEvent) {
        match event {
            JobEvent::Taken { .. } => {}
            JobEvent::Done => self.done = true,
            JobEvent::GivenUp => self.given_up = true,
        }
    }

    fn react(&self, event: &JobEvent, _: &Context<Self>) -> Reactions<JobCommand> {
        match *event {
            JobEvent::Taken { way: Way::Timer, kills } => {
                effects![after(Duration::ZERO, JobCommand::Expire { kills })]
            }
            JobEvent::Taken { way: Way::Call, kills } => {
                effects![call::<Tool>(ToolRequest::Use { kills })]
            }
            _ => effects![],
        }
    }
}

struct Tool;

#[derive(Debug, Clone, PartialEq, Message)]
enum ToolRequest {
    Use { kills: Option<Death> },
}

#[derive(Debug, Clone, PartialEq, Message)]
enum ToolResponse {
    Used,
}

impl Gateway for Tool {
    const NAME: &'static str = "tool";
    type Request = ToolRequest;
    type Response = ToolResponse;
    type Failure = std::convert::Infallible;

    async fn call(
        &self,
        request: ToolRequest,
        _: &str,
    ) -> Result<ToolResponse, CallError<std::convert::Infallible>> {
        let ToolRequest::Use { kills } = request;
        work(kills);
        Ok(ToolResponse::Used)
    }
}

fn settings(settings: &mut Settings) {
    settings.lease_ttl = Duration::from_secs(1);
    settings.retry.initial_backoff = Duration::from_millis(100);
}

async fn app(url: &str) -> App {
    let builder = match url.strip_prefix("file:") {
        Some(path) => App::builder(SqliteEventStore::open(path).await.unwrap()),
        None => App::builder(PostgresEventStore::connect(url).await.unwrap()),
    };
    builder
        .aggregate::<Foreman>(())
        .aggregate::<Job>(())
        .gateway_with(Tool, |tool| {
            tool.timeout = Duration::from_millis(500);
            tool.retry.initial_backoff = Duration::from_millis(100);
        })
        .on_with::<Job, Job, _>(
            "worker",
            |policy| policy.from_start = true,
            |recorded| match recorded.event {
                JobEvent::Taken { way: Way::Policy, kills } => {
                    work(kills);
                    Some((Job::id(recorded.stream.id()), JobCommand::Work { kills: None }))
                }
                _ => None,
            },
        )
        .settings(settings)
        .build()
        .unwrap()
}

/// The environment variable of a process for the URL of its store.
const STORE: &str = "DEADLY_STORE";
/// The environment variable of a process for its [`Way`] and [`Death`].
const WAY: &str = "DEADLY_WAY";
const ENDED: &str = "all is done";

/// The supervised process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "child process of the tests in deadly.rs"]
async fn one_process() {
    let [url, way] = [STORE, WAY].map(parent_variable);
    let (way, death) = serde_json::from_str(&way).unwrap();
    let app = app(&url).await;
    app.start();
    let foreman = app.handle(&Foreman::id("1"));
    foreman.send(ForemanCommand::Begin { way, death }).key("begin").await.unwrap();
    eventually("the end of all work", 2 * PATIENCE, async || is_over(&app).await).await;
    println!("{ENDED}");
    assert!(app.shutdown(PATIENCE).await);
}

async fn jobs(app: &App) -> Vec<Job> {
    let mut jobs = Vec::new();
    for n in 0..JOBS {
        jobs.push(app.handle(&Job::id(n.to_string())).state(Job::clone).await.unwrap());
    }
    jobs
}

async fn letters(app: &App) -> Vec<DeadLetter> {
    app.dead_letters().all().try_collect().await.unwrap()
}

async fn is_over(app: &App) -> bool {
    let jobs = jobs(app).await;
    let done = jobs.iter().filter(|job| job.done).count();
    done + 1 == jobs.len()
        && (jobs.iter().any(|job| job.given_up) || !letters(app).await.is_empty())
}

/// Restarts the process until it succeeds. Counts the finished jobs after each death.
async fn supervise(url: &str, way: Way, death: Death) {
    let task = serde_json::to_string(&(way, death)).unwrap();
    let (mut start, mut done) = (1, Vec::new());
    loop {
        let mut process = Process::start("deadly::one_process", &[(STORE, url), (WAY, &task)]);
        if process.ends().await {
            break;
        }
        let jobs = jobs(&app(url).await).await;
        done.push(jobs.iter().filter(|job| job.done).count());
        start += 1;
        assert!(start <= STARTS, "{way:?}, {death:?}: it still dies; done at each death: {done:?}");
    }
    println!("{way:?}, {death:?}: {start} starts; done at each death: {done:?}");
    // How many a process handles before it dies depends on the machine.
    let (first, last) = (done.first(), done.last());
    let most = usize::try_from(JOBS - 1).unwrap() - UNDER_WAY;
    let handled = first < last || last.is_some_and(|done| *done >= most);
    assert!(handled, "others are handled meanwhile: {done:?}");

    let app = app(url).await;
    let jobs = jobs(&app).await;
    let undone: Vec<_> =
        (0..JOBS).zip(&jobs).filter(|(_, job)| !job.done).map(|(n, _)| n).collect();
    assert_eq!(undone, [DEADLY]);
    let letters = letters(&app).await;
    if way == Way::Call {
        assert!(letters.is_empty() && jobs[usize::try_from(DEADLY).unwrap()].given_up);
        return;
    }
    let letter = letters.first().unwrap();
    let error = letter.error.as_deref().unwrap_or_default();
    assert_eq!((letters.len(), letter.attempts), (1, 5), "{letters:?}");
    assert!(error.contains("the process crashed during each of"), "{error}");
}

async fn on_sqlite(way: Way, death: Death) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    supervise(&format!("file:{}", path.display()), way, death).await;
}

async fn on_postgres(way: Way, death: Death) {
    supervise(&TestDatabase::create().await.url(), way, death).await;
}

#[tokio::test]
async fn a_command_that_aborts_is_parked_on_sqlite() {
    on_sqlite(Way::Command, Death::Abort).await;
}

#[tokio::test]
async fn a_command_that_overflows_the_stack_is_parked_on_postgres() {
    on_postgres(Way::Command, Death::StackOverflow).await;
}

#[tokio::test]
async fn a_timer_that_overflows_the_stack_is_parked_on_sqlite() {
    on_sqlite(Way::Timer, Death::StackOverflow).await;
}

#[tokio::test]
async fn a_timer_that_aborts_is_parked_on_postgres() {
    on_postgres(Way::Timer, Death::Abort).await;
}

#[tokio::test]
async fn a_call_that_aborts_is_answered_on_sqlite() {
    on_sqlite(Way::Call, Death::Abort).await;
}

#[tokio::test]
async fn a_policy_that_aborts_has_its_event_parked_on_sqlite() {
    on_sqlite(Way::Policy, Death::Abort).await;
}
