//! Small values that an installation keeps about itself, such as its pepper's check value.

use async_trait::async_trait;

use crate::StoreResult;

/// Named values.
#[async_trait]
pub trait SettingsStore: Send + Sync {
    /// The value under this name.
    async fn find_setting(&self, name: &str) -> StoreResult<Option<String>>;

    /// Sets the value if there is none yet; answers with the value that holds afterwards.
    async fn set_setting_once(&self, name: &str, value: &str) -> StoreResult<String>;

    /// Sets the value where `before` is the one that holds (`None`: there is none); answers whether
    /// it did.
    async fn replace_setting(
        &self,
        name: &str,
        before: Option<&str>,
        value: &str,
    ) -> StoreResult<bool>;

    /// Answers when the database can be read and written; what readiness asks.
    async fn ping(&self) -> StoreResult<()>;
}
