use std::marker::PhantomData;

use crate::{Effects, Reducer};

/// A child reducer inside a parent's state and action; made by [`scope_reducer`].
#[derive(Debug, Clone, Copy)]
pub struct Scoped<R, S, X, I, P> {
    name: &'static str,
    child: R,
    state: S,
    extract: X,
    embed: I,
    parent: PhantomData<fn() -> P>,
}

/// Runs `child` on the part of the parent's state that `state` returns, for the parent's actions
/// from which `extract` returns a child action. `embed` converts the child's actions back.
///
/// `name` is the scope of the child's effect ids. Parent and child share the environment.
///
/// ```
/// # use composable_rust_core::prelude::*;
/// # struct Counter;
/// # impl Reducer for Counter { type State = i64; type Action = i64; type Environment = ();
/// #   fn reduce(&self, s: &mut i64, a: i64, _: &()) -> Effects<i64> { *s += a; Effects::none() } }
/// struct Shop { visitors: i64 }
/// enum ShopAction { Visitors(i64) }
///
/// let shop = scope_reducer(
///     "visitors",
///     Counter,
///     |shop: &mut Shop| &mut shop.visitors,
///     |action| match action { ShopAction::Visitors(n) => Some(n) },
///     ShopAction::Visitors,
/// );
/// let mut state = Shop { visitors: 1 };
/// assert!(shop.reduce(&mut state, ShopAction::Visitors(2), &()).is_empty());
/// assert_eq!(state.visitors, 3);
/// ```
pub fn scope_reducer<R, P, A, S, X, I>(
    name: &'static str,
    child: R,
    state: S,
    extract: X,
    embed: I,
) -> Scoped<R, S, X, I, (P, A)>
where
    R: Reducer,
    S: Fn(&mut P) -> &mut R::State,
    X: Fn(A) -> Option<R::Action>,
    I: Fn(R::Action) -> A + Clone + Send + Sync + 'static,
{
    Scoped { name, child, state, extract, embed, parent: PhantomData }
}

impl<R, P, A, S, X, I> Reducer for Scoped<R, S, X, I, (P, A)>
where
    R: Reducer,
    R::Action: 'static,
    A: 'static,
    S: Fn(&mut P) -> &mut R::State,
    X: Fn(A) -> Option<R::Action>,
    I: Fn(R::Action) -> A + Clone + Send + Sync + 'static,
{
    type State = P;
    type Action = A;
    type Environment = R::Environment;

    fn reduce(&self, state: &mut P, action: A, env: &R::Environment) -> Effects<A> {
        let Some(action) = (self.extract)(action) else { return Effects::none() };
        let effects = self.child.reduce((self.state)(state), action, env);
        effects.within(self.name, &self.embed)
    }
}
