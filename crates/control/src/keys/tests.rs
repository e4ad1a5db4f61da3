//! What holds for keys from their making to their end.

use serde_json::{Value as Json, json};
use tollgate_model::{Pepper, SubscriptionId};
use tollgate_store::{CatalogStore, KeyFilter, KeyStore, ObjectKind, PageRequest};

use super::*;
use crate::testing::{BEGIN, House};

const HOUR_US: i64 = 3_600_000_000;

async fn create(house: &House, input: Json) -> ControlResult<CreatedKey> {
    house.control.create_key(&input, "test").await
}

async fn plain(house: &House) -> CreatedKey {
    let input = json!({"subscription_id": "acme-widgets", "name": "first"});
    create(house, input).await.unwrap()
}

fn fields(error: ControlError) -> Vec<String> {
    let ControlError::Invalid(problems) = error else {
        panic!("{error:?}");
    };
    let line = |p: crate::Problem| format!("{} {}", p.field, p.code.as_str());
    problems.into_iter().map(line).collect()
}

#[tokio::test]
async fn a_new_key_is_published_before_it_is_answered_and_stored_only_as_a_hash() {
    let house = House::example().await;
    let created = plain(&house).await;
    assert_eq!(house.sink.take_lines(), ["keys 2 put"]);
    let secret = created.secret.reveal();
    assert!(secret.starts_with("hm_") && secret.len() == 35);
    let hash = Pepper::new(b"pepper".to_vec()).hash(secret.as_bytes());
    let row = house.store.find_key_by_hash(&hash).await.unwrap().unwrap();
    assert_eq!(row.key.id, created.view.key.id);
    let shown = created.to_json();
    assert_eq!(shown["key"], json!(secret));
    assert_eq!(shown["prefix"], "hm");
    assert_eq!(shown["last4"], json!(&secret[31..]));
    assert_eq!(shown["plan"], "free");
    assert_eq!(shown["organization_id"], "acme");
    assert_eq!(shown["state"], "active");
    assert_eq!(shown["scopes"], Json::Null);
    // The secret is nowhere else: not in later answers, not in the audit trail.
    let later = house
        .control
        .get_key(created.view.key.id.as_str())
        .await
        .unwrap();
    assert_eq!(later.to_json().get("key"), None);
    let audit = house.store.list_audit(100).await.unwrap();
    assert_eq!(audit[0].action, "key.create");
    assert!(audit.iter().all(|row| !row.detail.contains(&secret[3..])));
}

#[tokio::test]
async fn everything_a_caller_sets_comes_back_in_one_spelling() {
    let house = House::example().await;
    let input = json!({
        "subscriptionId": "acme-widgets",
        "name": "all",
        "expiresAt": "2026-01-01T01:00:00+01:00",
        "allowedAddresses": ["10.0.0.0/8", "::1"],
        "limits": [{"max": 5, "per": "second"}, {"max": 9, "per": "day", "by": "address"}],
        "quota": {"units": 10, "every": "day", "onExceeded": "warn"},
        "test": true,
        "externalId": "crm-7",
        "metadata": {"teamName": "x", "n": [1, {"a": null}]},
    });
    let created = create(&house, input).await.unwrap();
    assert!(created.secret.reveal().starts_with("hm_test_"));
    let shown = created.view.to_json();
    let expected = json!({
        "name": "all",
        "expires_at": "2026-01-01T00:00:00.000000Z",
        "allowed_addresses": ["10.0.0.0/8", "::1/128"],
        "limits": [
            {"max": 5, "per": "second", "by": "key", "shadow": false},
            {"max": 9, "per": "day", "by": "address", "shadow": false},
        ],
        "quota": {"units": 10, "every": "day", "on_exceeded": "warn", "grace_percent": null},
        "test": true,
        "prefix": "hm_test",
        "external_id": "crm-7",
        "metadata": {"teamName": "x", "n": [1, {"a": null}]},
        "created_at": "2025-11-24T16:00:00.000000Z",
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(shown[name], *value, "{name}");
    }
}

#[tokio::test]
async fn a_wrong_request_is_told_field_by_field() {
    let house = House::example().await;
    let input = json!({
        "subscription_id": 7,
        "scopes": ["a b"],
        "allowed_addresses": ["10.0.0.1/8", "x"],
        "limits": [{"max": 5}],
        "metadata": [],
        "colour": "red",
    });
    let told = fields(create(&house, input).await.unwrap_err());
    assert_eq!(
        told,
        [
            "subscription_id wrong_type",
            "name missing",
            "scopes[0] invalid",
            "allowed_addresses[0] invalid",
            "allowed_addresses[1] invalid",
            "limits[0].per missing",
            "metadata wrong_type",
            "colour unknown",
        ]
    );
    let told = fields(create(&house, json!([])).await.unwrap_err());
    assert_eq!(told, [" wrong_type"]);
    let long = json!({"subscription_id": "acme-widgets", "name": "n", "metadata": {"a": "x".repeat(16_384)}});
    let told = fields(create(&house, long).await.unwrap_err());
    assert_eq!(told, ["metadata out_of_range"]);
    let past = json!({"subscription_id": "acme-widgets", "name": "n", "expires_at": "2025-11-24T16:00:00Z"});
    let told = fields(create(&house, past).await.unwrap_err());
    assert_eq!(told, ["expires_at out_of_range"]);
    assert!(house.sink.take().is_empty());
}

#[tokio::test]
async fn older_callers_name_the_subscription_or_its_organization() {
    let house = House::example().await;
    for user in ["acme-widgets", "acme"] {
        let created = create(&house, json!({"userId": user, "name": "n"}))
            .await
            .unwrap();
        assert_eq!(created.view.key.subscription.as_str(), "acme-widgets");
    }
    let unknown = create(&house, json!({"userId": "nobody", "name": "n"})).await;
    assert!(matches!(
        unknown,
        Err(ControlError::NotFound {
            kind: "subscription",
            ..
        })
    ));
    // With two subscriptions, the organization says too little.
    let second = json!({"organization": "acme", "apis": ["widgets"], "plan": "pro"});
    let control = &house.control;
    control
        .create_object(ObjectKind::Subscription, &second, "test")
        .await
        .unwrap();
    assert!(control.resolve_subscription("acme").is_err());
}

#[tokio::test]
async fn what_the_plan_does_not_grant_is_impossible() {
    let house = House::empty().await;
    house
        .apply(
            r#"
            [[api]]
            id = "a"
            upstreams = ["http://h:1"]
            path_prefix = "/"
            [[api.route]]
            path = "/x"
            scope = "x:read"
            [[plan]]
            id = "narrow"
            scopes = ["y:read"]
            keys_max = 1
            [[plan]]
            id = "any"
            [[organization]]
            id = "o"
            [[subscription]]
            id = "narrow"
            organization = "o"
            apis = ["a"]
            plan = "narrow"
            [[subscription]]
            id = "any"
            organization = "o"
            apis = ["a"]
            plan = "any"
            "#,
        )
        .await;
    let attempt = async |subscription: &str, scopes: Json| {
        let input = json!({"subscription_id": subscription, "name": "n", "scopes": scopes});
        create(&house, input).await
    };
    let impossible = |result: ControlResult<CreatedKey>| {
        assert!(
            matches!(result, Err(ControlError::Impossible(_))),
            "{result:?}"
        );
    };
    impossible(attempt("narrow", json!(["x:read"])).await);
    // A scope may be given before a route asks for it.
    attempt("any", json!(["nobody:asks"])).await.unwrap();
    let only = attempt("narrow", json!(["y:read"])).await.unwrap();
    impossible(attempt("narrow", json!(null)).await);
    // A revoked key makes room.
    house
        .control
        .revoke_key(only.view.key.id.as_str(), "test")
        .await
        .unwrap();
    attempt("narrow", json!(null)).await.unwrap();
    let cancel = json!({"state": "cancelled"});
    let control = &house.control;
    control
        .patch_object(ObjectKind::Subscription, "any", &cancel, "test")
        .await
        .unwrap();
    impossible(attempt("any", json!(null)).await);
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_nothing_else() {
    let house = House::example().await;
    let created = plain(&house).await;
    let id = created.view.key.id.as_str();
    house.sink.take();
    let patch = async |patch: Json| house.control.patch_key(id, &patch, "test").await;
    let changed = patch(json!({
        "name": "renamed",
        "state": "disabled",
        "expiresAt": "2026-01-01T00:00:00Z",
        "metadata": {"a": 1, "b": 2},
    }))
    .await
    .unwrap();
    assert_eq!(house.sink.take_lines(), ["keys 3 put"]);
    assert_eq!(changed.key.state, tollgate_model::KeyState::Disabled);
    assert_eq!(changed.key.hash, created.view.key.hash);
    let merged =
        patch(json!({"metadata": {"a": null, "c": 3}, "expires_at": null, "state": "active"}));
    let merged = merged.await.unwrap();
    assert_eq!(merged.key.metadata, r#"{"b":2,"c":3}"#);
    assert_eq!(merged.key.expires_at, None);
    assert_eq!(merged.key.name, "renamed");
    house.sink.take();
    // Sending back what was shown changes nothing and writes nothing.
    assert_eq!(patch(merged.to_json()).await.unwrap(), merged);
    assert!(house.sink.take().is_empty());
    for (wrong, told) in [
        (json!({"state": "revoked"}), "state invalid"),
        (json!({"state": "gone"}), "state invalid"),
        (json!({"name": null}), "name missing"),
        (json!({"test": true}), "test invalid"),
        (json!({"subscription_id": "x"}), "subscription_id invalid"),
        (json!({"nme": "x"}), "nme unknown"),
        (
            json!({"expires_at": "2020-01-01T00:00:00Z"}),
            "expires_at out_of_range",
        ),
    ] {
        assert_eq!(fields(patch(wrong).await.unwrap_err()), [told]);
    }
    let scoped = patch(json!({"scopes": ["nobody:asks"]})).await.unwrap();
    assert_eq!(scoped.key.scopes, Some(vec!["nobody:asks".to_owned()]));
}

#[tokio::test]
async fn an_expired_key_can_still_be_renamed() {
    let house = House::example().await;
    let input = json!({"subscription_id": "acme-widgets", "name": "n", "expires_at": "2025-11-24T17:00:00Z"});
    let created = create(&house, input).await.unwrap();
    house.clock.pass_us(2 * HOUR_US);
    let id = created.view.key.id.as_str();
    let renamed = house
        .control
        .patch_key(id, &json!({"name": "m"}), "test")
        .await;
    assert_eq!(renamed.unwrap().key.name, "m");
}

#[tokio::test]
async fn revoking_is_final_and_may_be_repeated() {
    let house = House::example().await;
    let created = plain(&house).await;
    let id = created.view.key.id.as_str();
    house.sink.take();
    house.control.revoke_key(id, "test").await.unwrap();
    assert_eq!(house.sink.take_lines(), ["keys 3 put"]);
    house.clock.pass_us(HOUR_US);
    house.control.revoke_key(id, "test").await.unwrap();
    assert!(house.sink.take().is_empty());
    let shown = house.control.get_key(id).await.unwrap();
    assert_eq!(shown.key.revoked_at, Some(BEGIN));
    let revived = house
        .control
        .patch_key(id, &json!({"state": "active"}), "test")
        .await;
    assert!(matches!(revived, Err(ControlError::Conflict(_))));
    let unknown = house.control.revoke_key("key_no", "test").await;
    assert!(matches!(
        unknown,
        Err(ControlError::NotFound { kind: "key", .. })
    ));
}

#[tokio::test]
async fn lists_are_paged_newest_first() {
    let house = House::example().await;
    for _ in 0..3 {
        plain(&house).await;
    }
    let filter = KeyFilter {
        subscription: Some(SubscriptionId::new("acme-widgets")),
    };
    let mut page = PageRequest {
        limit: 2,
        cursor: None,
    };
    let first = house.control.list_keys(&filter, &page).await.unwrap();
    page.cursor = first.next_cursor;
    let second = house.control.list_keys(&filter, &page).await.unwrap();
    let ids: Vec<_> = [first.items, second.items].concat();
    let ids: Vec<_> = ids.iter().map(|view| view.key.id.as_str()).collect();
    let mut sorted = ids.clone();
    sorted.sort_by(|a, b| b.cmp(a));
    assert_eq!(ids.len(), 3);
    assert_eq!(ids, sorted);
    page.limit = 1_001;
    assert!(house.control.list_keys(&filter, &page).await.is_err());
}
