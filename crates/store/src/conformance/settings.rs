//! Guarantees of [`SettingsStore`](crate::SettingsStore).

use futures_util::future::join_all;

use super::Checked;
use crate::{Store, StoreResult};

/// The first value holds.
pub async fn a_setting_is_set_once(store: &dyn Store) -> Checked {
    assert_eq!(store.find_setting("pepper").await?, None);
    assert_eq!(store.set_setting_once("pepper", "first").await?, "first");
    assert_eq!(store.set_setting_once("pepper", "second").await?, "first");
    assert_eq!(store.set_setting_once("other", "").await?, "");
    assert_eq!(
        store.find_setting("pepper").await?.as_deref(),
        Some("first")
    );
    Ok(())
}

/// A value is replaced by who knows it, and of racing ones by one.
pub async fn a_setting_is_replaced_only_by_who_knows_what_holds(store: &dyn Store) -> Checked {
    assert!(!store.replace_setting("lives", Some("1"), "2").await?);
    assert_eq!(store.find_setting("lives").await?, None);
    assert!(store.replace_setting("lives", None, "1").await?);
    assert!(!store.replace_setting("lives", None, "9").await?);
    assert!(!store.replace_setting("lives", Some("0"), "9").await?);
    let values: Vec<String> = (2..10).map(|n| n.to_string()).collect();
    let racing = values
        .iter()
        .map(|value| store.replace_setting("lives", Some("1"), value));
    let replaced: StoreResult<Vec<bool>> = join_all(racing).await.into_iter().collect();
    let replaced = replaced?;
    let ones = replaced.iter().filter(|replaced| **replaced).count();
    assert_eq!(ones, 1, "{replaced:?}");
    let holds = store.find_setting("lives").await?;
    let wrote = |(value, replaced): (&String, &bool)| *replaced && Some(value) == holds.as_ref();
    assert!(values.iter().zip(&replaced).any(wrote));
    Ok(())
}

/// Everyone is told the value that holds.
pub async fn of_racing_settings_one_holds_for_all(store: &dyn Store) -> Checked {
    let values: Vec<String> = (0..8).map(|n| n.to_string()).collect();
    let racing = values
        .iter()
        .map(|value| store.set_setting_once("x", value));
    let told: StoreResult<Vec<String>> = join_all(racing).await.into_iter().collect();
    let holds = store.find_setting("x").await?;
    assert!(told?.into_iter().all(|value| Some(value) == holds));
    Ok(())
}

/// Readiness asks this.
pub async fn a_store_in_order_answers_the_ping(store: &dyn Store) -> Checked {
    Ok(store.ping().await?)
}
