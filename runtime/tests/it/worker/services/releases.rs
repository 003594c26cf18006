//! Two releases of a service at once: the older one does not know the newer one's requests.

use std::time::Duration;

use composable_rust_core::prelude::*;
use composable_rust_runtime::App;
use serde::{Deserialize, Serialize};

use super::super::world::{PATIENCE, World, eventually, millis, started};
use super::{Back, BackCommand, Errand, Line, back, world_of};

/// The shop of one release: an order requests its steps, one after the other.
macro_rules! release {
    ($name:ident, $step:item, [$($next:expr),*], $heard:item, $from:item) => {
        mod $name {
            use super::*;

            #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
            pub(super) struct Shop(pub(super) Vec<String>);

            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
            $step

            $heard

            $from

            #[derive(Debug, Clone, PartialEq, Message)]
            #[message(prefix = "shop")]
            pub(super) enum Event {
                Started,
                Heard(String),
            }

            impl Aggregate for Shop {
                const NAME: &'static str = "shop";
                type Command = Command;
                type Event = Event;
                type Rejection = std::convert::Infallible;
                type Environment = ();

                fn decide(&self, command: Command, _: &Context<Self>) -> Decision<Self> {
                    record(match command {
                        Command::Start => Event::Started,
                        Command::Heard(step, _) => Event::Heard(format!("{step:?}")),
                    })
                }

                fn apply(&mut self, event: Event) {
                    if let Event::Heard(step) = event {
                        self.0.push(step);
                    }
                }

                fn react(&self, event: &Event, ctx: &Context<Self>) -> Reactions<Command> {
                    if *event != Event::Started {
                        return effects![];
                    }
                    let to = Back::id(ctx.id().as_str());
                    let ask = |step| dispatch(&to, BackCommand::Do(Errand::Note(0))).tag(step);
                    effects![$(ask($next)),*]
                }
            }

            pub(super) fn app(world: &World, line: &Line) -> App {
                let app = world.bare_builder(world.memory.clone()).event_bus(line.clone());
                started(app.aggregate::<Shop>(()).remote::<Back>())
            }

            pub(super) async fn start(app: &App, id: &str) {
                app.handle(&Shop::id(id)).send(Command::Start).await.unwrap();
            }

            pub(super) async fn heard(app: &App, id: &str) -> Vec<String> {
                app.handle(&Shop::id(id)).state(|own| own.0.clone()).await.unwrap()
            }
        }
    };
}

release!(
    first,
    pub(super) enum Step {
        Charge,
    },
    [Step::Charge],
    #[derive(Debug, Clone, PartialEq, Message)]
    #[message(prefix = "shop")]
    pub(super) enum Command {
        Start,
        Heard(Step, Reply<Back>),
    },
    const _: () = ();
);

// An additional step, without a new version.
release!(
    second,
    pub(super) enum Step {
        Charge,
        Gift,
    },
    [Step::Charge, Step::Gift],
    #[derive(Debug, Clone, PartialEq, Message)]
    #[message(prefix = "shop")]
    pub(super) enum Command {
        Start,
        Heard(Step, Reply<Back>),
    },
    const _: () = ();
);

// Steps with another shape, in a new version of the variant.
release!(
    third,
    pub(super) struct Step {
        pub(super) name: String,
    },
    [Step { name: "Wrap".into() }],
    #[derive(Debug, Clone, PartialEq, Message)]
    #[message(prefix = "shop")]
    pub(super) enum Command {
        Start,
        #[message(version = 2, from(1 = HeardV1))]
        Heard(Step, Reply<Back>),
    },
    #[derive(Deserialize)]
    pub(super) struct HeardV1(pub(super) super::second::Step, pub(super) Reply<Back>);
);

impl From<third::HeardV1> for third::Command {
    fn from(third::HeardV1(step, reply): third::HeardV1) -> Self {
        Self::Heard(third::Step { name: format!("{step:?}") }, reply)
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_added_by_a_deploy_waits_for_code_that_knows_it() {
    let (line, world, at_back) = (Line::new(), world_of(1), world_of(2));
    let _back = started(back(&at_back, &line));
    let old = first::app(&world, &line);
    // The old process has the leases; the new one accepts an order.
    tokio::time::sleep(millis(1_000)).await;
    let bare = world.bare_builder(world.memory.clone()).event_bus(line.clone());
    let new = bare.aggregate::<second::Shop>(()).remote::<Back>().build().unwrap();
    second::start(&new, "1").await;
    eventually("the known step is heard", async || first::heard(&old, "1").await == ["Charge"])
        .await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(world.dead_letters().await.is_empty());
    // Orders of the old release continue meanwhile.
    first::start(&old, "2").await;
    eventually("its own step", async || first::heard(&old, "2").await == ["Charge"]).await;
    assert!(old.shutdown(PATIENCE).await);
    new.start();
    eventually("both are heard", async || second::heard(&new, "1").await.len() == 2).await;
    assert_eq!(second::heard(&new, "1").await, ["Charge", "Gift"]);
    assert!(world.dead_letters().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn replies_to_requests_of_an_older_release_are_upcast() {
    let (line, world, at_back) = (Line::new(), world_of(1), world_of(2));
    let old = second::app(&world, &line);
    second::start(&old, "1").await;
    eventually("they have left", async || line.bus.messages("back-commands").len() == 2).await;
    assert!(old.shutdown(PATIENCE).await);
    let new = third::app(&world, &line);
    let _back = started(back(&at_back, &line));
    eventually("both are heard", async || third::heard(&new, "1").await.len() == 2).await;
    let texts = ["Charge", "Gift"].map(|step| format!("Step {{ name: {step:?} }}"));
    assert_eq!(third::heard(&new, "1").await, texts);
    third::start(&new, "2").await;
    eventually("the new step", async || third::heard(&new, "2").await.len() == 1).await;
    assert!(world.dead_letters().await.is_empty());
}
