//! Comparison of asserted and actual states and effects.

use std::fmt::Debug;

use composable_rust_core::{Effects, Reducer};

use super::TestStore;
use super::store::Step;
use crate::failure::{Failure, effects_block, effects_code, pretty, same, same_effects};

impl<R: Reducer> TestStore<R>
where
    R::State: Debug + Clone + PartialEq,
    R::Action: Debug + Clone + PartialEq + 'static,
{
    /// Asserts the effects of the last action, sent or received. They are compared by value and in
    /// order. Of a `database` effect only the operation is compared, and all futures are equal (see
    /// [`any_future`](crate::any_future)).
    ///
    /// # Panics
    ///
    /// Panics if the effects differ, or no action was sent yet.
    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "a test writes them where it expects them")]
    pub fn effects(&mut self, expected: Effects<R::Action>) {
        let exhaustive = self.exhaustive;
        let Some(step) = &mut self.last else {
            Failure::new("No action was sent yet, so there are no effects to compare.")
                .text("Send one first:")
                .block("store.send(…, |state| { … });")
                .raise()
        };
        let passes = if exhaustive {
            same_effects(&expected, &step.effects)
        } else {
            contains(&step.effects, &expected)
        };
        if !passes && exhaustive {
            wrong_effects(step, &expected).raise();
        }
        if !passes {
            missing_effects(step, &expected).raise();
        }
        step.effects_said = true;
    }

    #[track_caller]
    pub(super) fn check_state(
        &mut self,
        step: &Step<R::Action>,
        after: R::State,
        change: impl FnOnce(&mut R::State),
    ) {
        let before = std::mem::replace(&mut self.state, after);
        let after = &self.state;
        let mut expected = if self.exhaustive { before.clone() } else { after.clone() };
        change(&mut expected);
        if expected != *after {
            if self.exhaustive {
                wrong_state(step, &before, &expected, after).raise();
            }
            wrong_part(step, &expected, after).raise();
        }
    }
}

/// `true` if all of `expected` are among `effects`, in order.
fn contains<A: PartialEq>(effects: &Effects<A>, expected: &Effects<A>) -> bool {
    let mut rest = effects.iter();
    expected.iter().all(|wanted| rest.any(|effect| same(effect, wanted)))
}

fn wrong_state<A, S: Debug + PartialEq>(
    step: &Step<A>,
    before: &S,
    expected: &S,
    after: &S,
) -> Failure {
    let Step { verb, action, .. } = step;
    if after == before {
        return Failure::new(format!(
            "The test expects that `{action}` changes the state, and it does not."
        ))
        .diff(&pretty(expected), &pretty(after))
        .text("If the reducer is right, say that nothing changes:")
        .block(format!("store.{verb}({action}, |_| {{}});"));
    }
    if expected == before {
        return Failure::new(format!(
            "`{action}` changed the state, and the test does not say so."
        ))
        .diff(&pretty(expected), &pretty(after))
        .text(
            "If the reducer is right, make the change that is marked + in the closure; it \
             gets the state from before:",
        )
        .block(format!("store.{verb}({action}, |state| {{\n    // state.… = …;\n}});"));
    }
    Failure::new(format!("The state after `{action}` is not what the test expects."))
        .diff(&pretty(expected), &pretty(after))
        .text(format!(
            "If the reducer is right, correct the closure of this `{verb}`: it turns the state \
             from before `{action}` into the one that is marked +."
        ))
}

fn wrong_part<A, S: Debug>(step: &Step<A>, expected: &S, after: &S) -> Failure {
    let Step { verb, action, .. } = step;
    Failure::new(format!("The state after `{action}` is not what the test says about it."))
        .diff(&pretty(expected), &pretty(after))
        .text(format!(
            "This store is non-exhaustive: the closure of `{verb}` gets the state from after \
             `{action}` and must leave it as it is. Set fields to what they are then, \
             `state.count = 2`; do not count on from before, `state.count += 1`."
        ))
}

fn missing_effects<A: Debug>(step: &Step<A>, expected: &Effects<A>) -> Failure {
    Failure::new(format!("`{}` did not return all the effects that the test names.", step.action))
        .diff(&effects_block(expected), &effects_block(&step.effects))
        .text(
            "This store is non-exhaustive: effects that are only marked + may be there. Those that \
             are marked - are missing, or come in another order.",
        )
}

fn wrong_effects<A: Debug + PartialEq>(step: &Step<A>, expected: &Effects<A>) -> Failure {
    let (action, effects) = (&step.action, &step.effects);
    if effects.is_empty() {
        return Failure::new(format!(
            "The test expects effects of `{action}`, and it returned none."
        ))
        .diff(&effects_block(expected), &effects_block(effects))
        .text(
            "If the reducer is right, remove this `store.effects(…)`. Otherwise it forgets to \
             return `effects![…]` on this path.",
        );
    }
    let failure = Failure::new(format!("`{action}` returned other effects than the test expects."));
    let (wanted, got) = (effects_block(expected), effects_block(effects));
    let failure = if wanted == got {
        failure.diff(&pretty(expected), &pretty(effects))
    } else {
        failure.diff(&wanted, &got)
    };
    failure
        .text("If the reducer is right, write:")
        .block(format!("store.effects({});", effects_code(effects)))
}
