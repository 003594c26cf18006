use crate::{Effects, Reducer};

/// Two reducers of the same state and action, run in order; made by [`combine_reducers`].
#[derive(Debug, Clone, Copy)]
pub struct Combined<A, B>(A, B);

/// Runs `first`, then `second`, on the same state and action, and merges their effects.
///
/// Both reducers get every action, so a catch-all arm also matches the actions of the other.
///
/// ```
/// # use composable_rust_core::prelude::*;
/// # struct Add; struct Double;
/// # impl Reducer for Add { type State = i64; type Action = i64; type Environment = ();
/// #   fn reduce(&self, s: &mut i64, a: i64, _: &()) -> Effects<i64> { *s += a; Effects::none() } }
/// # impl Reducer for Double { type State = i64; type Action = i64; type Environment = ();
/// #   fn reduce(&self, s: &mut i64, _: i64, _: &()) -> Effects<i64> { *s *= 2; Effects::none() } }
/// let mut total = 1;
/// assert!(combine_reducers(Add, Double).reduce(&mut total, 2, &()).is_empty());
/// assert_eq!(total, 6);
/// ```
pub fn combine_reducers<A, B>(first: A, second: B) -> Combined<A, B>
where
    A: Reducer,
    A::Action: Clone,
    B: Reducer<State = A::State, Action = A::Action, Environment = A::Environment>,
{
    Combined(first, second)
}

impl<A, B> Reducer for Combined<A, B>
where
    A: Reducer,
    A::Action: Clone,
    B: Reducer<State = A::State, Action = A::Action, Environment = A::Environment>,
{
    type State = A::State;
    type Action = A::Action;
    type Environment = A::Environment;

    fn reduce(
        &self,
        state: &mut Self::State,
        action: Self::Action,
        env: &Self::Environment,
    ) -> Effects<Self::Action> {
        let effects = self.0.reduce(state, action.clone(), env);
        effects.merge(self.1.reduce(state, action, env))
    }
}
