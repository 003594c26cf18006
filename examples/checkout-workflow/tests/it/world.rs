//! Whole checkouts under a simulated scheduler.
//!
//! It delivers messages in any order that the framework allows, fires timers at random times, and
//! repeats calls whose outcome was lost. The audit balances under every schedule.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use checkout_workflow::{
    Audit, AuditInput, Cart, Checkout, CheckoutCommand, Histories, Inventory, InventoryCommand,
    Ledger, Order, OrderCommand, Payment, PaymentCommand, PaymentProvider, ProviderRequest, Rates,
    Shipping, ShippingCommand,
};
use composable_rust::effect::{Reaction, ReplyMode};
use composable_rust::message::{AnyMessage, Incoming, ReceivesOutcome};
use composable_rust::prelude::*;
use composable_rust::{
    CallError, CallOutcome, Context, CorrelationId, Gateway as _, MessageId, Metadata, StreamId,
    Version,
};
use futures_util::FutureExt as _;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::xxh3_64_with_seed;

const CHECKOUTS: usize = 100;
const ATTEMPTS: u32 = 5;
/// Ten times the number of messages of a run.
const MAX_MESSAGES: u64 = 20_000;

/// A sender that waits for a reply, and the tag of its request.
#[derive(Clone)]
struct ReplyTarget {
    stream: StreamId,
    tag: String,
}

/// A message with the stack of senders that wait for a reply.
struct Envelope {
    message: AnyCommand,
    returns: Vec<ReplyTarget>,
}

/// A command of any aggregate, or a call to the provider.
#[derive(Clone)]
enum AnyCommand {
    Checkout(Id<Checkout>, CheckoutCommand),
    Order(Id<Order>, OrderCommand),
    Inventory(Id<Inventory>, InventoryCommand),
    Payment(Id<Payment>, PaymentCommand),
    Shipping(Id<Shipping>, ShippingCommand),
    Call { caller: Id<Payment>, request: ProviderRequest, tag: String, key: String, attempts: u32 },
}

/// The state of the simulation.
struct World {
    seed: u64,
    drawn: u64,
    handled: u64,
    provider: PaymentProvider,
    /// `true` if the calls of one payment are made one after the other.
    calls_in_order: bool,
    input: AuditInput,
    checkouts: Instances<Checkout>,
    orders: Instances<Order>,
    stocks: Instances<Inventory>,
    payments: Instances<Payment>,
    parcels: Instances<Shipping>,
    /// The messages of each sender to each recipient, which are delivered in order.
    lanes: BTreeMap<String, VecDeque<Envelope>>,
    timers: BTreeMap<String, Envelope>,
    finished: BTreeSet<Id<Checkout>>,
}

struct Instances<A>(BTreeMap<Id<A>, (A, Version)>);

/// The result of handling a message.
struct Handled<A: Aggregate> {
    replies: Vec<Reply<A>>,
    reactions: Reactions<A::Command>,
    finished: bool,
}

impl<A: Aggregate> Instances<A> {
    fn handle(
        &mut self,
        history: &mut Histories<A>,
        env: &A::Environment,
        id: &Id<A>,
        command: A::Command,
        nth: u64,
    ) -> Handled<A> {
        let from_outside = !command.kind().internal;
        let message = MessageId::from_key(&nth.to_string());
        let metadata = Metadata {
            correlation_id: CorrelationId(message.0),
            causation_id: message.0,
            user: None,
            user_from: None,
            traceparent: None,
            return_addresses: Vec::new(),
            reply: None,
            follower: None,
        };
        let incoming = Incoming { message_id: message, metadata, now: Timestamp::EPOCH };
        let (state, version) = self.0.entry(id.clone()).or_default();
        let ctx = Context::new(message.0, id, *version, &incoming, env);
        let mut reactions = Reactions::none();
        let mut replies = Vec::new();
        match state.decide(command, &ctx) {
            Ok(outcome) => {
                for event in outcome.events {
                    if !outcome.repeated {
                        state.apply(event.clone());
                        *version = version.next();
                        history.push(id.clone(), event.clone());
                        reactions = reactions.merge(state.react(&event, &ctx));
                    }
                    replies.push(Reply::Recorded(event));
                }
                reactions = reactions.merge(outcome.effects);
                if replies.is_empty() && from_outside {
                    replies.push(Reply::Unchanged);
                }
            }
            Err(rejection) if from_outside => replies.push(Reply::Rejected(rejection)),
            Err(_) => {}
        }
        Handled { replies, reactions, finished: state.is_finished() }
    }
}

fn tag<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).unwrap()
}

fn id<T: Target>(stream: &StreamId) -> Id<T> {
    Id::of_stream(stream).unwrap()
}

fn to_checkout<T: Target>(to: &ReplyTarget, reply: Reply<T>) -> AnyCommand
where
    CheckoutCommand: composable_rust::message::Receives<
            T,
            Tag = composable_rust::saga::Task<checkout_workflow::Step>,
        >,
{
    let command = composable_rust::message::Receives::receive(tag(&to.tag), reply);
    AnyCommand::Checkout(id(&to.stream), command)
}

fn addressed(stream: &StreamId, command: &AnyMessage) -> AnyCommand {
    fn content<M: Message>(command: &AnyMessage) -> M {
        command.downcast_ref::<M>().unwrap().clone()
    }
    match stream.category() {
        "order" => AnyCommand::Order(id(stream), content(command)),
        "inventory" => AnyCommand::Inventory(id(stream), content(command)),
        "payment" => AnyCommand::Payment(id(stream), content(command)),
        "shipping" => AnyCommand::Shipping(id(stream), content(command)),
        other => panic!("unexpected recipient {other}"),
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let rates = Rates { declines: 10, hangs: 10, failures: 10, refund_refusals: 10 };
        Self {
            seed,
            drawn: 0,
            handled: 0,
            provider: PaymentProvider { ledger: Ledger::in_memory(), rates, seed },
            calls_in_order: seed % 2 == 0,
            input: AuditInput::default(),
            checkouts: Instances(BTreeMap::new()),
            orders: Instances(BTreeMap::new()),
            stocks: Instances(BTreeMap::new()),
            payments: Instances(BTreeMap::new()),
            parcels: Instances(BTreeMap::new()),
            lanes: BTreeMap::new(),
            timers: BTreeMap::new(),
            finished: BTreeSet::new(),
        }
    }

    /// Returns a pseudorandom number below `bound`.
    fn draw(&mut self, bound: usize) -> usize {
        self.drawn += 1;
        let drawn = xxh3_64_with_seed(&self.drawn.to_le_bytes(), self.seed);
        usize::try_from(drawn % bound as u64).unwrap()
    }

    fn put(&mut self, lane: String, message: AnyCommand, returns: Vec<ReplyTarget>) {
        self.lanes.entry(lane).or_default().push_back(Envelope { message, returns });
    }

    /// Runs until there are no messages and timers. Audits as soon as every checkout is finished,
    /// and again at the end, and asserts that both audits are equal.
    fn run(mut self) -> Audit {
        let mut first = None;
        let mut active = true;
        while active {
            active = self.step();
            assert!(self.handled < MAX_MESSAGES, "seed {}: the run does not end", self.seed);
            if first.is_none() && self.finished.len() == CHECKOUTS {
                first = Some(self.audit());
            }
        }
        let last = self.audit();
        assert_eq!(first.as_ref(), Some(&last), "seed {}", self.seed);
        last
    }

    fn audit(&mut self) -> Audit {
        self.input.ledger = self.provider.ledger.entries().unwrap();
        Audit::of(&self.input)
    }

    /// Delivers a message or fires a timer. A timer fires rarely, or if there are no messages.
    fn step(&mut self) -> bool {
        let fires = !self.timers.is_empty() && (self.lanes.is_empty() || self.draw(50) == 0);
        if fires {
            let nth = self.draw(self.timers.len());
            let name = self.timers.keys().nth(nth).unwrap().clone();
            let envelope = self.timers.remove(&name).unwrap();
            self.deliver(name, envelope);
        } else if !self.lanes.is_empty() {
            let nth = self.draw(self.lanes.len());
            let name = self.lanes.keys().nth(nth).unwrap().clone();
            let lane = self.lanes.get_mut(&name).unwrap();
            let envelope = lane.pop_front().unwrap();
            if lane.is_empty() {
                self.lanes.remove(&name);
            }
            self.deliver(name, envelope);
        }
        fires || !(self.lanes.is_empty() && self.timers.is_empty())
    }

    fn deliver(&mut self, lane: String, Envelope { message, returns }: Envelope) {
        self.handled += 1;
        let (nth, input) = (self.handled, &mut self.input);
        match message {
            AnyCommand::Checkout(id, command) => {
                let env = Duration::from_secs(30);
                let done = self.checkouts.handle(&mut input.checkouts, &env, &id, command, nth);
                self.follow(&id, done.reactions, &returns, AnyCommand::Checkout);
                if done.finished {
                    self.finished.insert(id.clone());
                    let stream = format!("{} ", id.stream());
                    self.timers.retain(|name, _| !name.starts_with(&stream));
                }
            }
            AnyCommand::Order(id, command) => {
                let done = self.orders.handle(&mut input.orders, &(), &id, command, nth);
                self.reply(&id, &returns, done.replies, to_checkout);
                self.follow(&id, done.reactions, &returns, AnyCommand::Order);
            }
            AnyCommand::Inventory(id, command) => {
                let done = self.stocks.handle(&mut input.stocks, &(), &id, command, nth);
                self.reply(&id, &returns, done.replies, |to, reply| match to.stream.category() {
                    "checkout" => to_checkout(to, reply),
                    _ => AnyCommand::Shipping(self::id(&to.stream), ShippingCommand::Stock(reply)),
                });
                self.follow(&id, done.reactions, &returns, AnyCommand::Inventory);
            }
            AnyCommand::Payment(id, command) => {
                let done = self.payments.handle(&mut input.payments, &(), &id, command, nth);
                self.reply(&id, &returns, done.replies, to_checkout);
                self.follow(&id, done.reactions, &returns, AnyCommand::Payment);
            }
            AnyCommand::Shipping(id, command) => {
                let done = self.parcels.handle(&mut input.parcels, &(), &id, command, nth);
                self.reply(&id, &returns, done.replies, to_checkout);
                self.follow(&id, done.reactions, &returns, AnyCommand::Shipping);
            }
            AnyCommand::Call { .. } => self.call(lane, message, returns),
        }
    }

    fn reply<A: Aggregate>(
        &mut self,
        from: &Id<A>,
        returns: &[ReplyTarget],
        replies: Vec<Reply<A>>,
        message: impl Fn(&ReplyTarget, Reply<A>) -> AnyCommand,
    ) {
        let Some((to, rest)) = returns.split_last() else { return };
        for reply in replies {
            let lane = format!("{} > {}", from.stream(), to.stream);
            self.put(lane, message(to, reply), rest.to_vec());
        }
    }

    fn follow<A: Aggregate>(
        &mut self,
        from: &Id<A>,
        reactions: Reactions<A::Command>,
        returns: &[ReplyTarget],
        own: impl Fn(Id<A>, A::Command) -> AnyCommand,
    ) {
        let stream = from.stream();
        for reaction in reactions {
            match reaction {
                Reaction::DispatchCommand(dispatch) => {
                    let mut returns = returns.to_vec();
                    if let ReplyMode::Tagged(tag) = dispatch.replies {
                        returns.push(ReplyTarget { stream: stream.clone(), tag: tag.value });
                    }
                    let message = addressed(&dispatch.recipient, &dispatch.command);
                    self.put(format!("{stream} > {}", dispatch.recipient), message, returns);
                }
                Reaction::CallGateway(call) => {
                    let key = format!("key {}", self.draw(usize::MAX));
                    let lane = if self.calls_in_order { "in order" } else { &key };
                    let lane = format!("{stream} > provider {lane}");
                    let ReplyMode::Tagged(tag) = call.replies else {
                        panic!("a call without a tag")
                    };
                    let request: &ProviderRequest = call.request.downcast_ref().unwrap();
                    let (request, caller) = (request.clone(), self::id(&stream));
                    let tag = tag.value;
                    let message = AnyCommand::Call { caller, request, tag, key, attempts: 0 };
                    self.put(lane, message, returns.to_vec());
                }
                Reaction::Delay(delay) => {
                    let name = format!("{stream} {}", delay.id.unwrap());
                    let message = own(from.clone(), delay.action);
                    self.timers.insert(name, Envelope { message, returns: returns.to_vec() });
                }
                other => panic!("unexpected reaction {other:?}"),
            }
        }
    }

    /// Makes one attempt of a call.
    fn call(&mut self, lane: String, message: AnyCommand, returns: Vec<ReplyTarget>) {
        let AnyCommand::Call { caller, request, tag, key, mut attempts } = message else {
            unreachable!("the message is a call")
        };
        let outcome = self.provider.call(request.clone(), &key).now_or_never();
        let lost = self.draw(10) == 0;
        let answer = match outcome {
            // The process is killed before it stores the outcome, so it repeats the attempt.
            Some(Ok(_)) if lost => None,
            Some(Ok(response)) => Some(CallOutcome::Done(response)),
            Some(Err(CallError::Failed(failure))) => Some(CallOutcome::Failed(failure)),
            Some(Err(CallError::Unreachable(_))) => None,
            None | Some(Err(CallError::Retry(_))) => {
                attempts += 1;
                (attempts == ATTEMPTS).then_some(CallOutcome::Exhausted)
            }
        };
        if let Some(answer) = answer {
            let command = PaymentCommand::receive_outcome(self::tag(&tag), answer);
            let message = AnyCommand::Payment(caller.clone(), command);
            self.put(format!("provider > {}", caller.stream()), message, returns);
        } else {
            let message = AnyCommand::Call { caller, request, tag, key, attempts };
            let lane = self.lanes.entry(lane).or_default();
            lane.push_front(Envelope { message, returns });
        }
    }
}

/// Runs a hundred checkouts of three articles, without enough stock for all.
fn run_checkouts(seed: u64) -> Audit {
    let mut world = World::new(seed);
    let articles = ["pencil", "paper", "ink"].map(Inventory::id);
    for sku in &articles {
        let restock = InventoryCommand::Restock { units: 60 };
        world.put(sku.to_string(), AnyCommand::Inventory(sku.clone(), restock), Vec::new());
    }
    for n in 0..CHECKOUTS {
        let sku = articles[world.draw(articles.len())].clone();
        let units = u32::try_from(world.draw(3)).unwrap() + u32::from(n % 20 != 0);
        let cents = 100 + world.draw(10_000) as u64;
        let (id, cart) = (Checkout::id(n.to_string()), Cart { sku, units, cents });
        let start = AnyCommand::Checkout(id.clone(), CheckoutCommand::Start(cart));
        // Send it twice, as a client that retries does.
        world.put(id.to_string(), start.clone(), Vec::new());
        world.put(id.to_string(), start, Vec::new());
    }
    world.run()
}

#[test]
fn the_audit_balances_under_every_schedule() {
    let (mut completed, mut compensated, mut stuck) = (0, 0, 0);
    for seed in 0..50 {
        let audit = run_checkouts(seed);
        assert!(audit.balances(), "seed {seed}\n{audit}");
        let ended = audit.completed + audit.compensated + audit.stuck.len() as u64;
        assert_eq!(ended, CHECKOUTS as u64, "seed {seed}\n{audit}");
        completed += audit.completed;
        compensated += audit.compensated;
        stuck += audit.stuck.len();
    }
    println!("{completed} completed, {compensated} compensated, {stuck} stuck");
    assert!(completed > 500 && compensated > 500 && stuck > 5);
}
