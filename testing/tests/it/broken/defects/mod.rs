//! The defects, most of which some event store has had.

/// Changes every append before it is appended.
macro_rules! changing {
    ($(#[$doc:meta])* $name:ident, |$append:ident| $change:expr) => {
        $(#[$doc])*
        pub(crate) struct $name;

        impl Defect for $name {
            async fn append(
                &self,
                store: &InMemoryEventStore,
                partition: u16,
                batch: &[Append],
            ) -> Verdicts {
                let mut batch = batch.to_vec();
                for $append in &mut batch {
                    $change;
                }
                store.append_events(partition, &batch).await
            }
        }
    };
}

mod appends;
mod batches;
mod effects;
mod marks;
mod order;
mod queues;
mod reads;
mod upkeep;
mod workers;

pub(crate) use appends::*;
pub(crate) use batches::*;
pub(crate) use effects::*;
pub(crate) use marks::*;
pub(crate) use order::*;
pub(crate) use queues::*;
pub(crate) use reads::*;
pub(crate) use upkeep::*;
pub(crate) use workers::*;
