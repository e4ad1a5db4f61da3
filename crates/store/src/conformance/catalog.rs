//! Guarantees of [`CatalogStore`](crate::CatalogStore).

use futures_util::future::join_all;
use tollgate_model::{Managed, OrganizationId};

use super::{Checked, assert_one_wins, refusal};
use crate::testing::{effects, object};
use crate::{
    CatalogChange, CatalogObject, Effects, ObjectChange, ObjectKind, Store, StoreErrorKind,
    StoreResult,
};

fn change(expected_version: u64, changes: Vec<ObjectChange>) -> CatalogChange {
    CatalogChange {
        expected_version,
        changes,
        effects: Effects::default(),
    }
}

fn remove(kind: ObjectKind, id: &str) -> ObjectChange {
    ObjectChange::Remove {
        kind,
        id: id.to_owned(),
    }
}

async fn load_sorted(store: &dyn Store) -> StoreResult<(u64, Vec<CatalogObject>)> {
    let mut catalog = store.load_catalog().await?;
    catalog
        .objects
        .sort_by(|a, b| (a.kind, &a.id).cmp(&(b.kind, &b.id)));
    Ok((catalog.version, catalog.objects))
}

/// A new store is empty.
pub async fn an_empty_store_has_number_zero_and_no_objects(store: &dyn Store) -> Checked {
    assert_eq!(load_sorted(store).await?, (0, Vec::new()));
    assert_eq!(store.catalog_version().await?, 0);
    assert_eq!(store.list_audit(10).await?, Vec::new());
    Ok(())
}

/// What is committed is read back, under the next number.
pub async fn a_commit_raises_the_number_by_one_and_keeps_every_field(store: &dyn Store) -> Checked {
    let api = CatalogObject {
        organization: Some(OrganizationId::new("acme")),
        managed: Managed::File,
        document: "{\"name\":\"ä \\\"quoted\\\"\"}".to_owned(),
        ..object(ObjectKind::Api, "widgets")
    };
    let plan = object(ObjectKind::Plan, "free");
    let puts = vec![
        ObjectChange::Put(api.clone()),
        ObjectChange::Put(plan.clone()),
    ];
    assert_eq!(store.commit_catalog(change(0, puts)).await?, 1);
    assert_eq!(load_sorted(store).await?, (1, vec![api, plan]));
    assert_eq!(store.commit_catalog(change(1, Vec::new())).await?, 2);
    assert_eq!(store.catalog_version().await?, 2);
    Ok(())
}

/// Changes apply in order.
pub async fn a_put_replaces_and_a_removal_removes(store: &dyn Store) -> Checked {
    let first = object(ObjectKind::Plan, "free");
    let second = CatalogObject {
        document: "{}".to_owned(),
        managed: Managed::File,
        ..first.clone()
    };
    let changes = vec![
        ObjectChange::Put(first.clone()),
        ObjectChange::Put(second.clone()),
        ObjectChange::Put(object(ObjectKind::Plan, "gone")),
        remove(ObjectKind::Plan, "gone"),
    ];
    store.commit_catalog(change(0, changes)).await?;
    assert_eq!(load_sorted(store).await?, (1, vec![second]));
    let removal = vec![remove(ObjectKind::Plan, "free")];
    store.commit_catalog(change(1, removal)).await?;
    assert_eq!(load_sorted(store).await?, (2, Vec::new()));
    Ok(())
}

/// A plan and an API may share an id.
pub async fn kinds_have_names_of_their_own(store: &dyn Store) -> Checked {
    let mut all: Vec<_> = ObjectKind::ALL.map(|kind| object(kind, "same")).into();
    let puts = all.iter().cloned().map(ObjectChange::Put).collect();
    store.commit_catalog(change(0, puts)).await?;
    all.sort_by_key(|object| object.kind);
    assert_eq!(load_sorted(store).await?, (1, all));
    Ok(())
}

/// The number decides.
pub async fn a_commit_on_an_old_number_changes_nothing(store: &dyn Store) -> Checked {
    let free = object(ObjectKind::Plan, "free");
    store
        .commit_catalog(change(0, vec![ObjectChange::Put(free.clone())]))
        .await?;
    for expected in [0, 2] {
        let late = CatalogChange {
            effects: effects("plan.update", "other"),
            ..change(
                expected,
                vec![ObjectChange::Put(object(ObjectKind::Plan, "other"))],
            )
        };
        let refused = store.commit_catalog(late).await;
        assert_eq!(refusal(&refused), Some(StoreErrorKind::Conflict));
    }
    assert_eq!(load_sorted(store).await?, (1, vec![free]));
    assert_eq!(store.list_audit(10).await?, Vec::new());
    Ok(())
}

/// A removal of nothing takes the changes beside it along.
pub async fn removing_what_is_not_there_changes_nothing(store: &dyn Store) -> Checked {
    let changes = vec![
        ObjectChange::Put(object(ObjectKind::Plan, "free")),
        remove(ObjectKind::Api, "free"),
    ];
    let refused = store.commit_catalog(change(0, changes)).await;
    assert_eq!(refusal(&refused), Some(StoreErrorKind::NotFound));
    assert_eq!(load_sorted(store).await?, (0, Vec::new()));
    Ok(())
}

/// Every field of an audit row survives; the newest stands first.
pub async fn audit_rows_commit_with_their_change_and_come_newest_first(
    store: &dyn Store,
) -> Checked {
    let mut written = Vec::new();
    for (version, subject) in (0..).zip(["a", "b", "c"]) {
        let effects = effects("plan.update", subject);
        written.extend(effects.audit.clone());
        let change = CatalogChange {
            effects,
            ..change(version, Vec::new())
        };
        store.commit_catalog(change).await?;
    }
    written.reverse();
    assert_eq!(store.list_audit(10).await?, written);
    written.truncate(2);
    assert_eq!(store.list_audit(2).await?, written);
    Ok(())
}

/// Optimistic writers never overwrite each other.
pub async fn of_writers_on_one_number_exactly_one_wins(store: &dyn Store) -> Checked {
    let writers = (0..8).map(|n| {
        let put = ObjectChange::Put(object(ObjectKind::Plan, &format!("plan-{n}")));
        store.commit_catalog(change(0, vec![put]))
    });
    assert_one_wins(&join_all(writers).await, StoreErrorKind::Conflict);
    let (version, objects) = load_sorted(store).await?;
    assert_eq!((version, objects.len()), (1, 1));
    Ok(())
}
