//! What holds for access tokens.

use std::sync::Arc;

use super::*;
use crate::testing::{BEGIN, House};

const TEXT: &str = "an-operators-secret-token";

fn scopes(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn a_token_is_recognised_by_its_text_until_it_expires() {
    let house = House::empty().await;
    let tokens = house.control.tokens();
    let end = Some(BEGIN.plus_us(1_000));
    let made = tokens
        .create(Some("ci"), &scopes(&["read"]), end)
        .await
        .unwrap();
    let text = made.secret.reveal();
    assert!(text.starts_with("tg_"));
    let principal = house.control.authenticate(text).await.unwrap().unwrap();
    assert_eq!(principal.name, "ci");
    assert!(principal.has_scope("read") && !principal.has_scope("write"));
    for wrong in ["", "tg_", &text[1..], &"x".repeat(1_000)] {
        assert_eq!(tokens.authenticate(wrong).await.unwrap(), None);
    }
    house.clock.pass_us(1_000);
    assert_eq!(tokens.authenticate(text).await.unwrap(), None);
}

#[tokio::test]
async fn a_token_made_beside_a_running_server_is_accepted_at_once() {
    let house = House::empty().await;
    let beside = House::beside(Arc::clone(&house.store));
    let admin = scopes(&["admin"]);
    let made = beside.control.tokens().create(None, &admin, None).await;
    let made = made.unwrap();
    assert_eq!(made.token.name, made.token.id.as_str());
    let principal = house
        .control
        .authenticate(made.secret.reveal())
        .await
        .unwrap();
    assert!(principal.unwrap().has_scope("ingest"));
}

#[tokio::test]
async fn names_are_unique_and_scopes_are_known() {
    let house = House::empty().await;
    let tokens = house.control.tokens();
    tokens
        .create(Some("ci"), &scopes(&["read"]), None)
        .await
        .unwrap();
    let again = tokens.create(Some("ci"), &scopes(&["read"]), None).await;
    assert!(matches!(
        again,
        Err(ControlError::AlreadyExists { kind: "token", .. })
    ));
    for (name, wrong, end) in [
        ("a", scopes(&[]), None),
        ("a", scopes(&["root"]), None),
        (" ", scopes(&["read"]), None),
        ("a", scopes(&["read"]), Some(BEGIN)),
    ] {
        let refused = tokens.create(Some(name), &wrong, end).await;
        assert!(matches!(refused, Err(ControlError::Invalid(_))));
    }
    assert_eq!(tokens.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_first_token_is_set_at_every_start() {
    let house = House::empty().await;
    let tokens = house.control.tokens();
    tokens.ensure_bootstrap(TEXT).await.unwrap();
    let first = tokens.authenticate(TEXT).await.unwrap().unwrap();
    assert_eq!(first.name, "bootstrap");
    assert!(TOKEN_SCOPES.iter().all(|scope| first.has_scope(scope)));
    tokens.ensure_bootstrap(TEXT).await.unwrap();
    let other = "another-operators-secret-token";
    tokens.ensure_bootstrap(other).await.unwrap();
    assert_eq!(tokens.authenticate(TEXT).await.unwrap(), None);
    assert_eq!(
        tokens.authenticate(other).await.unwrap().unwrap().id,
        first.id
    );
    for wrong in ["too-short", "with a space in it, and long enough"] {
        let refused = tokens.ensure_bootstrap(wrong).await;
        assert!(matches!(refused, Err(ControlError::Invalid(_))));
    }
}
