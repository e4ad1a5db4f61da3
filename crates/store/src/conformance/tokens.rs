//! Guarantees of [`TokenStore`](crate::TokenStore).

use tollgate_model::AccessToken;

use super::{Checked, refusal};
use crate::testing::access_token;
use crate::{Store, StoreErrorKind};

/// Also an expired one: whoever asks looks at the clock.
pub async fn a_token_survives_and_is_found_by_its_hash(store: &dyn Store) -> Checked {
    let plain = AccessToken {
        scopes: Vec::new(),
        expires_at: None,
        ..access_token("a", 1)
    };
    for token in [plain.clone(), access_token("b", 2)] {
        store.put_token(token.clone()).await?;
        assert_eq!(store.find_token(&token.hash).await?, Some(token));
    }
    let unknown = access_token("c", 3).hash;
    assert_eq!(store.find_token(&unknown).await?, None);
    assert_eq!(store.list_tokens().await?, [plain, access_token("b", 2)]);
    Ok(())
}

/// A start with another bootstrap secret ends the old one.
pub async fn a_token_is_replaced_by_name(store: &dyn Store) -> Checked {
    store.put_token(access_token("bootstrap", 1)).await?;
    let new = AccessToken {
        scopes: vec!["admin".to_owned()],
        expires_at: None,
        ..access_token("bootstrap", 2)
    };
    store.put_token(new.clone()).await?;
    store.put_token(new.clone()).await?;
    let old = access_token("bootstrap", 1).hash;
    assert_eq!(store.find_token(&old).await?, None);
    assert_eq!(store.list_tokens().await?, [new]);
    Ok(())
}

/// One secret has one name.
pub async fn a_hash_belongs_to_one_name(store: &dyn Store) -> Checked {
    store.put_token(access_token("a", 1)).await?;
    let refused = store.put_token(access_token("b", 1)).await;
    assert_eq!(refusal(&refused), Some(StoreErrorKind::AlreadyExists));
    assert_eq!(store.list_tokens().await?, [access_token("a", 1)]);
    Ok(())
}
