//! Shows keys.

use tollgate_model::KeyId;
use tollgate_store::{KeyFilter, Page, PageRequest};

use super::KeyView;
use crate::objects::check_limit;
use crate::{Control, ControlError, ControlResult};

impl Control {
    /// One key.
    ///
    /// # Errors
    /// `NotFound`; `Store`.
    pub async fn get_key(&self, id: &str) -> ControlResult<KeyView> {
        let row = self.store().find_key(&KeyId::new(id)).await?;
        let row = row.ok_or_else(|| ControlError::not_found("key", id))?;
        Ok(KeyView::new(row, &self.catalog()))
    }

    /// One page of keys, newest first.
    ///
    /// # Errors
    /// `Invalid` for a limit that is not 1 to 1 000; `Store`.
    pub async fn list_keys(
        &self,
        filter: &KeyFilter,
        page: &PageRequest,
    ) -> ControlResult<Page<KeyView>> {
        check_limit(page)?;
        let found = self.store().list_keys(filter, page).await?;
        let catalog = self.catalog();
        let views = found
            .items
            .into_iter()
            .map(|row| KeyView::new(row, &catalog));
        Ok(Page {
            items: views.collect(),
            next_cursor: found.next_cursor,
        })
    }
}
