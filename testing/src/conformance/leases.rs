//! Leases: one holder at a time, and a higher epoch for each acquisition.

use composable_rust_core::queue::{Lease, LeaseAction, LeaseRequest, Leases as _, Pause};

use super::builders::fresh_id;
use super::random::joined;
use super::subject::StoreUnderTest;
use super::workers::{HOUR, SOON, eventually};

fn lease(worker: &str, partition: u16, epoch: u64) -> Lease {
    Lease { worker: worker.to_owned(), partition, epoch }
}

pub(super) async fn a_free_lease_is_acquired_once(on: StoreUnderTest) {
    let (one, other) = (fresh_id(), fresh_id());
    assert_eq!(on.lease("work", 0).await, None, "it was never held");
    assert!(!on.change(one, &lease("work", 0, 1), LeaseAction::Claim, HOUR).await);
    assert!(on.change(one, &lease("work", 0, 0), LeaseAction::Claim, HOUR).await);
    for epoch in 0..3 {
        for holder in [one, other] {
            let held = lease("work", 0, epoch);
            let again = on.change(holder, &held, LeaseAction::Claim, HOUR).await;
            assert!(!again, "it is held, and not lapsed");
        }
    }
    let standing = on.lease("work", 0).await.expect("the lease is held");
    assert_eq!((standing.lease, standing.holder), (lease("work", 0, 1), Some(one)));
    assert!(!standing.lapsed);
    assert_eq!(on.lease("work/other", 0).await, None, "of one worker");
}

pub(super) async fn epochs_rise_with_every_acquisition(on: StoreUnderTest) {
    for epoch in 0..5 {
        let holder = fresh_id();
        assert!(on.change(holder, &lease("work", 0, epoch), LeaseAction::Claim, HOUR).await);
        let held = lease("work", 0, epoch + 1);
        assert_eq!(on.lease("work", 0).await.map(|standing| standing.lease), Some(held.clone()));
        assert!(on.change(holder, &held, LeaseAction::Renew, HOUR).await);
        assert!(on.change(holder, &held, LeaseAction::Release, HOUR).await);
        let standing = on.lease("work", 0).await.expect("the lease was held");
        assert_eq!((standing.lease, standing.holder), (held, None), "the epoch outlives it");
    }
}

pub(super) async fn epochs_are_at_least_the_requested_one(on: StoreUnderTest) {
    let claim = async |holder, epoch, min_epoch| {
        let changes = vec![(lease("work", 0, epoch), LeaseAction::Claim)];
        let round = LeaseRequest { holder, workers: Vec::new(), ttl: SOON, min_epoch, changes };
        eventually("a free lease", async || on.change_leases(&round).await == [true]).await;
        on.lease("work", 0).await.map(|standing| standing.lease.epoch)
    };
    assert_eq!(claim(fresh_id(), 0, 1_000).await, Some(1_000));
    assert_eq!(claim(fresh_id(), 1_000, 5).await, Some(1_001), "and higher than the last");
    assert_eq!(claim(fresh_id(), 1_001, 5_000).await, Some(5_000));
}

pub(super) async fn an_expired_lease_can_be_acquired(on: StoreUnderTest) {
    let (one, other) = (fresh_id(), fresh_id());
    assert!(on.change(one, &lease("work", 0, 0), LeaseAction::Claim, SOON).await);
    eventually("the lease's end", || async {
        on.change(other, &lease("work", 0, 1), LeaseAction::Claim, HOUR).await
    })
    .await;
    let standing = on.lease("work", 0).await.expect("the lease is held");
    assert_eq!((standing.lease.epoch, standing.holder), (2, Some(other)));
    assert!(!standing.lapsed);
    for epoch in [1, 2] {
        for action in [LeaseAction::Renew, LeaseAction::Release, LeaseAction::Claim] {
            assert!(!on.change(one, &lease("work", 0, epoch), action, HOUR).await, "{action:?}");
        }
    }
    assert!(!on.change(other, &lease("work", 0, 1), LeaseAction::Renew, HOUR).await);
    assert!(on.change(other, &lease("work", 0, 2), LeaseAction::Renew, HOUR).await);
}

pub(super) async fn a_renewed_lease_does_not_expire(on: StoreUnderTest) {
    let (one, other) = (fresh_id(), fresh_id());
    assert!(on.change(one, &lease("work", 0, 0), LeaseAction::Claim, SOON).await);
    let held = lease("work", 0, 1);
    assert!(on.change(one, &held, LeaseAction::Renew, HOUR).await);
    tokio::time::sleep(SOON * 2).await;
    assert!(!on.change(other, &held, LeaseAction::Claim, HOUR).await);
    assert!(on.lease("work", 0).await.is_some_and(|standing| !standing.lapsed));

    assert!(on.change(one, &held, LeaseAction::Renew, SOON).await, "for a shorter time");
    eventually("the lease's end", || async {
        on.lease("work", 0).await.is_some_and(|standing| standing.lapsed)
    })
    .await;
    assert!(
        on.change(one, &held, LeaseAction::Renew, HOUR).await,
        "no other process has acquired it"
    );
    assert!(!on.change(other, &held, LeaseAction::Claim, HOUR).await);
}

pub(super) async fn a_held_lease_can_be_seized(on: StoreUnderTest) {
    let (one, other) = (fresh_id(), fresh_id());
    assert!(on.change(other, &lease("new", 0, 0), LeaseAction::Seize, HOUR).await, "never held");
    assert!(on.change(one, &lease("work", 0, 0), LeaseAction::Claim, HOUR).await);
    assert!(!on.change(other, &lease("work", 0, 0), LeaseAction::Seize, HOUR).await, "its epoch");
    assert!(on.change(other, &lease("work", 0, 1), LeaseAction::Seize, HOUR).await);
    let standing = on.lease("work", 0).await.expect("the lease is held");
    assert_eq!((standing.lease, standing.holder), (lease("work", 0, 2), Some(other)));
    for epoch in [1, 2] {
        for action in [LeaseAction::Renew, LeaseAction::Release, LeaseAction::Claim] {
            assert!(!on.change(one, &lease("work", 0, epoch), action, HOUR).await, "{action:?}");
        }
    }
    assert!(on.change(other, &lease("work", 0, 2), LeaseAction::Release, HOUR).await);
    assert!(on.change(one, &lease("work", 0, 2), LeaseAction::Claim, HOUR).await);
}

pub(super) async fn each_lease_change_succeeds_or_fails_alone(on: StoreUnderTest) {
    let (one, other) = (fresh_id(), fresh_id());
    for (holder, worker) in [(one, "a"), (one, "b"), (other, "c")] {
        assert!(on.change(holder, &lease(worker, 0, 0), LeaseAction::Claim, HOUR).await);
    }
    let changes = vec![
        (lease("d", 0, 0), LeaseAction::Claim),
        (lease("a", 0, 1), LeaseAction::Renew),
        (lease("c", 0, 1), LeaseAction::Release),
        (lease("e", 0, 7), LeaseAction::Claim),
        (lease("b", 0, 1), LeaseAction::Release),
        (lease("b", 0, 1), LeaseAction::Claim),
        (lease("f", 0, 0), LeaseAction::Renew),
    ];
    let workers = vec!["d".to_owned()];
    let round = LeaseRequest { holder: one, workers, ttl: HOUR, min_epoch: 0, changes };
    let succeeded = on.change_leases(&round).await;
    assert_eq!(succeeded, [true, true, false, false, true, true, false]);
    let table = on.leases(&["a", "b", "c", "d", "e", "f"]).await;
    let held: Vec<_> = table.leases.iter().map(|l| (&*l.lease.worker, l.holder)).collect();
    assert_eq!(held, [("a", Some(one)), ("b", Some(one)), ("c", Some(other)), ("d", Some(one))]);
}

pub(super) async fn one_of_many_claimants_acquires_a_lease(on: StoreUnderTest) {
    let there = on.another_process().await;
    for epoch in 0..8 {
        let claims = [&on, &there, &on, &there, &on, &there].map(|process| {
            let (process, holder) = (process.clone(), fresh_id());
            tokio::spawn(async move {
                let free = lease("work", 0, epoch);
                (holder, process.change(holder, &free, LeaseAction::Claim, HOUR).await)
            })
        });
        let mut winners = Vec::new();
        for claim in claims {
            winners.push(joined(claim).await);
        }
        winners.retain(|(_, won)| *won);
        assert_eq!(winners.len(), 1, "one of six has the lease");
        let held = lease("work", 0, epoch + 1);
        let standing = on.lease("work", 0).await.expect("the lease is held");
        assert_eq!((standing.lease, standing.holder), (held.clone(), Some(winners[0].0)));
        assert!(on.change(winners[0].0, &held, LeaseAction::Release, HOUR).await);
    }
}

pub(super) async fn a_pause_is_visible_to_all_processes(on: StoreUnderTest) {
    let one = fresh_id();
    assert!(on.change(one, &lease("work", 0, 0), LeaseAction::Claim, HOUR).await);
    let pauses = async || {
        let (some, none) = (on.leases(&["work"]).await, on.leases(&[]).await);
        assert_eq!(some.pauses, none.pauses, "for any workers");
        assert_eq!((some.leases.len(), none.leases.len()), (1, 0), "leases stay as they are");
        assert_eq!(some.is_log_paused(), some.pause(Pause::LOG).is_some());
        some.pauses
    };
    let pause = async |name: &str, by| {
        on.store.pause(name, by).await.expect("the pause should be written");
    };
    let resume = async |name: &str| {
        on.store.resume(name).await.expect("the end of the pause should be written");
    };
    assert_eq!(pauses().await, []);
    resume(Pause::LOG).await;
    pause(Pause::LOG, None).await;
    pause("gateway/bank", Some("ann")).await;
    let before = pauses().await;
    let named: Vec<_> = before.iter().map(|of| (&*of.name, of.by.as_deref())).collect();
    assert_eq!(named, [("gateway/bank", Some("ann")), (Pause::LOG, None)], "in order");
    pause("gateway/bank", Some("bob")).await;
    pause(Pause::LOG, Some("bob")).await;
    assert_eq!(pauses().await, before, "they are paused already");
    resume(Pause::LOG).await;
    assert_eq!(pauses().await, before[..1]);
    resume("gateway/bank").await;
    resume("gateway/bank").await;
    assert_eq!(pauses().await, []);
}

pub(super) async fn members_are_announced_and_withdrawn(on: StoreUnderTest) {
    let (one, other) = (fresh_id(), fresh_id());
    let announce = async |holder, workers: &[&str]| {
        let workers = workers.iter().map(|&worker| worker.to_owned()).collect();
        on.change_leases(&LeaseRequest {
            holder,
            workers,
            ttl: HOUR,
            min_epoch: 0,
            changes: Vec::new(),
        })
        .await;
    };
    let member = |worker: &str, holder| (worker.to_owned(), holder);
    announce(one, &["b", "a"]).await;
    announce(other, &["b", "c"]).await;
    announce(one, &["b", "a"]).await;
    let all = ["a", "b", "c"];
    let expected = [member("a", one), member("b", one), member("b", other), member("c", other)];
    assert_eq!(on.leases(&all).await.members, expected);
    assert_eq!(on.another_process().await.leases(&["b"]).await.members, expected[1..3]);
    announce(one, &["c"]).await;
    let expected = [member("b", other), member("c", one), member("c", other)];
    assert_eq!(on.leases(&all).await.members, expected);
    announce(other, &[]).await;
    assert_eq!(on.leases(&all).await.members, [member("c", one)]);
}

pub(super) async fn members_expire(on: StoreUnderTest) {
    let (one, other) = (fresh_id(), fresh_id());
    assert!(on.change(one, &lease("work", 0, 0), LeaseAction::Claim, SOON).await);
    assert!(on.change(other, &lease("more", 0, 0), LeaseAction::Claim, HOUR).await);
    eventually("the end of the member and of what it held", || async {
        let table = on.leases(&["more", "work"]).await;
        let lapsed: Vec<_> = table.leases.iter().map(|standing| standing.lapsed).collect();
        table.members == [("more".to_owned(), other)] && lapsed == [false, true]
    })
    .await;
}

pub(super) async fn leases_are_ordered_by_worker_and_partition(on: StoreUnderTest) {
    let holder = fresh_id();
    let free = |worker, partition| (lease(worker, partition, 0), LeaseAction::Claim);
    let partitions = (0..on.partitions()).rev();
    let changes: Vec<_> =
        partitions.flat_map(|p| ["b", "a/x", "c", "a"].map(|worker| free(worker, p))).collect();
    let round = LeaseRequest { holder, workers: Vec::new(), ttl: HOUR, min_epoch: 0, changes };
    assert!(on.change_leases(&round).await.iter().all(|claimed| *claimed));
    let workers = ["b", "nobody", "a", "a/x"];
    let found: Vec<_> = on.leases(&workers).await.leases.into_iter().map(|l| l.lease).collect();
    let held = |worker| (0..on.partitions()).map(move |partition| lease(worker, partition, 1));
    assert_eq!(found, ["a", "a/x", "b"].into_iter().flat_map(held).collect::<Vec<_>>());
    let none = on.store.load_leases(&[]).await.expect("the leases are read");
    assert_eq!(none, composable_rust_core::queue::LeaseSnapshot::default());
}
