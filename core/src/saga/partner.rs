//! The targets and gateways that a saga asks.

use std::marker::PhantomData;

use super::SagaReply;
use super::reply::EncodedReply;
use crate::codec::DecodeError;
use crate::message::{ReplyOutcome, ReplySource};
use crate::{CallOutcome, Gateway, Message, Reply, Target};

/// A gateway among the [`Partners`] of a saga: `Calls<Bank>`.
#[derive(Debug)]
pub struct Calls<G>(PhantomData<fn() -> G>);

/// A target, or a gateway as [`Calls`], that a saga asks.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a saga's partner",
    label = "neither an aggregate or other `Target`, nor `Calls<SomeGateway>`",
    note = "the partners of a saga are a tuple of aggregates, other services' targets, and \
            gateways as `Calls<Bank>`: `(Order, Payment, Calls<Bank>)`"
)]
pub trait Partner: Sized + 'static {
    /// The events or responses with which the partner answers.
    type Answer: Message;

    /// The partner's name.
    const SOURCE: ReplySource;

    /// Reads a reply.
    #[doc(hidden)]
    fn read(outcome: ReplyOutcome, content: &EncodedReply<'_>) -> Result<SagaReply, DecodeError>;
}

#[diagnostic::do_not_recommend]
impl<T: Target> Partner for T {
    type Answer = T::Event;
    const SOURCE: ReplySource = ReplySource::Target(T::NAME);

    fn read(outcome: ReplyOutcome, content: &EncodedReply<'_>) -> Result<SagaReply, DecodeError> {
        let reply: Reply<T> = match outcome {
            ReplyOutcome::Recorded => Reply::Recorded(content.message()?),
            ReplyOutcome::Rejected => Reply::Rejected(content.message()?),
            ReplyOutcome::Unchanged => Reply::Unchanged,
            _ => Reply::Undelivered,
        };
        Ok(SagaReply::from(reply))
    }
}

impl<G: Gateway> Partner for Calls<G> {
    type Answer = G::Response;
    const SOURCE: ReplySource = ReplySource::Gateway(G::NAME);

    fn read(outcome: ReplyOutcome, content: &EncodedReply<'_>) -> Result<SagaReply, DecodeError> {
        let outcome: CallOutcome<G> = match outcome {
            ReplyOutcome::Done => CallOutcome::Done(content.message()?),
            ReplyOutcome::Failed => CallOutcome::Failed(content.message()?),
            ReplyOutcome::Unstorable => CallOutcome::Unstorable(content.reason()),
            _ => CallOutcome::Exhausted,
        };
        Ok(SagaReply::from(outcome))
    }
}

/// The targets and gateways that a saga asks: a tuple of up to twelve [`Partner`]s.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the partners of a saga",
    label = "not a tuple of partners",
    note = "write a tuple of up to twelve aggregates, other services' targets, and gateways as \
            `Calls<Bank>`; of one: `(Order,)`"
)]
pub trait Partners: 'static {
    /// The partners' names.
    const SOURCES: &'static [ReplySource];

    /// Reads a reply of the partner called `from`; `None` if there is none of this name.
    #[doc(hidden)]
    fn read(
        from: &str,
        outcome: ReplyOutcome,
        content: &EncodedReply<'_>,
    ) -> Result<Option<SagaReply>, DecodeError>;
}

/// The position of a partner in a tuple, which the compiler infers.
#[derive(Debug)]
pub struct PartnerIndex<const INDEX: usize>;

/// A tuple of partners that contains `P`.
#[diagnostic::on_unimplemented(
    message = "the saga asks `{P}`, which is not among its partners",
    label = "`{P}` is not in `type Partners`",
    note = "add it: `type Partners = (…, {P})`; a gateway stands there as `Calls<Bank>`"
)]
pub trait HasPartner<P, Index> {}

macro_rules! partners {
    ($($partner:ident)*) => {
        #[diagnostic::do_not_recommend]
        impl<$($partner: Partner),*> Partners for ($($partner,)*) {
            const SOURCES: &'static [ReplySource] = &[$($partner::SOURCE),*];

            #[allow(unused_variables, reason = "without partners, there is nothing to compare")]
            fn read(
                from: &str,
                outcome: ReplyOutcome,
                content: &EncodedReply<'_>,
            ) -> Result<Option<SagaReply>, DecodeError> {
                $(if is_named::<$partner>(from, outcome) {
                    return $partner::read(outcome, content).map(Some);
                })*
                Ok(None)
            }
        }
    };
}

fn is_named<P: Partner>(from: &str, outcome: ReplyOutcome) -> bool {
    match P::SOURCE {
        ReplySource::Target(name) => name == from && !outcome.is_gateways(),
        ReplySource::Gateway(name) => name == from && outcome.is_gateways(),
    }
}

/// Implements `HasPartner` for one position in a tuple.
macro_rules! has_partner {
    ([$($all:ident)*] $partner:ident $index:literal) => {
        #[diagnostic::do_not_recommend]
        impl<$($all: Partner),*> HasPartner<$partner, PartnerIndex<$index>> for ($($all,)*) {}
    };
}

/// Implements both traits for the tuple of each beginning of a list.
macro_rules! tuples {
    ($($partner:ident $index:literal),*) => { tuples!(@after [] $($partner $index),*); };
    (@after
        [$($before:ident $at:literal),*]
        $next:ident $index:literal $(, $rest:ident $later:literal)*
    ) => {
        tuples!(@tuple $($before $at),*);
        tuples!(@after [$($before $at,)* $next $index] $($rest $later),*);
    };
    (@after [$($all:ident $at:literal),*]) => { tuples!(@tuple $($all $at),*); };
    (@tuple $($partner:ident $index:literal),*) => {
        partners!($($partner)*);
        tuples!(@each [$($partner)*] $($partner $index),*);
    };
    (@each $all:tt $($partner:ident $index:literal),*) => { $(
        has_partner!($all $partner $index);
    )* };
}

tuples!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);
