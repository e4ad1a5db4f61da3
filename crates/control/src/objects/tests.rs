//! What holds for objects that the API makes and changes.

use serde_json::{Value as Json, json};
use tollgate_model::OrganizationId;
use tollgate_store::{CatalogStore, KeyStore, PageRequest};

use super::*;
use crate::testing::House;

use tollgate_store::ObjectKind::{Api, Limit, Organization, Plan, Subscription};

fn fields(error: ControlError) -> Vec<String> {
    let ControlError::Invalid(problems) = error else {
        panic!("{error:?}");
    };
    let line = |p: crate::Problem| format!("{} {}", p.field, p.code.as_str());
    problems.into_iter().map(line).collect()
}

async fn create(house: &House, kind: ObjectKind, input: Json) -> ControlResult<Json> {
    let made = house.control.create_object(kind, &input, "test").await;
    made.map(|entry| object_json(&entry))
}

async fn patch(house: &House, kind: ObjectKind, id: &str, patch: Json) -> ControlResult<Json> {
    let changed = house.control.patch_object(kind, id, &patch, "test").await;
    changed.map(|entry| object_json(&entry))
}

#[tokio::test]
async fn objects_of_every_kind_are_made_from_json_in_either_spelling() {
    let house = House::example().await;
    let api = json!({
        "id": "gadgets",
        "upstreams": ["http://h:1"],
        "pathPrefix": "/gadgets",
        "anonymousPlan": "free",
        "routes": [{"path": "/gadgets/{id}", "costMax": 9, "labels": {"aB": "c"}}],
    });
    let api = create(&house, Api, api).await.unwrap();
    assert_eq!(api["path_prefix"], "/gadgets");
    assert_eq!(api["route"][0]["cost_max"], 9);
    assert_eq!(api["route"][0]["labels"], json!({"aB": "c"}));
    assert_eq!(api["managed"], "api");
    assert_eq!(api["connect_timeout"], "2s");
    let limit = create(&house, Limit, json!({"max": 1, "per": "day"}))
        .await
        .unwrap();
    assert!(limit["id"].as_str().unwrap().starts_with("lim_"));
    let plan =
        json!({"id": "p", "limits": [limit["id"]], "price": {"amount": 9, "currency": "EUR"}});
    let plan = create(&house, Plan, plan).await.unwrap();
    assert_eq!(
        plan["price"],
        json!({"amount": "9", "currency": "EUR", "every": "month"})
    );
    assert_eq!(plan["version"], 1);
    let organization = create(&house, Organization, json!({"name": "O"}))
        .await
        .unwrap();
    let subscription = json!({
        "organization": organization["id"],
        "apis": ["gadgets"],
        "tier": "p",
        "timeZone": "Asia/Tokyo",
        "state": "trialing",
    });
    let subscription = create(&house, Subscription, subscription).await.unwrap();
    assert_eq!(subscription["plan"], "p");
    assert_eq!(subscription["state"], "trialing");
    // The day of creation is the subscriber's.
    assert_eq!(subscription["started_on"], "2025-11-25");
    let catalog = house.control.catalog();
    assert_eq!(catalog.version, 6);
    assert_eq!(catalog.subscriptions.len(), 2);
    assert_eq!(house.sink.take_lines().len(), 5);
}

#[tokio::test]
async fn wrong_objects_are_told_field_by_field() {
    let house = House::example().await;
    let told = create(
        &house,
        Plan,
        json!({"id": "A_b", "quota": {"units": "x"}, "version": 3}),
    )
    .await;
    assert_eq!(
        fields(told.unwrap_err()),
        [
            "id invalid",
            "quota.units wrong_type",
            "quota.every missing",
            "version unknown"
        ]
    );
    let told = create(
        &house,
        Subscription,
        json!({"organization": "acme", "apis": ["no"], "plan": "no"}),
    )
    .await;
    assert_eq!(
        fields(told.unwrap_err()),
        ["plan unresolved", "apis[0] unresolved"]
    );
    let told = create(
        &house,
        Api,
        json!({"upstreams": ["http://h"], "path_prefix": "/v1"}),
    )
    .await;
    assert_eq!(fields(told.unwrap_err()), ["path_prefix duplicate"]);
    let told = create(
        &house,
        Api,
        json!({"id": "z", "upstreams": ["http://h"], "path_prefix": "/v1"}),
    )
    .await;
    assert_eq!(fields(told.unwrap_err()), ["path_prefix duplicate"]);
    let told = create(&house, Plan, json!("free")).await;
    assert_eq!(fields(told.unwrap_err()), [" wrong_type"]);
    let taken = create(&house, Plan, json!({"id": "free"})).await;
    assert!(matches!(
        taken,
        Err(ControlError::AlreadyExists { kind: "plan", .. })
    ));
    assert!(house.sink.take().is_empty());
}

#[tokio::test]
async fn what_the_file_declares_only_the_file_changes_but_for_a_state() {
    let house = House::example().await;
    let refused = patch(&house, Plan, "free", json!({"name": "Gratis"})).await;
    assert!(matches!(
        refused,
        Err(ControlError::ManagedByFile { kind: "plan", .. })
    ));
    let both = json!({"state": "suspended", "plan": "pro"});
    let refused = patch(&house, Subscription, "acme-widgets", both).await;
    assert!(matches!(refused, Err(ControlError::ManagedByFile { .. })));
    let refused = house.control.delete_object(Plan, "scale", "test").await;
    assert!(matches!(refused, Err(ControlError::ManagedByFile { .. })));
    assert!(house.sink.take().is_empty());
    let state = json!({"state": "suspended"});
    let changed = patch(&house, Subscription, "acme-widgets", state)
        .await
        .unwrap();
    assert_eq!(changed["state"], "suspended");
    assert_eq!(changed["managed"], "file");
    assert_eq!(house.sink.take_lines(), ["catalog 2"]);
}

#[tokio::test]
async fn a_patch_merges_and_repeating_it_commits_nothing() {
    let house = House::example().await;
    let plan = json!({"id": "p", "quota": {"units": 1, "every": "day"}, "limits": ["strict"]});
    let made = create(&house, Plan, plan).await.unwrap();
    let change = json!({"quota": {"units": 2}, "limits": null, "keysMax": 4});
    let changed = patch(&house, Plan, "p", change.clone()).await.unwrap();
    assert_eq!(
        changed["quota"],
        json!({
            "units": 2, "every": "day", "on_exceeded": "block", "grace_percent": null,
        })
    );
    assert_eq!(changed["limits"], json!([]));
    assert_eq!(changed["keys_max"], 4);
    assert_eq!(
        (&made["version"], &changed["version"]),
        (&json!(1), &json!(2))
    );
    let version = house.store.catalog_version().await.unwrap();
    assert_eq!(patch(&house, Plan, "p", change).await.unwrap(), changed);
    // What was shown may be sent back as it is.
    assert_eq!(
        patch(&house, Plan, "p", changed.clone()).await.unwrap(),
        changed
    );
    assert_eq!(house.store.catalog_version().await.unwrap(), version);
    for (wrong, told) in [
        (json!({"version": 9}), "version invalid"),
        (json!({"id": "q"}), "id invalid"),
        (json!({"managed": "file"}), "managed invalid"),
        (json!({"quota": {"units": -1}}), "quota.units out_of_range"),
        (json!({"qota": {}}), "qota unknown"),
    ] {
        assert_eq!(
            fields(patch(&house, Plan, "p", wrong).await.unwrap_err()),
            [told]
        );
    }
    let unknown = patch(&house, Plan, "q", json!({})).await;
    assert!(matches!(
        unknown,
        Err(ControlError::NotFound { kind: "plan", .. })
    ));
    let audit = house.store.list_audit(1).await.unwrap();
    assert_eq!(audit[0].action, "plan.update");
    assert!(audit[0].detail.contains("\"quota.units\""));
}

#[tokio::test]
async fn a_cancelled_subscription_stays_cancelled() {
    let house = House::example().await;
    let state = async |state: &str| {
        patch(
            &house,
            Subscription,
            "acme-widgets",
            json!({"state": state}),
        )
        .await
    };
    state("past_due").await.unwrap();
    state("cancelled").await.unwrap();
    assert!(matches!(
        state("active").await,
        Err(ControlError::Impossible(_))
    ));
}

#[tokio::test]
async fn what_others_refer_to_is_not_deleted() {
    let house = House::example().await;
    create(&house, Limit, json!({"id": "l", "max": 1, "per": "day"}))
        .await
        .unwrap();
    create(&house, Plan, json!({"id": "p", "limits": ["l"]}))
        .await
        .unwrap();
    let organization = json!({"id": "o"});
    create(&house, Organization, organization).await.unwrap();
    let subscription = json!({"id": "s", "organization": "o", "apis": ["widgets"], "plan": "p"});
    create(&house, Subscription, subscription).await.unwrap();
    let delete = async |kind, id: &str| house.control.delete_object(kind, id, "test").await;
    for (kind, id) in [(Limit, "l"), (Plan, "p"), (Organization, "o")] {
        assert!(
            matches!(delete(kind, id).await, Err(ControlError::Conflict(_))),
            "{id}"
        );
    }
    for (kind, id) in [
        (Subscription, "s"),
        (Plan, "p"),
        (Limit, "l"),
        (Organization, "o"),
    ] {
        delete(kind, id).await.unwrap();
        assert!(
            matches!(delete(kind, id).await, Err(ControlError::NotFound { .. })),
            "{id}"
        );
    }
}

#[tokio::test]
async fn a_subscriptions_keys_go_with_it_and_gateways_hear_of_it() {
    let house = House::example().await;
    let subscription =
        json!({"id": "s", "organization": "acme", "apis": ["widgets"], "plan": "pro"});
    create(&house, Subscription, subscription).await.unwrap();
    let key = json!({"subscription_id": "s", "name": "n"});
    house.control.create_key(&key, "test").await.unwrap();
    house.sink.take();
    house
        .control
        .delete_object(Subscription, "s", "test")
        .await
        .unwrap();
    assert_eq!(house.sink.take_lines(), ["catalog 4", "keys 5 remove"]);
    assert!(house.store.load_keys(None, 10).await.unwrap().is_empty());
    // The number is known: the next change is decided on it at once.
    create(&house, Organization, json!({"id": "o"}))
        .await
        .unwrap();
    assert_eq!(house.sink.take_lines(), ["catalog 6"]);
    assert!(!house.control.refresh().await.unwrap());
}

#[tokio::test]
async fn lists_are_newest_first_and_end() {
    let house = House::example().await;
    for n in 0..5 {
        house.clock.pass_us(1_000 * (n % 2));
        let organization = json!({"id": format!("o{n}")});
        create(&house, Organization, organization).await.unwrap();
    }
    let mut seen = Vec::new();
    let mut page = PageRequest {
        limit: 2,
        cursor: None,
    };
    loop {
        let filter = ObjectFilter::default();
        let found = house
            .control
            .list_objects(Organization, &filter, &page)
            .unwrap();
        assert!(found.items.len() <= 2);
        seen.extend(found.items.iter().map(|entry| entry.object.id().to_owned()));
        page.cursor = found.next_cursor;
        if page.cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["o4", "o3", "o2", "o1", "o0", "acme"]);
    let filter = ObjectFilter {
        organization: Some(OrganizationId::new("acme")),
    };
    let page = PageRequest::default();
    let control = &house.control;
    assert_eq!(
        control
            .list_objects(Subscription, &filter, &page)
            .unwrap()
            .items
            .len(),
        1
    );
    for (limit, cursor) in [(0, None), (1_001, None), (1, Some("x".to_owned()))] {
        let page = PageRequest { limit, cursor };
        assert!(control.list_objects(Plan, &filter, &page).is_err());
    }
}
