use std::marker::PhantomData;

use crate::{Effects, Reducer};

/// An optional child inside a parent; made by [`if_let`].
#[derive(Debug, Clone, Copy)]
pub struct IfLet<R, S, X, I, P> {
    name: &'static str,
    child: R,
    state: S,
    extract: X,
    embed: I,
    parent: PhantomData<fn() -> P>,
}

/// Runs `child` while its state is `Some`: [`scope_reducer`](crate::scope_reducer) for an `Option`.
/// An action while the state is `None` is ignored: the child is already gone.
///
/// ```
/// # use composable_rust_core::prelude::*;
/// # struct Counter;
/// # impl Reducer for Counter { type State = i64; type Action = i64; type Environment = ();
/// #   fn reduce(&self, s: &mut i64, a: i64, _: &()) -> Effects<i64> { *s += a; Effects::none() } }
/// # struct Shop { sale: Option<i64> }
/// # enum ShopAction { Sale(i64) }
/// let shop = if_let(
///     "sale",
///     Counter,
///     |shop: &mut Shop| shop.sale.as_mut(),
///     |action| match action { ShopAction::Sale(n) => Some(n) },
///     ShopAction::Sale,
/// );
/// let mut state = Shop { sale: None };
/// assert!(shop.reduce(&mut state, ShopAction::Sale(2), &()).is_empty());
/// assert_eq!(state.sale, None);
/// ```
pub fn if_let<R, P, A, S, X, I>(
    name: &'static str,
    child: R,
    state: S,
    extract: X,
    embed: I,
) -> IfLet<R, S, X, I, (P, A)>
where
    R: Reducer,
    S: Fn(&mut P) -> Option<&mut R::State>,
    X: Fn(A) -> Option<R::Action>,
    I: Fn(R::Action) -> A + Clone + Send + Sync + 'static,
{
    IfLet { name, child, state, extract, embed, parent: PhantomData }
}

impl<R, P, A, S, X, I> Reducer for IfLet<R, S, X, I, (P, A)>
where
    R: Reducer,
    R::Action: 'static,
    A: 'static,
    S: Fn(&mut P) -> Option<&mut R::State>,
    X: Fn(A) -> Option<R::Action>,
    I: Fn(R::Action) -> A + Clone + Send + Sync + 'static,
{
    type State = P;
    type Action = A;
    type Environment = R::Environment;

    fn reduce(&self, state: &mut P, action: A, env: &R::Environment) -> Effects<A> {
        let Some(action) = (self.extract)(action) else { return Effects::none() };
        let Some(state) = (self.state)(state) else { return Effects::none() };
        self.child.reduce(state, action, env).within(self.name, &self.embed)
    }
}
