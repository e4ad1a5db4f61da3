//! The pepper's check value: a store belongs to the pepper it was first used with, because no
//! key that was hashed with another would ever be recognised.

use tollgate_model::Pepper;
use tollgate_store::Store;

use crate::{ControlError, ControlResult};

const SETTING: &str = "pepper_check";

/// Compares with what is stored; the first use stores it.
///
/// # Errors
/// `PepperMismatch`; `Store`.
pub(crate) async fn check(store: &dyn Store, pepper: &Pepper) -> ControlResult<()> {
    let bytes = pepper.check_value();
    let mine: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let held = store.set_setting_once(SETTING, &mine).await?;
    if held == mine {
        Ok(())
    } else {
        Err(ControlError::PepperMismatch)
    }
}
