use std::fmt;

use composable_rust_core::event::{StoredContent, StoredEvent};
use composable_rust_core::projection::ReadModel;
use composable_rust_core::store::StoreError;
use composable_rust_core::{EventSet, Projection};

use super::events::{GivenEvents, decoded};
use crate::InMemoryReadModel;
use crate::encoding::reasons;
use crate::failure::{Failure, code, pretty};

/// A read model after a projection, for assertions; see [`given_event`](crate::given_event).
#[derive(Debug)]
pub struct Projected<'m, M> {
    model: &'m M,
}

impl<S: EventSet> GivenEvents<S> {
    /// Projects the events of the projection's set, in order, into `model`: an
    /// [`InMemoryReadModel`], or the read model of a database, whose tables the test then reads.
    ///
    /// # Panics
    ///
    /// Panics if an event cannot be projected, or not again after `clear`.
    pub async fn projection<'m, P, M>(self, projection: &P, model: &'m M) -> Projected<'m, M>
    where
        P: Projection,
        M: ReadModel<Connection = P::Connection>,
    {
        let mut transaction = model.begin().await.unwrap_or_else(unavailable);
        self.project(projection, &mut transaction, "").await;
        model.commit(transaction).await.unwrap_or_else(unavailable);
        // A rebuild, which is rolled back.
        let mut transaction = model.begin().await.unwrap_or_else(unavailable);
        if let Err(error) = projection.clear(&mut transaction).await {
            Failure::new(format!("`clear` of the projection `{}` failed.", P::NAME))
                .block(reasons(&*error))
                .raise();
        }
        self.project(projection, &mut transaction, " again, after `clear`").await;
        Projected { model }
    }

    async fn project<P: Projection>(&self, projection: &P, to: &mut P::Connection, when: &str) {
        let categories = <P::Events as EventSet>::CATEGORIES;
        let own = |event: &&StoredEvent| categories.contains(&event.stream.category());
        for event in self.stored.iter().filter(own) {
            let (what, projected) = match decoded::<P::Events>(event) {
                Some(recorded) => {
                    (code(&recorded.event, false), projection.project(&recorded, to).await)
                }
                None if event.content == StoredContent::Erased => {
                    (format!("the erasure of {}", event.stream), {
                        projection.erase(&event.stream, to).await
                    })
                }
                None => continue,
            };
            if let Err(error) = projected {
                Failure::new(format!(
                    "The projection `{}` cannot project `{what}`{when}.",
                    P::NAME
                ))
                .block(reasons(&*error))
                .raise();
            }
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the signature of `unwrap_or_else`")]
fn unavailable<T>(error: StoreError) -> T {
    panic!("the read model is unavailable: {error}")
}

impl<T: fmt::Debug + Clone + PartialEq> Projected<'_, InMemoryReadModel<T>> {
    /// Asserts the value of the read model.
    ///
    /// # Panics
    ///
    /// Panics if it differs.
    #[track_caller]
    #[expect(
        clippy::needless_pass_by_value,
        clippy::return_self_not_must_use,
        reason = "a test writes the value where it expects it, and may end with it"
    )]
    pub fn then(self, expected: T) -> Self {
        let value = self.model.get();
        if expected != value {
            Failure::new("The read model is not what the test expects.")
                .diff(&pretty(&expected), &pretty(&value))
                .text("If the projection is right, write:")
                .block(format!(".then({})", code(&value, false)))
                .raise();
        }
        self
    }
}
