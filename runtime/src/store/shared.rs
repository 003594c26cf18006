//! The part of a store that its clones and jobs share.

use std::sync::{Arc, Mutex, MutexGuard};

use composable_rust_core::bus::SharedEventBus;
use composable_rust_core::environment::Clock;
use composable_rust_core::message::AnyMessage;
use composable_rust_core::store::SharedEventStore;
use composable_rust_core::{Effect, Effects, Reducer};
use tokio::sync::{Notify, watch};

use crate::panic::{guarded, lock};

use super::batch::{Batch, SendHandle};
use super::planner::Planner;
use super::running::Running;
use super::subscription::Listeners;
use super::{ActionError, SendRejected, StoreReducer, UnsupportedEffect};

/// The function that clones a state.
pub(super) type CloneState<S> = fn(&S) -> S;

pub(super) struct StoreShared<R: Reducer> {
    pub(super) reducer: R,
    pub(super) env: R::Environment,
    /// Clones the state before each reduction; `None` to poison the store instead.
    pub(super) copy: Option<CloneState<R::State>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) event_store: Option<SharedEventStore>,
    pub(super) bus: Option<SharedEventBus>,
    pub(super) max_effects: usize,
    pub(super) subscription_buffer: usize,
    pub(super) core: Mutex<Core<R>>,
    /// Notified when the number of running effects falls below the limit.
    pub(super) room: Notify,
    /// Notified when the last running effect has ended.
    pub(super) idle: Notify,
}

/// The part of a store that the lock guards.
pub(super) struct Core<R: Reducer> {
    pub(super) state: R::State,
    pub(super) poisoned: bool,
    pub(super) closed: bool,
    pub(super) running: Running,
    pub(super) actions: Listeners<R::Action>,
    pub(super) recorded: Listeners<AnyMessage>,
    /// `Some` while a caller waits for a state.
    pub(super) changed: Option<watch::Sender<()>>,
}

impl<R: Reducer> Core<R> {
    pub(super) fn notify_changed(&mut self) {
        if self.changed.as_ref().is_some_and(|changed| changed.send(()).is_err()) {
            self.changed = None;
        }
    }
}

impl<R: Reducer> StoreShared<R> {
    /// Locks the core. Users' code that runs under the lock is guarded where it is called.
    pub(super) fn lock(&self) -> MutexGuard<'_, Core<R>> {
        lock(&self.core)
    }
}

impl<R: StoreReducer> StoreShared<R> {
    /// Reduces an action from outside and starts its effects.
    pub(super) fn accept(
        self: &Arc<Self>,
        mut core: MutexGuard<'_, Core<R>>,
        action: R::Action,
    ) -> Result<SendHandle, ActionError> {
        let effects = self.reduce(&mut core, action)?;
        if effects.is_empty() {
            return Ok(SendHandle::new(None));
        }
        let mut planner = self.planner(&mut core, None);
        planner.plan_all(effects);
        let Planner { jobs, batch, rejected, .. } = planner;
        drop(core);
        self.start(jobs);
        match rejected {
            Some(rejection) => Err(ActionError::Rejected(SendRejected::new(rejection))),
            None => Ok(SendHandle::new(batch)),
        }
    }

    pub(super) fn planner<'a>(
        &'a self,
        core: &'a mut Core<R>,
        batch: Option<Arc<Batch>>,
    ) -> Planner<'a, R::Action> {
        Planner {
            running: &mut core.running,
            recorded: &mut core.recorded,
            clock: &*self.clock,
            batch,
            jobs: Vec::new(),
            rejected: None,
        }
    }

    /// Reduces an action. After an error the state is as before, or the store is poisoned.
    pub(super) fn reduce(
        &self,
        core: &mut Core<R>,
        action: R::Action,
    ) -> Result<Effects<R::Action>, ActionError> {
        if core.poisoned {
            return Err(ActionError::Poisoned);
        }
        let (mut before, mut published) = (None, None);
        let reduced = guarded(|| {
            before = self.copy.map(|copy| copy(&core.state));
            published = core.actions.has_any().then(|| action.clone());
            self.reducer.reduce(&mut core.state, action, &self.env)
        });
        let error = match reduced {
            Ok(effects) => match effects.iter().try_for_each(|effect| self.check(effect)) {
                Ok(()) => {
                    if let Some(action) = published {
                        core.actions.publish(action);
                    }
                    core.notify_changed();
                    return Ok(effects);
                }
                Err(unsupported) => unsupported.into(),
            },
            Err(message) => {
                tracing::error!(message, "a reducer panicked; its action fails");
                ActionError::Panicked { message }
            }
        };
        match before {
            Some(before) => core.state = before,
            // The clone itself panicked; the state is unchanged.
            None if self.copy.is_some() => {}
            None => {
                core.poisoned = true;
                core.notify_changed();
            }
        }
        Err(error)
    }

    /// Checks that the effect, with the effects inside it, can be executed.
    fn check(&self, effect: &Effect<R::Action>) -> Result<(), UnsupportedEffect> {
        match effect {
            Effect::Future(_)
            | Effect::Delay(_)
            | Effect::Cancel(_)
            | Effect::Record(_)
            | Effect::Reject(_) => Ok(()),
            Effect::Cancellable(_, effect) => self.check(effect),
            Effect::Parallel(effects) | Effect::Sequential(effects) => {
                effects.iter().try_for_each(|effect| self.check(effect))
            }
            Effect::Database(_) if self.event_store.is_some() => Ok(()),
            Effect::Database(_) => Err(UnsupportedEffect::Database),
            Effect::PublishEvent(_) if self.bus.is_some() => Ok(()),
            Effect::PublishEvent(message) => {
                Err(UnsupportedEffect::Publish { topic: message.topic.clone() })
            }
            Effect::DispatchCommand(dispatch) => {
                Err(UnsupportedEffect::Dispatch { target: dispatch.target })
            }
            Effect::CallGateway(call) => Err(UnsupportedEffect::Call { gateway: call.gateway }),
            _ => Err(UnsupportedEffect::Unknown),
        }
    }
}
