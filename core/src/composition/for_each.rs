use std::collections::BTreeMap;
use std::fmt::Display;
use std::marker::PhantomData;

use crate::{Effects, Reducer};

/// Keyed children inside a parent; made by [`for_each`].
#[derive(Debug, Clone, Copy)]
pub struct ForEach<R, S, X, I, P> {
    name: &'static str,
    child: R,
    state: S,
    extract: X,
    embed: I,
    parent: PhantomData<fn() -> P>,
}

/// Runs `child` on the state of the key that an action names. An action for a key without a state
/// is ignored: the child is already gone.
///
/// A child's effect ids are scoped to its key, so a child never cancels the effects of a sibling.
///
/// ```
/// # use composable_rust_core::prelude::*;
/// # use std::collections::BTreeMap;
/// # struct Counter;
/// # impl Reducer for Counter { type State = i64; type Action = i64; type Environment = ();
/// #   fn reduce(&self, s: &mut i64, a: i64, _: &()) -> Effects<i64> { *s += a; Effects::none() } }
/// # struct Shop { shelves: BTreeMap<u32, i64> }
/// # enum ShopAction { Shelf(u32, i64) }
/// let shop = for_each(
///     "shelf",
///     Counter,
///     |shop: &mut Shop| &mut shop.shelves,
///     |action| match action { ShopAction::Shelf(key, n) => Some((key, n)) },
///     ShopAction::Shelf,
/// );
/// let mut state = Shop { shelves: BTreeMap::from([(7, 0)]) };
/// assert!(shop.reduce(&mut state, ShopAction::Shelf(7, 2), &()).is_empty());
/// assert_eq!(state.shelves[&7], 2);
/// ```
pub fn for_each<R, K, P, A, S, X, I>(
    name: &'static str,
    child: R,
    state: S,
    extract: X,
    embed: I,
) -> ForEach<R, S, X, I, (K, P, A)>
where
    R: Reducer,
    K: Ord + Clone + Display + Send + Sync + 'static,
    S: Fn(&mut P) -> &mut BTreeMap<K, R::State>,
    X: Fn(A) -> Option<(K, R::Action)>,
    I: Fn(K, R::Action) -> A + Clone + Send + Sync + 'static,
{
    ForEach { name, child, state, extract, embed, parent: PhantomData }
}

impl<R, K, P, A, S, X, I> Reducer for ForEach<R, S, X, I, (K, P, A)>
where
    R: Reducer,
    R::Action: 'static,
    K: Ord + Clone + Display + Send + Sync + 'static,
    A: 'static,
    S: Fn(&mut P) -> &mut BTreeMap<K, R::State>,
    X: Fn(A) -> Option<(K, R::Action)>,
    I: Fn(K, R::Action) -> A + Clone + Send + Sync + 'static,
{
    type State = P;
    type Action = A;
    type Environment = R::Environment;

    fn reduce(&self, state: &mut P, action: A, env: &R::Environment) -> Effects<A> {
        let Some((key, action)) = (self.extract)(action) else { return Effects::none() };
        let Some(state) = (self.state)(state).get_mut(&key) else { return Effects::none() };
        let effects = self.child.reduce(state, action, env);
        let scope = format!("{}/{key}", self.name);
        let embed = self.embed.clone();
        effects.within(&scope, &move |action| embed(key.clone(), action))
    }
}
