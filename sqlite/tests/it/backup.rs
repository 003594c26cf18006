//! Copies of a log in use.

use composable_rust_core::store::{Adoption, EventStore as _, StoreError};
use composable_rust_sqlite::SqliteEventStore;

/// Two backups to one name, as of two operators.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_backups_gets_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteEventStore::open(folder.path().join("orders.db")).await.unwrap();
    for round in 0..5 {
        let copy = folder.path().join(format!("copy-{round}.db"));
        let (one, other) = tokio::join!(store.back_up(&copy), store.back_up(&copy));
        let (bytes, refused) = match (one, other) {
            (Ok(bytes), Err(refused)) | (Err(refused), Ok(bytes)) => (bytes, refused),
            both => panic!("{both:?}"),
        };
        assert!(matches!(&refused, StoreError::Invalid(text) if text.ends_with("exists")));
        assert_eq!(std::fs::metadata(&copy).unwrap().len(), bytes);
        let opened = SqliteEventStore::builder(&copy).adopt(Adoption::Successor).open().await;
        assert_eq!(opened.unwrap().log().id, store.log().id);
    }
    let left = std::fs::read_dir(folder.path()).unwrap().map(|of| of.unwrap().file_name());
    let partial = left.filter(|name| name.to_string_lossy().ends_with(".partial"));
    assert_eq!(partial.count(), 0);
}
