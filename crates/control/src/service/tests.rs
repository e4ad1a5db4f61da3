//! What holds between processes, and when the store holds what it should not.

use std::sync::Arc;

use serde_json::json;
use tollgate_model::{Managed, Pepper};
use tollgate_store::{
    CatalogChange, CatalogObject, CatalogStore, Effects, KeyStore, MemoryStore, ObjectChange,
    ObjectKind,
};

use super::*;
use crate::EXAMPLE_CATALOG;
use crate::testing::{BEGIN, CountingIds, House, Published, options};

async fn create_organization(house: &House, id: &str) -> ControlResult<()> {
    let input = json!({ "id": id });
    let made = house
        .control
        .create_object(ObjectKind::Organization, &input, "test");
    made.await.map(|_| ())
}

async fn put(store: &MemoryStore, kind: ObjectKind, id: &str, document: &str) {
    let object = CatalogObject {
        kind,
        id: id.to_owned(),
        organization: None,
        document: document.to_owned(),
        managed: Managed::Api,
        created_at: BEGIN,
        updated_at: BEGIN,
    };
    let change = CatalogChange {
        expected_version: store.catalog_version().await.unwrap(),
        changes: vec![ObjectChange::Put(object)],
        effects: Effects::default(),
    };
    store.commit_catalog(change).await.unwrap();
}

#[tokio::test]
async fn a_start_publishes_every_key_and_then_the_catalog() {
    let house = House::example().await;
    let key = json!({"subscription_id": "acme-widgets", "name": "n"});
    house.control.create_key(&key, "test").await.unwrap();
    let again = House::beside(Arc::clone(&house.store));
    again.control.start().await.unwrap();
    let published = again.sink.take();
    let [
        Published::Keys(keys),
        Published::AllKeys(_),
        Published::Catalog(catalog),
    ] = published.as_slice()
    else {
        panic!("{published:?}");
    };
    assert_eq!((keys.version, keys.changes.len()), (2, 1));
    assert_eq!((catalog.version, catalog.plans.len()), (2, 8));
    assert_eq!(catalog.apis["widgets"].routes.len(), 3);
}

#[tokio::test]
async fn a_change_decided_on_an_old_number_is_decided_anew() {
    let one = House::example().await;
    let other = House::beside(Arc::clone(&one.store));
    other.control.start().await.unwrap();
    other.sink.take();
    create_organization(&one, "one").await.unwrap();
    // `other` has not heard of it yet.
    create_organization(&other, "other").await.unwrap();
    let lines = other.sink.take_lines();
    assert_eq!(lines, ["all 2", "catalog 2", "catalog 3"]);
    assert!(
        other
            .control
            .get_object(ObjectKind::Organization, "one")
            .is_ok()
    );
    // And what was decided anew sees what is there now.
    let taken = create_organization(&one, "other").await;
    assert!(
        matches!(taken, Err(ControlError::AlreadyExists { .. })),
        "{taken:?}"
    );
}

#[tokio::test]
async fn refreshing_takes_over_what_another_process_did() {
    let one = House::example().await;
    let other = House::beside(Arc::clone(&one.store));
    other.control.start().await.unwrap();
    let key = json!({"subscription_id": "acme-widgets", "name": "n"});
    let first = other.control.create_key(&key, "test").await.unwrap();
    let second = other.control.create_key(&key, "test").await.unwrap();
    assert!(one.control.refresh().await.unwrap());
    assert_eq!(
        one.sink.take_lines(),
        ["keys 3 put put", "all 3", "catalog 3"]
    );
    assert!(!one.control.refresh().await.unwrap());
    other
        .control
        .revoke_key(first.view.key.id.as_str(), "test")
        .await
        .unwrap();
    let text = EXAMPLE_CATALOG.replace("units = 1000,", "units = 5,");
    other.apply(&text).await;
    assert!(one.control.refresh().await.unwrap());
    let published = one.sink.take();
    let [
        Published::Keys(keys),
        Published::AllKeys(_),
        Published::Catalog(catalog),
    ] = published.as_slice()
    else {
        panic!("{published:?}");
    };
    assert_eq!(keys.changes.len(), 2);
    assert_eq!(catalog.plans["free"].quota.unwrap().units, 5);
    assert_ne!(first.view.key.id, second.view.key.id);
}

#[tokio::test]
async fn a_key_written_beside_a_foreign_change_is_published_with_it() {
    let one = House::example().await;
    let other = House::beside(Arc::clone(&one.store));
    other.control.start().await.unwrap();
    create_organization(&other, "other").await.unwrap();
    let key = json!({"subscription_id": "acme-widgets", "name": "n"});
    one.control.create_key(&key, "test").await.unwrap();
    assert_eq!(one.sink.take_lines(), ["keys 3 put", "all 3", "catalog 3"]);
}

#[tokio::test]
async fn a_broken_stored_catalog_never_replaces_the_last_good_one() {
    let house = House::example().await;
    for broken in [
        "not json",
        r#"{"id": "x", "name": 5}"#,
        r#"{"id": "x", "name": "X", "colour": "red"}"#,
    ] {
        put(&house.store, ObjectKind::Organization, "x", broken).await;
        let failed = house.control.refresh().await;
        assert!(matches!(failed, Err(ControlError::Store(_))), "{broken}");
        assert!(!house.control.refresh().await.unwrap(), "told once");
        assert!(house.sink.take().is_empty());
        assert_eq!(house.control.catalog().version, 1);
        let restarted = House::beside(Arc::clone(&house.store));
        let failed = restarted.control.start().await.unwrap_err();
        assert!(
            failed.to_string().contains("organization \"x\""),
            "{failed}"
        );
    }
    put(
        &house.store,
        ObjectKind::Organization,
        "x",
        r#"{"id": "x", "name": "X"}"#,
    )
    .await;
    assert!(house.control.refresh().await.unwrap());
    assert_eq!(house.sink.take_lines(), ["all 5", "catalog 5"]);
}

#[tokio::test]
async fn keys_whose_subscription_is_gone_are_removed_at_the_next_start() {
    let house = House::example().await;
    let key = json!({"subscription_id": "acme-widgets", "name": "n"});
    house.control.create_key(&key, "test").await.unwrap();
    let change = CatalogChange {
        expected_version: 2,
        changes: vec![ObjectChange::Remove {
            kind: ObjectKind::Subscription,
            id: "acme-widgets".to_owned(),
        }],
        effects: Effects::default(),
    };
    house.store.commit_catalog(change).await.unwrap();
    let again = House::beside(Arc::clone(&house.store));
    again.control.start().await.unwrap();
    assert_eq!(again.sink.take_lines(), ["keys 3", "all 3", "catalog 4"]);
    assert!(house.store.load_keys(None, 10).await.unwrap().is_empty());
    assert!(!again.control.refresh().await.unwrap());
}

#[tokio::test]
async fn a_pruned_subscription_takes_its_keys_along() {
    let house = House::example().await;
    let key = json!({"subscription_id": "acme-widgets", "name": "n"});
    house.control.create_key(&key, "test").await.unwrap();
    house.sink.take();
    let start = EXAMPLE_CATALOG.find("[[organization]]").unwrap();
    let text = &EXAMPLE_CATALOG[..start];
    house.control.apply(text, &options(true)).await.unwrap();
    assert_eq!(house.sink.take_lines(), ["catalog 3", "keys 4 remove"]);
}

#[tokio::test]
async fn a_store_belongs_to_its_pepper() {
    let house = House::empty().await;
    let same = House::beside(Arc::clone(&house.store));
    same.control.start().await.unwrap();
    let stranger = Control::new(
        house.store.clone(),
        house.sink.clone(),
        house.clock.clone(),
        Arc::new(CountingIds::default()),
        Pepper::new(b"another".to_vec()),
    );
    let refused = stranger.start().await;
    assert!(matches!(refused, Err(ControlError::PepperMismatch)));
    assert!(house.sink.take().is_empty());
}
