//! The defects, most of which some event store has had.

/// States that defects are in the port alone.
macro_rules! backed_by_memory {
    ($($name:ident),*) => { $(impl Backing for $name {})* };
}

/// A defect that appends a batch in another way.
macro_rules! appending {
    ($(#[$doc:meta])* $name:ident,
        |$store:ident, $partition:pat_param, $batch:ident| $body:block) => {
        $(#[$doc])*
        pub(crate) struct $name;

        impl Intercept<InMemoryEventStore> for $name {
            async fn append_events(
                &self,
                $store: &InMemoryEventStore,
                $partition: u16,
                $batch: &[Append],
            ) -> crate::broken::store::Outcomes {
                $body
            }
        }

        backed_by_memory!($name);
    };
}

/// A defect that changes every append before it is appended.
macro_rules! changing {
    ($(#[$doc:meta])* $name:ident, |$append:ident| $change:expr) => {
        appending!($(#[$doc])* $name, |store, partition, batch| {
            let mut batch = batch.to_vec();
            for $append in &mut batch {
                $change;
            }
            store.append_events(partition, &batch).await
        });
    };
}

/// A defect that changes the outcome of every append.
macro_rules! answering {
    ($(#[$doc:meta])* $name:ident,
        |$store:pat_param, $append:pat_param, $outcome:ident| $change:expr) => {
        appending!($(#[$doc])* $name, |store, partition, batch| {
            let mut outcomes = store.append_events(partition, batch).await?;
            let $store = store;
            for ($outcome, $append) in outcomes.iter_mut().zip(batch) {
                $change
            }
            Ok(outcomes)
        });
    };
}

mod appends;
mod batches;
mod effects;
mod inbox;
mod inspection;
mod order;
mod queues;
mod reads;
mod upkeep;
mod workers;

pub(crate) use appends::*;
pub(crate) use batches::*;
pub(crate) use effects::*;
pub(crate) use inbox::*;
pub(crate) use inspection::*;
pub(crate) use order::*;
pub(crate) use queues::*;
pub(crate) use reads::*;
pub(crate) use upkeep::*;
pub(crate) use workers::*;
