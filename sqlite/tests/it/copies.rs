//! Copied files.

use std::path::Path;

use composable_rust_core::queue::{Checkpoint, Checkpoints as _, Leases as _, Pause};
use composable_rust_core::store::{Adoption, EventStore as _, ExpectedVersion};
use composable_rust_sqlite::{ConnectError, SqliteEventStore};

use crate::make::{append, commit, load};

/// A file with an event, and a copy of it.
async fn copied(folder: &Path) -> (SqliteEventStore, std::path::PathBuf) {
    let (path, copy) = (folder.join("log.db"), folder.join("copy.db"));
    let store = SqliteEventStore::open(&path).await.unwrap();
    commit(&store, &append("1", ExpectedVersion::EMPTY, 1)).await;
    let read = format!("bus/{}-commands/back-commands", store.log().id);
    let checkpoint = Checkpoint { partition: 0, offset: 7, event_id: None };
    for name in [&*read, "follow/policy"] {
        store.save_checkpoints(name, std::slice::from_ref(&checkpoint)).await.unwrap();
    }
    drop(store);
    let store = SqliteEventStore::open(&path).await.unwrap();
    let vacuumed = format!("vacuum into '{}'", copy.display());
    let mut connection = crate::files::plain(&path).await;
    sqlx::Executor::execute(&mut connection, &*vacuumed).await.unwrap();
    (store, copy)
}

#[tokio::test]
async fn a_copy_is_rejected_and_the_original_opens() {
    let folder = tempfile::tempdir().unwrap();
    let (store, copy) = copied(folder.path()).await;
    let error = SqliteEventStore::open(&copy).await.unwrap_err();
    assert!(matches!(error, ConnectError::Copied { .. }), "{error:?}");
    assert!(error.to_string().contains("adopt(Adoption::Successor)"), "{error}");
    let renamed = folder.path().join("renamed.db");
    drop(store);
    std::fs::rename(folder.path().join("log.db"), &renamed).unwrap();
    SqliteEventStore::open(&renamed).await.expect("it was only renamed");
}

#[tokio::test]
async fn a_successor_is_the_same_log() {
    let folder = tempfile::tempdir().unwrap();
    let (store, copy) = copied(folder.path()).await;
    let adopt = SqliteEventStore::builder(&copy).adopt(Adoption::Successor);
    let adopted = adopt.open().await.unwrap();
    assert_eq!(adopted.log(), store.log());
    assert!(!adopted.load_leases(&[]).await.unwrap().is_log_paused());
    drop(adopted);
    SqliteEventStore::open(&copy).await.expect("it is at home here");
}

#[tokio::test]
async fn an_adopted_copy_is_a_paused_log_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (store, copy) = copied(folder.path()).await;
    let adopted = SqliteEventStore::builder(&copy).adopt(Adoption::Copy).open().await.unwrap();
    assert_ne!(adopted.log().id, store.log().id);
    assert_ne!(adopted.log().secret, store.log().secret);
    assert_eq!(load(&adopted, "1").await, load(&store, "1").await);
    assert!(adopted.load_leases(&[]).await.unwrap().is_log_paused());
    let offset = async |name: String| adopted.load_checkpoints(&name).await.unwrap()[0].offset;
    assert_eq!(offset(format!("bus/{}-commands/back-commands", adopted.log().id)).await, 7);
    assert_eq!(offset("follow/policy".to_owned()).await, 7);
    // A second adoption changes nothing.
    let log = adopted.log();
    adopted.resume(Pause::LOG).await.unwrap();
    drop(adopted);
    let again = SqliteEventStore::builder(&copy).adopt(Adoption::Copy).open().await.unwrap();
    assert_eq!(again.log(), log);
    assert!(!again.load_leases(&[]).await.unwrap().is_log_paused());
    drop(again);
    // Unless it is a copy that the store cannot know.
    let undetected = SqliteEventStore::builder(&copy).adopt(Adoption::UndetectedCopy);
    let undetected = undetected.open().await.unwrap();
    assert_ne!(undetected.log().id, log.id);
    assert!(undetected.load_leases(&[]).await.unwrap().is_log_paused());
}
